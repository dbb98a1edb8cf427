//! Two ranks on a bad link: each in a network namespace of its own, which packets leave slowly or never. They must end with
//! the very weights of ranks on this machine's loopback.
//!
//! No part of the tests: it needs root, and makes network devices.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::run::{built, root, say, target};

const NETWORK: &str = "10.213.7";
const PORT: &str = "29877";
const STEPS: &str = "10";

/// Trains over the link and over loopback, and compares.
pub(crate) fn test(delay: f64, loss: f64) -> Result<()> {
    if !(delay >= 0.0 && delay.is_finite() && (0.0..1.0).contains(&loss)) {
        bail!("--delay must be at least 0, and --loss at least 0 and below 1");
    }
    let program = built()?;
    let folder = target().join("link-test");
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("removing {}", folder.display()))?;
    }
    fs::create_dir_all(&folder)?;

    let (near, far) = (folder.join("near"), folder.join("far"));
    let begun = Instant::now();
    let mut launch = Command::new(&program);
    launch.args(["launch", "-n", "2", "--"]);
    let status = train(&mut launch, &near)
        .stderr(File::create(folder.join("near.log"))?)
        .status()?;
    if !status.success() {
        bail!(
            "two ranks on loopback failed: see {}",
            folder.join("near.log").display()
        );
    }
    let on_loopback = begun.elapsed().as_secs_f64();

    let link = Link::new(delay, loss)?;
    let begun = Instant::now();
    let mut ranks = Vec::new();
    for rank in [0, 1] {
        let log = folder.join(format!("far-{rank}.log"));
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &link.namespace(rank)])
            .arg(&program);
        let child = train(&mut command, &far)
            .env("RANK", rank.to_string())
            .env("WORLD_SIZE", "2")
            .env("LOCAL_RANK", "0")
            .env("LOCAL_WORLD_SIZE", "1")
            .env("MASTER_ADDR", format!("{NETWORK}.1"))
            .env("MASTER_PORT", PORT)
            .env("GLOO_SOCKET_IFNAME", link.device(rank))
            .stderr(File::create(&log)?)
            .spawn()?;
        ranks.push((child, log));
    }
    let mut failed = None;
    for (child, log) in &mut ranks {
        if !child.wait()?.success() && failed.is_none() {
            failed = Some(log.clone());
        }
    }
    let over_link = begun.elapsed().as_secs_f64();
    let counts = link.end()?;
    if let Some(log) = failed {
        bail!("over the link ({counts}) a rank failed: see {}", log.display());
    }
    for part in ["unet", "unet_target"] {
        let file = PathBuf::from(part).join("diffusion_pytorch_model.safetensors");
        let read =
            |out: &Path| fs::read(out.join(&file)).with_context(|| format!("reading {}", file.display()));
        if read(&near)? != read(&far)? {
            bail!(
                "{} differs: over the link the ranks trained another student",
                file.display()
            );
        }
    }
    say(&format!(
        "{STEPS} steps of two ranks over a link of {delay} ms each way that loses {:.1} % ({counts}): {over_link:.1} s, on \
         loopback {on_loopback:.1} s, and the same weights to the last bit",
        100.0 * loss
    ));
    Ok(())
}

fn train<'a>(command: &'a mut Command, out: &Path) -> &'a mut Command {
    command
        .current_dir(root())
        .env("OMP_NUM_THREADS", "1")
        .args([
            "train",
            "--device=cpu",
            "--resolution=32",
            "--train_batch_size=2",
            "--min_size=0",
        ])
        .args(["--pretrained_teacher_model=tests/fixtures/models/tiny-sd"])
        .args(["--train_shards_path_or_url=tests/fixtures/data/good.tar"])
        .args(["--learning_rate=1e-3", "--checkpointing_steps=4", "--zero=1"])
        .arg(format!("--max_train_steps={STEPS}"))
        .arg("--output_dir")
        .arg(out)
}

/// Two namespaces and the program that carries packets between them. They go with it.
struct Link {
    name: String,
    carrier: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Link {
    fn new(delay: f64, loss: f64) -> Result<Self> {
        let name = format!("fs{}", std::process::id() % 100_000);
        let mut carrier = Command::new("python3")
            .arg(root().join("tools/link/bad_link.py"))
            .arg(&name)
            .args([format!("--delay={delay}"), format!("--loss={loss}")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("python3 could not be started, which carries the packets")?;
        let input = carrier.stdin.take();
        let output = carrier.stdout.take().context("the carrier says nothing")?;
        let mut link = Link {
            name,
            carrier,
            input,
            output: BufReader::new(output),
        };
        if link.line()? != "ready" {
            bail!("no TUN devices can be made here: it takes root (CAP_NET_ADMIN) and /dev/net/tun");
        }
        for rank in [0, 1] {
            let (namespace, device) = (link.namespace(rank), link.device(rank));
            ip(&["netns", "add", &namespace])?;
            ip(&["link", "set", &device, "netns", &namespace])?;
            let within = |args: &[&str]| ip(&[&["-n", &namespace], args].concat());
            within(&["link", "set", "lo", "up"])?;
            let (own, other) = (
                format!("{NETWORK}.{}", rank + 1),
                format!("{NETWORK}.{}", 2 - rank),
            );
            within(&["address", "add", &own, "peer", &other, "dev", &device])?;
            within(&["link", "set", &device, "up"])?;
        }
        Ok(link)
    }

    fn namespace(&self, rank: u32) -> String {
        format!("{}-{rank}", self.name)
    }

    fn device(&self, rank: u32) -> String {
        format!("{}-{}", self.name, ["a", "b"][rank as usize % 2])
    }

    /// Ends it, and returns what it carried.
    fn end(mut self) -> Result<String> {
        drop(self.input.take());
        self.line()
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.carrier.wait();
        for rank in [0, 1] {
            let _ = Command::new("ip")
                .args(["netns", "delete", &self.namespace(rank)])
                .stderr(Stdio::null())
                .status();
        }
    }
}

fn ip(args: &[&str]) -> Result<()> {
    let output = Command::new("ip")
        .args(args)
        .output()
        .context("`ip` could not be started: install iproute2")?;
    if !output.status.success() {
        bail!(
            "this machine does not allow `ip {}`: {}; it takes root and network namespaces",
            args.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}
