//! `fewstep launch`: several ranks of one run on this machine, started, shown and ended together.
//!
//! It knows nothing of training: it starts this program again, tells each process by torchrun's variables which rank it
//! is, and looks after them.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use fewstep_train::Stop;
use rustix::process::{Pid, Signal, kill_process};

use crate::failure::{self, Usage};
use crate::ranks::LAUNCHED;
use crate::terminal;

/// Runs a training command as several ranks on this machine, which train one student together.
#[derive(Debug, clap::Args)]
#[command(rename_all = "snake_case", after_help = EXAMPLES)]
pub(crate) struct Args {
    /// How many ranks: one for each accelerator, or on CPUs for each group of cores
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    ranks: u32,
    /// When a rank dies, start all again from the last checkpoint, at most so many times
    #[arg(long, value_name = "K", default_value_t = 0)]
    max_restarts: u32,
    /// The port at which the ranks find one another; a free one unless given
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// The command of every rank, after `--`
    #[arg(last = true, required = true, value_name = "train ...")]
    command: Vec<String>,
}

const EXAMPLES: &str = "\
Examples:
  fewstep launch -n 8 -- train --config runs/sd15.toml --mixed_precision bf16
  fewstep launch -n 2 --max_restarts 3 -- train --pretrained_teacher_model models/sd15 --device cpu \\
      --output_dir runs/sd15 --train_shards_path_or_url 'data/{00000..00099}.tar' --max_train_steps 1000

A step takes --train_batch_size samples on each rank. What ranks say is labelled; rank 0 shows the progress and writes
checkpoints and results. When a rank dies, the others end within seconds. Ctrl-C and SIGTERM finish the step and write a
checkpoint; the same command again goes on from there. On several machines use torchrun, srun or mpirun:
  torchrun --no-python --nnodes 2 --nproc-per-node 8 --rdzv-backend c10d --rdzv-endpoint HOST:PORT \\
      fewstep train ...
  srun --ntasks-per-node 8 fewstep train ...";

/// Once a rank has died, the others have so long to end by themselves.
const GRACE: Duration = Duration::from_secs(12);
/// How often the ranks are looked after.
const LOOK: Duration = Duration::from_millis(50);

/// Runs all ranks to their end.
///
/// # Errors
/// A rank that fails or dies, more often than it may.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if args.command.first().map(String::as_str) != Some("train") {
        return Err(Usage::error(
            "what is launched must be a training command: `-- train ...`",
        ));
    }
    let stop = Stop::on_signals()
        .and_then(Stop::and_wishes)
        .context("Ctrl-C and other signals cannot be caught")?;
    let mut restarts = 0;
    loop {
        let ended = Ranks::start(args)?.look_after(&stop)?;
        let Some(fault) = ended.fault() else {
            return Ok(ended.code(&stop));
        };
        if ended.is_usage() {
            return Ok(ExitCode::from(2));
        }
        if stop.is_asked() || restarts == args.max_restarts {
            bail!(
                "{fault}; all ranks have ended. The same command goes on from the last checkpoint, if there is one"
            );
        }
        restarts += 1;
        terminal::note(&format!(
            "{fault}; starting all ranks again from the last checkpoint ({restarts} of {} restarts)",
            args.max_restarts
        ));
    }
}

/// The processes of one attempt.
struct Ranks {
    children: Vec<Child>,
    /// Threads that pass on what ranks say.
    readers: Vec<JoinHandle<()>>,
}

/// How they ended.
struct Ended {
    /// By rank: the status, and whether it had to be killed here.
    ranks: Vec<(ExitStatus, bool)>,
    /// The first that failed.
    first: Option<usize>,
}

impl Ranks {
    fn start(args: &Args) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("this program cannot be found to be started again")?;
        let port = match args.port {
            Some(port) => port,
            None => free_port().context("there is no free port for the ranks to meet at")?,
        };
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let threads = (cores / args.ranks as usize).max(1);
        let mut ranks = Ranks {
            children: Vec::new(),
            readers: Vec::new(),
        };
        for rank in 0..args.ranks {
            // A terminal is for the progress bar of one.
            let shows_bar = rank == 0 && terminal::is_watched();
            let mut command = Command::new(&program);
            command
                .args(&args.command)
                .env("RANK", rank.to_string())
                .env("LOCAL_RANK", rank.to_string())
                .env("WORLD_SIZE", args.ranks.to_string())
                .env("LOCAL_WORLD_SIZE", args.ranks.to_string())
                .env("MASTER_ADDR", "127.0.0.1")
                .env("MASTER_PORT", port.to_string())
                .env_remove("TORCHELASTIC_USE_AGENT_STORE")
                .env(LAUNCHED, "1")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(if shows_bar {
                    Stdio::inherit()
                } else {
                    Stdio::piped()
                })
                // Ctrl-C is passed on from here, once.
                .process_group(0);
            if std::env::var_os("OMP_NUM_THREADS").is_none() {
                command.env("OMP_NUM_THREADS", threads.to_string());
            }
            let mut child = match command.spawn() {
                Ok(child) => child,
                Err(error) => {
                    ranks.kill_all();
                    return Err(error).with_context(|| format!("rank {rank} cannot be started"));
                }
            };
            let out = child
                .stdout
                .take()
                .map(|from| label(rank, from, terminal::result));
            let err = child.stderr.take().map(|from| label(rank, from, terminal::note));
            ranks.readers.extend(out.into_iter().chain(err));
            ranks.children.push(child);
        }
        Ok(ranks)
    }

    /// Waits until all have ended: passes the wish to stop on, and ends the rest when one fails.
    fn look_after(mut self, stop: &Stop) -> anyhow::Result<Ended> {
        let mut statuses: Vec<Option<ExitStatus>> = vec![None; self.children.len()];
        let mut killed = vec![false; self.children.len()];
        let mut first: Option<(usize, Instant)> = None;
        let mut told = false;
        let mut wishes = [(Signal::USR1, false), (Signal::USR2, false)];
        while statuses.iter().any(Option::is_none) {
            for (rank, child) in self.children.iter_mut().enumerate() {
                if statuses[rank].is_none() {
                    statuses[rank] = child.try_wait()?;
                    let failed = statuses[rank].is_some_and(|status| !status.success());
                    if failed && first.is_none() {
                        first = Some((rank, Instant::now()));
                    }
                }
            }
            if stop.is_asked() && !told {
                told = true;
                self.signal(&statuses, Signal::TERM);
            }
            // Rank 0 speaks for all, and tells the others what they must know.
            wishes[0].1 |= stop.take_state_wish();
            wishes[1].1 |= stop.take_checkpoint_wish();
            for (signal, asked) in &mut wishes {
                // One that cannot answer yet would be ended by it.
                if *asked
                    && self
                        .children
                        .first()
                        .is_some_and(|rank| catches(rank.id(), *signal))
                {
                    *asked = false;
                    self.signal(&statuses[..1], *signal);
                }
            }
            if first.is_some_and(|(_, since)| since.elapsed() > GRACE) {
                for (rank, child) in self.children.iter_mut().enumerate() {
                    if statuses[rank].is_none() && !killed[rank] {
                        killed[rank] = child.kill().is_ok();
                    }
                }
            }
            thread::sleep(LOOK);
        }
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
        Ok(Ended {
            ranks: statuses.into_iter().flatten().zip(killed).collect(),
            first: first.map(|(rank, _)| rank),
        })
    }

    /// Sends a signal to those of the first ranks that still run; `statuses` are theirs.
    fn signal(&self, statuses: &[Option<ExitStatus>], signal: Signal) {
        let running = self
            .children
            .iter()
            .zip(statuses)
            .filter(|(_, status)| status.is_none());
        for (child, _) in running {
            if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
                let _ = kill_process(pid, signal);
            }
        }
    }

    fn kill_all(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Ranks {
    /// Whatever ends the launcher early ends its ranks.
    fn drop(&mut self) {
        self.kill_all();
    }
}

impl Ended {
    /// What went wrong, and with which rank; none where all ended well or were stopped.
    fn fault(&self) -> Option<String> {
        let bad = |status: &ExitStatus| !matches!(status.code(), Some(0 | 130 | 143));
        // Who was killed from outside or had to be is the cause; others only follow.
        let by_signal = |rank: &usize| self.ranks[*rank].0.signal().is_some() && !self.ranks[*rank].1;
        let hung = |rank: &usize| self.ranks[*rank].1;
        let all = || 0..self.ranks.len();
        let failed = || self.first.filter(|rank| bad(&self.ranks[*rank].0));
        let rank = all()
            .find(by_signal)
            .or_else(|| all().find(hung))
            .or_else(failed)
            .or_else(|| all().find(|rank| bad(&self.ranks[*rank].0)))?;
        let (status, killed) = self.ranks[rank];
        Some(match (status.signal(), status.code()) {
            // It may have hung since that one ended, or that one ended since it hung: what they said tells.
            _ if killed => match self
                .first
                .and_then(|first| Some((first, self.ranks[first].0.code()?)))
            {
                Some((first, code)) => {
                    format!("rank {rank} hung, and was killed; rank {first} had ended with status {code}")
                }
                None => format!("rank {rank} hung, and was killed"),
            },
            (Some(signal), _) => format!("rank {rank} was killed by signal {signal}"),
            (None, Some(code)) => format!("rank {rank} ended with status {code}"),
            (None, None) => format!("rank {rank} ended"),
        })
    }

    /// Whether the ranks refused their command line or configuration, which no restart mends.
    fn is_usage(&self) -> bool {
        let codes: Vec<Option<i32>> = self.ranks.iter().map(|(status, _)| status.code()).collect();
        codes.contains(&Some(2)) && self.ranks.iter().all(|(status, _)| status.signal().is_none())
    }

    /// The status of ranks that ended well, or were stopped.
    fn code(&self, stop: &Stop) -> ExitCode {
        let stopped = self
            .ranks
            .iter()
            .find_map(|(status, _)| status.code().filter(|code| *code > 128));
        match (stopped, stop.signal()) {
            (None, _) => ExitCode::SUCCESS,
            (Some(_), Some(signal)) => failure::stopped_by(signal),
            (Some(code), None) => failure::stopped_by(code - 128),
        }
    }
}

/// Whether a process has said what is done when this signal comes.
fn catches(pid: u32, signal: Signal) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    caught
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask >> (signal.as_raw() - 1) & 1 == 1)
}

/// Passes on what a rank says, line by line, with its number.
fn label(rank: u32, from: impl Read + Send + 'static, say: fn(&str)) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        while from.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
            say(&format!(
                "[rank {rank}] {}",
                String::from_utf8_lossy(&line).trim_end()
            ));
            line.clear();
        }
    })
}

fn free_port() -> std::io::Result<u16> {
    TcpListener::bind("127.0.0.1:0")?
        .local_addr()
        .map(|address| address.port())
}
