//! The distillation, by the program `fewstep` and with the command line that anybody could give it.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use fewstep_train::Stop;
use tch::{Device, Kind};

use super::{DemoOptions, go_on};

/// How often the program is looked after.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Distils, or goes on with it, and returns the folder of the student's UNet.
pub(super) fn distil(
    options: &DemoOptions,
    shards: &str,
    stop: &Stop,
    say: &mut dyn FnMut(&str),
) -> Result<PathBuf> {
    let out = options.out.join("student");
    let arguments = arguments(options, shards, out.clone());
    ensure!(
        options.fewstep.is_file(),
        "the program {} is missing: `cargo build --release --package fewstep` builds it, and `cargo xtask demo` \
         builds all that the demo needs",
        options.fewstep.display()
    );
    say(&format!("$ {}", shown(&arguments)));
    let child = Command::new(&options.fewstep)
        .args(&arguments)
        .spawn()
        .with_context(|| format!("{} could not be started", options.fewstep.display()))?;
    let status = wait(child, stop)?;
    go_on(stop)?;
    if !status.success() {
        bail!(
            "the distillation failed ({status}). If it says that the folder holds another run, remove {}, or \
             give another folder with --out",
            out.display()
        );
    }
    Ok(out.join("unet_target"))
}

fn arguments(options: &DemoOptions, shards: &str, out: PathBuf) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = vec!["train".into()];
    let mut flag = |name: &str, value: OsString| arguments.extend([name.into(), value]);
    flag("--config", options.recipe.clone().into());
    flag("--pretrained_teacher_model", options.teacher.clone().into());
    flag("--train_shards_path_or_url", shards.into());
    flag("--output_dir", out.into());
    let device = match options.device {
        Device::Cuda(index) => format!("cuda:{index}"),
        _ => "cpu".to_owned(),
    };
    flag("--device", device.into());
    let precision = match options.dtype {
        Kind::BFloat16 => "bf16",
        _ => "no",
    };
    flag("--mixed_precision", precision.into());
    if let Some(steps) = options.steps.or(options.size.steps()) {
        flag("--max_train_steps", steps.to_string().into());
    }
    arguments
}

/// The command as a shell takes it.
fn shown(arguments: &[OsString]) -> String {
    let quoted = arguments.iter().map(|argument| {
        let text = argument.to_string_lossy();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=".contains(c);
        if text.chars().all(plain) {
            text.into_owned()
        } else {
            format!("'{}'", text.replace('\'', r"'\''"))
        }
    });
    ["fewstep".to_owned()]
        .into_iter()
        .chain(quoted)
        .collect::<Vec<_>>()
        .join(" ")
}

/// Waits for the program, and hands a SIGTERM on to it. Ctrl-C reaches it from the terminal.
fn wait(mut child: Child, stop: &Stop) -> Result<ExitStatus> {
    const SIGTERM: i32 = 15;
    let mut told = false;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if !told && stop.signal() == Some(SIGTERM) {
            told = true;
            Command::new("kill")
                .args(["-TERM", &child.id().to_string()])
                .status()
                .context("`kill` could not be started to stop the distillation")?;
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::Size;

    #[test]
    fn the_command_can_be_pasted_into_a_shell() {
        let options = DemoOptions {
            size: Size::Quick,
            teacher: "demo/teacher".into(),
            recipe: "demo/distil.toml".into(),
            steps: None,
            out: "my out".into(),
            device: Device::Cpu,
            dtype: Kind::BFloat16,
            fewstep: "fewstep".into(),
        };
        let arguments = arguments(&options, "s/{0..3}.tar", "my out/student".into());
        assert_eq!(
            shown(&arguments),
            "fewstep train --config demo/distil.toml --pretrained_teacher_model demo/teacher \
             --train_shards_path_or_url 's/{0..3}.tar' --output_dir 'my out/student' --device cpu \
             --mixed_precision bf16 --max_train_steps 300"
        );
    }

    #[test]
    fn the_committed_configuration_is_one() {
        let mut config = fewstep_train::Config::default();
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../demo/distil.toml");
        config.read_toml(path.as_ref()).unwrap();
        assert!(!config.data.random_flip, "a mirrored picture belies its caption");
    }
}
