//! Runs that meet trouble: damaged checkpoints, disks that are full, another run in the folder.

use std::fs;
use std::path::{Path, PathBuf};

use super::common::runs::{
    StopAfter, Told, WHOLE, error, lines, losses, names, options, same_tensors, train, weights,
};
use fewstep_train::{Config, Ending, Event, Observer, Start, Stop, run};
use serde_json::Value;

#[test]
fn a_damaged_checkpoint_is_named_and_the_one_before_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let (straight, damaged) = (folder.path().join("a"), folder.path().join("b"));
    let flags = [("checkpointing_steps", "2"), ("max_train_steps", "5")];
    train(&options(&straight, &flags));

    // Stopped after step 4, whose checkpoint then loses a bit.
    let stop = Stop::new();
    let config = options(&damaged, &flags);
    run(&config, &stop, &mut StopAfter(4, &stop)).unwrap();
    let optimizer = damaged.join("checkpoint-4/optimizer.safetensors");
    let mut bytes = fs::read(&optimizer).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&optimizer, &bytes).unwrap();

    let mut named = config.clone();
    named.run.resume_from_checkpoint = Some("checkpoint-4".to_owned());
    let text = error(&named);
    assert!(
        text.contains("checkpoint-4/optimizer.safetensors does not hold"),
        "{text}"
    );

    let mut told = Told::default();
    run(&config, &Stop::new(), &mut told).unwrap();
    assert_eq!(told.resumed(), Some(2));
    let Event::DamagedCheckpoint { damage, moved_to } = &told.events[0] else {
        panic!("{:?}", told.events);
    };
    assert!(damage.contains("checkpoint-4/optimizer.safetensors"), "{damage}");
    assert_eq!(*moved_to, damaged.join("checkpoint-4.damaged"));
    assert!(moved_to.join("state.json").is_file());
    // The run ends as if nothing had happened, with one line a step.
    assert_eq!(losses(&straight), losses(&damaged));
    for file in WHOLE {
        same_tensors(&straight.join(file), &damaged.join(file));
    }
}

#[test]
fn where_no_checkpoint_is_whole_nothing_is_begun_anew() {
    let folder = tempfile::tempdir().unwrap();
    let config = options(folder.path(), &[("checkpointing_steps", "2")]);
    let stop = Stop::new();
    run(&config, &stop, &mut StopAfter(4, &stop)).unwrap();
    let before = losses(folder.path());
    fs::write(folder.path().join("checkpoint-2/state.json"), "{").unwrap();
    fs::remove_file(folder.path().join("checkpoint-4/unet/config.json")).unwrap();
    let text = error(&config);
    assert!(text.contains("checkpoint-2/state.json is not whole"), "{text}");
    assert!(
        text.contains("checkpoint-4/unet/config.json is missing"),
        "{text}"
    );
    assert_eq!(losses(folder.path()), before);
    assert!(folder.path().join("checkpoint-4").is_dir());
}

#[test]
fn what_a_crash_left_half_done_is_gone_at_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let config = options(folder.path(), &[("max_train_steps", "2")]);
    for name in ["checkpoint-1.tmp", "unet.tmp", "unet_target.old"] {
        fs::create_dir_all(folder.path().join(name).join("unet")).unwrap();
    }
    for name in ["metrics.jsonl.77.tmp", "config.toml.1234.tmp"] {
        fs::write(folder.path().join(name), "half").unwrap();
    }
    train(&config);
    let left = names(folder.path());
    assert!(
        !left
            .iter()
            .any(|name| name.ends_with(".tmp") || name.ends_with(".old")),
        "{left:?}"
    );
}

/// Tries to start the same run while it is at work.
struct Intruder<'a>(&'a Config, Vec<String>);

impl Observer for Intruder<'_> {
    fn started(&mut self, _: &Start) {
        self.1.push(error(self.0));
    }
}

#[test]
fn a_second_run_in_the_folder_is_refused_and_told_of_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let config = options(folder.path(), &[("max_train_steps", "1")]);
    let mut intruder = Intruder(&config, Vec::new());
    let report = run(&config, &Stop::new(), &mut intruder).unwrap();
    assert_eq!(report.ending, Ending::Finished);
    let [text] = &intruder.1[..] else {
        panic!("{:?}", intruder.1)
    };
    let pid = format!("another run: process {} on ", std::process::id());
    assert!(text.contains(&pid) && text.contains(", since 20"), "{text}");
}

#[test]
fn a_run_without_checkpoints_is_known_to_be_finished() {
    let folder = tempfile::tempdir().unwrap();
    let flags = [("max_train_steps", "2"), ("checkpointing_steps", "0")];
    let config = options(folder.path(), &flags);
    train(&config);
    let (before, student) = (losses(folder.path()), weights(folder.path(), "unet"));
    let written = fs::metadata(&student).unwrap().modified().unwrap();
    let mut told = Told::default();
    let again = run(&config, &Stop::new(), &mut told).unwrap();
    assert_eq!(
        (again.ending, again.steps, again.samples),
        (Ending::FinishedBefore, 2, 8)
    );
    assert!(told.started.is_none());
    assert_eq!(fs::metadata(&student).unwrap().modified().unwrap(), written);

    // Another run, or a longer one, would have to begin anew over the results.
    let other = options(folder.path(), &[flags[0], flags[1], ("seed", "12")]);
    let text = error(&other);
    assert!(text.contains("seed is 11 there and 12 here"), "{text}");
    let longer = options(folder.path(), &[("max_train_steps", "3"), flags[1]]);
    assert!(error(&longer).contains("finished after 2 steps and left no checkpoint"));
    assert_eq!(losses(folder.path()), before);

    // Whoever removes the results wants them again.
    fs::remove_file(&student).unwrap();
    assert_eq!(train(&config).ending, Ending::Finished);
}

/// Something in the way of a checkpoint's folder, that no user can remove or write through: a file where
/// `checkpoint-N.tmp` would be made.
fn block(output_dir: &Path, step: u64) -> PathBuf {
    fs::create_dir_all(output_dir).unwrap();
    let path = output_dir.join(format!("checkpoint-{step}.tmp"));
    fs::write(&path, "").unwrap();
    path
}

/// Blocks the checkpoint of step 2 once the run has started.
struct Blocker<'a>(&'a Path, Told);

impl Observer for Blocker<'_> {
    fn started(&mut self, _: &Start) {
        block(self.0, 2);
    }

    fn event(&mut self, event: &Event) {
        self.1.event(event);
    }
}

#[test]
fn a_save_that_fails_ends_the_run_or_not_as_the_options_say() {
    for (word, goes_on) in [("stop", false), ("continue", true)] {
        let folder = tempfile::tempdir().unwrap();
        let flags = [
            ("on_save_error", word),
            ("checkpointing_steps", "1"),
            // The save of step 2 goes on beside step 3, whose own waits for it.
            ("max_train_steps", "4"),
        ];
        let config = options(folder.path(), &flags);
        let mut blocker = Blocker(folder.path(), Told::default());
        let outcome = run(&config, &Stop::new(), &mut blocker);
        let failed = blocker.1.events.iter().any(|event| {
            matches!(event, Event::NotSaved { step: 2, reason } if reason.contains("checkpoint-2.tmp"))
        });
        // Where the run ends with it, the error tells of it.
        assert_eq!(failed, goes_on, "{:?}", blocker.1.events);
        assert!(folder.path().join("checkpoint-1/state.json").is_file());
        if goes_on {
            assert_eq!(outcome.unwrap().ending, Ending::Finished);
            assert!(folder.path().join("checkpoint-4/state.json").is_file());
            let event = |line: &&Value| line["event"] == "checkpoint_failed";
            assert_eq!(lines(folder.path()).iter().filter(event).count(), 1);
        } else {
            let text = outcome.unwrap_err().to_string();
            assert!(
                text.contains("the checkpoint of step 2 could not be saved"),
                "{text}"
            );
            assert!(
                text.contains("checkpoint-1 is the last checkpoint that is whole"),
                "{text}"
            );
            // Once there is room the run goes on from there.
            fs::remove_file(folder.path().join("checkpoint-2.tmp")).unwrap();
            let mut told = Told::default();
            run(&config, &Stop::new(), &mut told).unwrap();
            assert_eq!(told.resumed(), Some(1));
        }
    }
}

#[test]
fn a_last_checkpoint_that_fails_is_an_error_but_the_results_are_there() {
    let folder = tempfile::tempdir().unwrap();
    let flags = [("on_save_error", "continue"), ("max_train_steps", "2")];
    let config = options(folder.path(), &flags);
    let mut blocker = Blocker(folder.path(), Told::default());
    let text = run(&config, &Stop::new(), &mut blocker).unwrap_err().to_string();
    assert!(
        text.contains("the checkpoint of step 2 could not be saved"),
        "{text}"
    );
    assert!(text.contains("are complete all the same"), "{text}");
    for file in WHOLE {
        assert!(folder.path().join(file).is_file());
    }
}
