//! `fewstep launch`: ranks that are started together, and end together when one of them is killed or hangs.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::common::{Ran, command, fewstep};
use super::train::{line, losses, same_weights};

/// Longer than any start or step takes, however busy the machine.
const PATIENCE: Duration = Duration::from_secs(300);

/// Two ranks of a run in `out`.
fn two(flags: &[&str], out: &Path, of_train: &[&str]) -> Vec<String> {
    let mut words = vec!["launch".to_owned(), "-n".to_owned(), "2".to_owned()];
    words.extend(flags.iter().map(|flag| (*flag).to_owned()));
    words.push("--".to_owned());
    words.extend(line(out, of_train));
    words
}

fn start(words: Vec<String>) -> Child {
    let mut launch = command(words);
    launch
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Waits until something is there.
fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "no {what}");
        sleep(Duration::from_millis(20));
    }
}

/// The process that is this rank of the launcher's.
fn rank_of(launcher: u32, rank: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{launcher}/task/{launcher}/children")).ok()?;
    children.split_whitespace().find_map(|pid| {
        let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
        let wanted = format!("RANK={rank}");
        let is = environment
            .split(|byte| *byte == 0)
            .any(|word| word == wanted.as_bytes());
        is.then(|| pid.parse().ok())?
    })
}

fn signal(pid: u32, signal: &str) {
    let sent = Command::new("kill")
        .args([signal, &pid.to_string()])
        .status()
        .unwrap();
    assert!(sent.success());
}

fn steps(out: &Path) -> usize {
    match out.join("metrics.jsonl").exists() {
        true => losses(out).len(),
        false => 0,
    }
}

/// Once a run has done some steps: its rank's process.
fn under_way(launch: &Child, out: &Path, rank: u32) -> u32 {
    wait_for("step", || (steps(out) >= 2).then_some(()));
    wait_for("rank", || rank_of(launch.id(), rank))
}

#[test]
fn two_ranks_train_one_student_and_rank_0_speaks_for_both() {
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("run");
    let ran = fewstep(two(&[], &out, &["--max_train_steps=4"])).ok();
    for said in [
        "[rank 0] training 0.1 M parameters for 4 steps on Cpu, with 2 ranks",
        "[rank 0] done after 4 steps and 16 samples",
    ] {
        assert!(ran.stderr.contains(said), "{}", ran.stderr);
    }
    assert!(!ran.stderr.contains("[rank 1]"), "{}", ran.stderr);
    assert_eq!(losses(&out).len(), 4);
    let again = fewstep(two(&[], &out, &["--max_train_steps=4"])).ok();
    assert!(again.stderr.contains("finished before"), "{}", again.stderr);
}

#[test]
fn a_rank_that_is_killed_ends_all_and_restarts_give_the_undisturbed_run() {
    let folder = TempDir::new().unwrap();
    let (whole, killed) = (folder.path().join("whole"), folder.path().join("killed"));
    let flags = [
        "--max_train_steps=40",
        "--checkpointing_steps=1",
        "--checkpoints_total_limit=2",
        // Each rank has a half of the state, which must come back.
        "--mixed_precision=bf16",
        "--zero=1",
    ];
    fewstep(two(&[], &whole, &flags)).ok();
    for rank in [1, 0] {
        let launch = start(two(&[], &killed, &flags));
        let before = steps(&killed);
        wait_for("step", || (steps(&killed) > before.min(35)).then_some(()));
        signal(wait_for("rank", || rank_of(launch.id(), rank)), "-KILL");
        let ran: Ran = launch.wait_with_output().unwrap().into();
        let error = ran.failed(1);
        assert!(
            error.contains(&format!(
                "error: rank {rank} was killed by signal 9; all ranks have ended"
            )),
            "{error}"
        );
    }
    let launch = start(two(&["--max-restarts", "1"], &killed, &flags));
    signal(wait_for("rank", || rank_of(launch.id(), 1)), "-KILL");
    let ran: Ran = launch.wait_with_output().unwrap().into();
    let ran = ran.ok();
    assert!(
        ran.stderr
            .contains("rank 1 was killed by signal 9; starting all ranks again"),
        "{}",
        ran.stderr
    );
    assert_eq!(losses(&whole), losses(&killed));
    same_weights(&whole, &killed, "unet");
    same_weights(&whole, &killed, "unet_target");
}

#[test]
fn a_rank_that_hangs_is_found_and_killed() {
    for rank in [1, 0] {
        let folder = TempDir::new().unwrap();
        let out = folder.path().join("run");
        let flags = ["--max_train_steps=1000000", "--rank_timeout=5"];
        let launch = start(two(&[], &out, &flags));
        signal(under_way(&launch, &out, rank), "-STOP");
        let ran: Ran = launch.wait_with_output().unwrap().into();
        let error = ran.failed(1);
        assert!(
            error.contains(&format!("error: rank {rank} hung, and was killed")),
            "{error}"
        );
        let who = match rank {
            1 => "[rank 0] error: rank 1 is gone or hangs",
            _ => "[rank 1] error: ",
        };
        assert!(error.contains(who), "{error}");
    }
}

#[test]
fn a_signal_to_the_launcher_stops_all_ranks_with_a_checkpoint() {
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("run");
    let launch = start(two(&[], &out, &["--max_train_steps=1000000"]));
    under_way(&launch, &out, 1);
    signal(launch.id(), "-TERM");
    let ran: Ran = launch.wait_with_output().unwrap().into();
    let said = ran.failed(143);
    assert!(said.contains("[rank 0] stopped after"), "{said}");
    let checkpoints = fs::read_dir(&out).unwrap().filter(|entry| {
        let name = entry.as_ref().unwrap().file_name();
        name.to_str().unwrap().starts_with("checkpoint-")
    });
    assert!(checkpoints.count() > 0);
}

/// The checkpoints of a run that are complete.
fn checkpoints(out: &Path) -> usize {
    let names = fs::read_dir(out).unwrap().map(|entry| entry.unwrap().file_name());
    let is_complete = |name: &str| {
        let step = name.strip_prefix("checkpoint-");
        step.is_some_and(|step| step.parse::<u64>().is_ok())
    };
    names
        .filter(|name| name.to_str().is_some_and(is_complete))
        .count()
}

#[test]
fn a_run_says_how_it_stands_and_saves_when_it_is_asked() {
    for ranks in [1, 2] {
        let folder = TempDir::new().unwrap();
        let out = folder.path().join("run");
        let flags = ["--max_train_steps=1000000", "--checkpointing_steps=0"];
        let run = start(match ranks {
            1 => line(&out, &flags),
            _ => two(&[], &out, &flags),
        });
        wait_for("step", || (steps(&out) >= 2).then_some(()));
        signal(run.id(), "-USR1");
        signal(run.id(), "-USR2");
        wait_for("checkpoint", || (checkpoints(&out) == 1).then_some(()));
        if ranks == 2 {
            // Any rank may be asked, and all know it.
            signal(wait_for("rank", || rank_of(run.id(), 1)), "-USR2");
            wait_for("checkpoint", || (checkpoints(&out) == 2).then_some(()));
        }
        let before = steps(&out);
        wait_for("step", || (steps(&out) > before).then_some(()));
        signal(run.id(), "-TERM");
        let ran: Ran = run.wait_with_output().unwrap().into();
        let said = ran.failed(143);
        let states = said
            .lines()
            .filter(|line| line.contains("at step ") && line.contains("samples/s"));
        assert_eq!(states.count(), 1, "{said}");
    }
}

#[test]
fn ranks_end_when_their_launcher_is_killed() {
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("run");
    let mut launch = start(two(&[], &out, &["--max_train_steps=1000000"]));
    let ranks = [0, 1].map(|rank| under_way(&launch, &out, rank));
    launch.kill().unwrap();
    launch.wait().unwrap();
    for pid in ranks {
        let path = format!("/proc/{pid}/stat");
        wait_for("end of a rank", || match fs::read_to_string(&path) {
            // One that nobody waits for stays as a zombie.
            Ok(stat) => stat
                .rsplit(')')
                .next()
                .unwrap()
                .trim_start()
                .starts_with('Z')
                .then_some(()),
            Err(_) => Some(()),
        });
    }
}

#[test]
fn what_is_wrong_with_the_command_line_is_said() {
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("run");
    let error = fewstep(two(&["--max-restarts=3"], &out, &["--max_train_steps=0"])).failed(2);
    assert!(error.contains("[rank 0] error: --max_train_steps"), "{error}");
    let error = fewstep(["launch", "-n", "2", "--", "generate"]).failed(2);
    assert!(error.contains("must be a training command"), "{error}");
    let ran = command(line(&out, &["--max_train_steps=1"]))
        .env("RANK", "1")
        .output()
        .unwrap();
    let error = Ran::from(ran).failed(2);
    assert!(error.contains("WORLD_SIZE is not set"), "{error}");
}
