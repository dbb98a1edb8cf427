//! Runs that are killed outright (SIGKILL) at drawn moments and started again: each ends with the bits of the
//! undisturbed run, and at no moment is there a half checkpoint under a whole one's name.
//!
//! `cargo xtask kill-test` runs the long form. No moment is a number of seconds: a kill comes a drawn number of
//! steps, and then a drawn part of a step, after the run has shown life.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fewstep_draw::{Purpose, Stream};
use fewstep_models::weights::read_tensors;
use fewstep_train::checkpoint::{self, Checked};
use serde_json::Value;
use tempfile::TempDir;

use super::common::{Ran, command, fewstep, fixture, word};
use super::train::{line, losses, same_weights, start_long};

/// Longer than any start or step takes, however busy the machine.
const PATIENCE: Duration = Duration::from_secs(300);

#[test]
fn runs_that_are_killed_end_as_one_that_was_not() {
    kill_test(5, 1);
}

/// FEWSTEP_KILLS says how often.
#[test]
#[ignore = "takes minutes: cargo xtask kill-test"]
fn runs_that_are_killed_very_often_end_as_one_that_was_not() {
    let times = std::env::var("FEWSTEP_KILLS").map_or(100, |times| times.parse().unwrap());
    println!("{}", kill_test(times, 2));
}

/// A model, a run that nobody disturbs, and one that is killed again and again.
struct Scene {
    folder: TempDir,
    model: PathBuf,
    steps: u64,
    /// From the start of the program to its first step.
    start: Duration,
    /// One step.
    step: Duration,
    draws: Stream,
}

/// What came of the kills.
#[derive(Default)]
struct Tally {
    before_first_step: u64,
    between: u64,
    while_saving: u64,
    at_the_end: u64,
    too_late: u64,
    resumed: u64,
}

/// Kills a run `times` times on its way, and a fifth as often at its end.
fn kill_test(times: u64, seed: u64) -> String {
    let mut scene = Scene::set(times, seed);
    let (whole, killed) = (scene.out("whole"), scene.out("killed"));
    let mut tally = Tally::default();
    for _ in 0..times {
        scene.kill_on_the_way(&killed, &mut tally);
    }
    for _ in 0..times.div_ceil(5) {
        scene.kill_at_the_end(&killed, &mut tally);
    }
    assert!(
        tally.between + tally.while_saving > 0,
        "every kill missed the run"
    );
    let ran = fewstep(scene.line(&killed)).ok();
    assert!(ran.stderr.contains("done after"), "{}", ran.stderr);

    let last = format!("checkpoint-{}", scene.steps);
    for part in [
        "unet",
        "unet_target",
        &format!("{last}/unet"),
        &format!("{last}/unet_target"),
    ] {
        same_weights(&whole, &killed, part);
    }
    let state = |out: &Path| read_tensors(&out.join(&last).join("optimizer.safetensors")).unwrap();
    assert_eq!(state(&whole), state(&killed));
    // One line a step, each with the undisturbed run's loss.
    assert_eq!(losses(&whole), losses(&killed));
    assert_eq!(names(&whole), names(&killed));
    format!(
        "{} kills: {} before the first step, {} between saves, {} while a checkpoint was written, {} at the end \
         ({} more came too late); {} starts went on from a checkpoint",
        tally.before_first_step + tally.between + tally.while_saving + tally.at_the_end,
        tally.before_first_step,
        tally.between,
        tally.while_saving,
        tally.at_the_end,
        tally.too_late,
        tally.resumed,
    )
}

impl Scene {
    fn set(times: u64, seed: u64) -> Self {
        let folder = TempDir::new().unwrap();
        let model = folder.path().join("model");
        let init = [
            "debug",
            "init",
            "--arch",
            "tiny-sd",
            "--seed",
            "5",
            "--output",
            &word(&model),
        ];
        fewstep(init.map(str::to_owned)).ok();
        let mut scene = Scene {
            folder,
            model,
            // A life is seldom longer than six steps.
            steps: 6 * times + 2,
            start: Duration::ZERO,
            step: Duration::ZERO,
            draws: Stream::new(seed, Purpose::SampleOrder, 0),
        };
        let (out, began) = (scene.out("whole"), Instant::now());
        let mut child = scene.begin(&out);
        wait_for(&mut child, &out, 0.0, 1);
        scene.start = began.elapsed();
        let ended = Ran::from(child.wait_with_output().unwrap());
        ended.ok();
        scene.step = (began.elapsed() - scene.start) / u32::try_from(scene.steps).unwrap();
        scene
    }

    fn out(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A checkpoint at every step, of which two are kept.
    fn line(&self, out: &Path) -> Vec<String> {
        let model = format!("--pretrained_teacher_model={}", word(&self.model));
        let shards = format!("--train_shards_path_or_url={}", word(fixture("data/good.tar")));
        let steps = format!("--max_train_steps={}", self.steps);
        let flags = [
            &model,
            &shards,
            &steps,
            "--checkpointing_steps=1",
            "--checkpoints_total_limit=2",
            "--dataloader_num_workers=1",
        ];
        line(out, &flags)
    }

    fn begin(&self, out: &Path) -> Child {
        command(self.line(out)).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// A part of `time`, from none to half as long again.
    fn part_of(&mut self, time: Duration) -> Duration {
        time * self.draws.below(1500) as u32 / 1000
    }

    /// Starts the run, kills it somewhere within its next steps, and looks at what is there.
    fn kill_on_the_way(&mut self, out: &Path, tally: &mut Tally) {
        let (from, since) = (going_on_from(out), now());
        let mut child = self.begin(out);
        let steps = self.draws.below(4);
        let moment = match steps {
            0 => self.part_of(self.start),
            _ => {
                wait_for(&mut child, out, since, from + steps);
                self.part_of(self.step)
            }
        };
        sleep(moment);
        let Some(said) = kill(child) else {
            tally.too_late += 1;
            return;
        };
        let resumed = said.contains(&format!("going on after step {from},"));
        assert!(resumed || steps == 0 || from == 0, "{said}");
        tally.resumed += u64::from(resumed);
        if fs::read_dir(out).is_ok_and(|mut all| all.any(|one| is_unfinished(&one.unwrap().path(), since))) {
            tally.while_saving += 1;
        } else if done(out, since) == 0 {
            tally.before_first_step += 1;
        } else {
            tally.between += 1;
        }
        nothing_half_is_taken_for_whole(out);
    }

    /// Lets the run come to its last step, and kills it while it writes what it leaves.
    fn kill_at_the_end(&mut self, out: &Path, tally: &mut Tally) {
        let mut child = self.begin(out);
        wait_for(&mut child, out, 0.0, self.steps);
        sleep(self.part_of(self.step));
        match kill(child) {
            Some(_) => tally.at_the_end += 1,
            None => tally.too_late += 1,
        }
        nothing_half_is_taken_for_whole(out);
    }
}

/// Waits until metrics.jsonl tells of a step `step` that was done since then, or the run has ended.
fn wait_for(child: &mut Child, out: &Path, since: f64, step: u64) {
    let began = Instant::now();
    while done(out, since) < step && child.try_wait().unwrap().is_none() {
        assert!(began.elapsed() < PATIENCE, "step {step} does not come");
        sleep(Duration::from_millis(2));
    }
}

/// Kills the run, and returns what it had said; nothing if it had come to its end before.
fn kill(mut child: Child) -> Option<String> {
    child.kill().unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    match output.status.signal() {
        Some(9) => Some(said),
        _ => {
            assert!(output.status.success(), "{said}");
            None
        }
    }
}

/// Seconds since 1970, as metrics.jsonl has them.
fn now() -> f64 {
    seconds(SystemTime::now())
}

fn seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

/// The last step of which metrics.jsonl has a whole line that is not older than `since`: what a run that was killed
/// has written after its last checkpoint stands there until the next one goes on.
fn done(out: &Path, since: f64) -> u64 {
    let text = fs::read_to_string(out.join("metrics.jsonl")).unwrap_or_default();
    let step = |line: &str| {
        let line: Value = serde_json::from_str(line).ok()?;
        let is_new = line.get("loss").is_some() && line["time"].as_f64()? >= since;
        line["step"].as_u64().filter(|_| is_new)
    };
    text.lines().filter_map(step).next_back().unwrap_or(0)
}

/// The step from which the run will go on.
fn going_on_from(out: &Path) -> u64 {
    let all = checkpoint::list(out).unwrap();
    all.last().map_or(0, |(step, _)| *step)
}

/// Whether it is something half done that is not older than `since`.
fn is_unfinished(path: &Path, since: f64) -> bool {
    let changed = fs::metadata(path).and_then(|metadata| metadata.modified());
    let is_new = changed.is_ok_and(|time| seconds(time) >= since);
    is_new
        && path
            .extension()
            .is_some_and(|ending| ending == "tmp" || ending == "old")
}

/// Every folder that is named as a checkpoint or as results holds all that it should.
fn nothing_half_is_taken_for_whole(out: &Path) {
    for (step, checkpoint) in checkpoint::list(out).unwrap() {
        let Checked::Whole(state) = checkpoint.check().unwrap() else {
            panic!("{checkpoint:?} is damaged");
        };
        assert_eq!(state.step, step);
    }
    for part in ["unet", "unet_target"].map(|part| out.join(part)) {
        if part.exists() {
            read_tensors(&part.join("diffusion_pytorch_model.safetensors")).unwrap();
            assert!(part.join("config.json").is_file());
        }
    }
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_second_run_is_told_who_has_the_folder_until_that_one_is_killed() {
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("run");
    let first = start_long(&out);
    let text = fewstep(line(&out, &["--max_train_steps=1000000"])).failed(1);
    assert!(text.contains(&format!("process {} on ", first.id())), "{text}");
    assert!(text.contains("choose another --output_dir"), "{text}");
    kill(first).unwrap();
    fewstep(line(&out, &["--max_train_steps=1"])).ok();
}

/// The run with a limit on the size of its files, which a disk that is full resembles: writing fails in the middle.
fn limited(arguments: Vec<String>) -> Ran {
    // The limit is in blocks of 512 or 1024 bytes, as the shell likes: the optimiser's state is above both.
    let script = r#"trap "" XFSZ; ulimit -f 600; exec "$@""#;
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", script, "sh", env!("CARGO_BIN_EXE_fewstep")]);
    shell.args(arguments).env("OMP_NUM_THREADS", "1");
    shell.output().unwrap().into()
}

#[test]
fn a_file_that_cannot_be_written_keeps_the_last_good_checkpoint() {
    let folder = TempDir::new().unwrap();
    let (whole, full) = (folder.path().join("whole"), folder.path().join("full"));
    let flags = ["--max_train_steps=4", "--checkpointing_steps=1"];
    fewstep(line(&whole, &flags)).ok();
    fewstep(line(&full, &["--max_train_steps=1", flags[1]])).ok();
    for (word, said) in [
        (
            "--on_save_error=stop",
            "checkpoint-1 is the last checkpoint that is whole; make room",
        ),
        (
            "--on_save_error=continue",
            "could not be saved, and the run goes on",
        ),
    ] {
        let text = limited(line(&full, &[flags[0], flags[1], word])).failed(1);
        assert!(text.contains(said), "{text}");
        assert!(text.contains("File too large"), "{text}");
        nothing_half_is_taken_for_whole(&full);
        assert_eq!(going_on_from(&full), 1);
        assert!(
            !names(&full).iter().any(|name| name.ends_with(".tmp")),
            "{:?}",
            names(&full)
        );
    }
    let ran = fewstep(line(&full, &flags)).ok();
    assert!(ran.stderr.contains("going on after step 1"), "{}", ran.stderr);
    same_weights(&whole, &full, "unet");
    assert_eq!(losses(&whole), losses(&full));
}
