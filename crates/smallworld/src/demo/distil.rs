//! The distillation, by the program `fewstep` and with the command line that anybody could give it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use fewstep_train::Stop;
use tch::{Device, Kind};

use super::student::{Distilled, Student};
use super::{DemoOptions, go_on};

/// How often the program is looked after.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Distils a student by this recipe, or goes on with it.
pub(super) fn distil(
    options: &DemoOptions,
    (student, recipe): (Student, &Path),
    shards: &str,
    stop: &Stop,
    say: &mut dyn FnMut(&str),
) -> Result<Distilled> {
    let run = options.out.join(student.folder());
    let arguments = arguments(options, recipe, shards, run.clone());
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
            run.display()
        );
    }
    let distilled = Distilled { student, run };
    ensure!(
        distilled.weights().exists(),
        "{} did not make {}: its `method` must be {}",
        recipe.display(),
        distilled.weights().display(),
        match student {
            Student::Whole => "full",
            Student::Lora => "lora",
        }
    );
    Ok(distilled)
}

fn arguments(options: &DemoOptions, recipe: &Path, shards: &str, out: PathBuf) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = vec!["train".into()];
    let mut flag = |name: &str, value: OsString| arguments.extend([name.into(), value]);
    flag("--config", recipe.into());
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
    use fewstep_train::config::{Config, Method};

    use super::*;
    use crate::demo::Size;

    #[test]
    fn the_commands_can_be_pasted_into_a_shell() {
        let options = DemoOptions {
            size: Size::Quick,
            teacher: "demo/teacher".into(),
            recipe: "demo/distil.toml".into(),
            lora: Some("demo/distil-lora.toml".into()),
            steps: None,
            out: "my out".into(),
            device: Device::Cpu,
            dtype: Kind::BFloat16,
            fewstep: "fewstep".into(),
        };
        let command = |(student, recipe): (Student, &Path)| {
            let out = options.out.join(student.folder());
            shown(&arguments(&options, recipe, "s/{0..3}.tar", out))
        };
        let commands: Vec<String> = options.students().map(command).collect();
        let rest = "--device cpu --mixed_precision bf16 --max_train_steps 300";
        assert_eq!(
            commands,
            [
                format!(
                    "fewstep train --config demo/distil.toml --pretrained_teacher_model demo/teacher \
                     --train_shards_path_or_url 's/{{0..3}}.tar' --output_dir 'my out/student' {rest}"
                ),
                format!(
                    "fewstep train --config demo/distil-lora.toml --pretrained_teacher_model demo/teacher \
                     --train_shards_path_or_url 's/{{0..3}}.tar' --output_dir 'my out/lora' {rest}"
                ),
            ]
        );
    }

    #[test]
    fn the_committed_configurations_are_of_both_methods() {
        for (name, method) in [("distil.toml", Method::Full), ("distil-lora.toml", Method::Lora)] {
            let mut config = Config::default();
            let path = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("../../demo")
                .join(name);
            config.read_toml(&path).unwrap();
            assert!(!config.data.random_flip, "a mirrored picture belies its caption");
            assert_eq!(config.method(), method);
        }
    }
}
