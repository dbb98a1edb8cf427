//! Ranks that train together, as threads of the test: how they begin, end, go on, and fail.

use std::net::TcpListener;
use std::path::Path;
use std::thread;
use std::time::Duration;

use fewstep_train::ranks::Server;
use fewstep_train::{Config, Ending, Event, Ranks, RanksError, Report, Seat, Stop, TrainError, run_as};

use super::common::runs::{
    ADAPTERS, AVERAGED_ADAPTERS, StopAfter, Told, WHOLE, losses, options, poisoned, same_tensors, train,
};
use super::common::{fixtures, json};

const LONG: Duration = Duration::from_secs(60);

/// A port that is free.
fn port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn seat(rank: u32, ranks: u32, port: u16) -> Seat {
    Seat {
        rank,
        ranks,
        local_rank: rank,
        local_ranks: ranks,
        host: "127.0.0.1".to_owned(),
        port,
        server: Server::Rank0,
        attempt: String::new(),
    }
}

/// What became of each rank, and what each was told.
pub(super) type Outcomes = Vec<(Result<Report, TrainError>, Told)>;

/// Runs these ranks, with options for each.
pub(super) fn run_ranks(configs: Vec<Config>) -> Outcomes {
    run_with(configs, |_, ranks, config| {
        let mut told = Told::default();
        let report = run_as(ranks, config, &Stop::new(), &mut told);
        (report, told)
    })
}

/// Runs these ranks, each by `run`, which is told its number.
fn run_with<T: Send + 'static>(configs: Vec<Config>, run: fn(u32, Ranks, &Config) -> T) -> Vec<T> {
    let (port, count) = (port(), configs.len() as u32);
    let threads: Vec<_> = (0..count)
        .zip(configs)
        .map(|(rank, config)| {
            thread::spawn(move || {
                let ranks = Ranks::meet(seat(rank, count, port), LONG).unwrap();
                run(rank, ranks, &config)
            })
        })
        .collect();
    threads.into_iter().map(|thread| thread.join().unwrap()).collect()
}

/// Two ranks on the good shard, four samples a step together.
fn two(out: &Path, flags: &[(&str, &str)]) -> Vec<Config> {
    let mut all = vec![("train_batch_size", "2")];
    all.extend(flags);
    vec![options(out, &all); 2]
}

#[test]
fn one_that_is_asked_to_stop_stops_all_and_they_go_on_as_if_nothing_had_been() {
    let folder = tempfile::tempdir().unwrap();
    let (straight, broken) = (folder.path().join("a"), folder.path().join("b"));
    for (outcome, _) in run_ranks(two(&straight, &[])) {
        assert_eq!(outcome.unwrap().ending, Ending::Finished);
    }
    // All ranks are told of a step; only the second is asked to stop.
    let endings = run_with(two(&broken, &[]), |rank, ranks, config| {
        let stop = Stop::new();
        match rank {
            1 => run_as(ranks, config, &stop, &mut StopAfter(2, &stop)),
            _ => run_as(ranks, config, &stop, &mut ()),
        }
        .unwrap()
    });
    assert_eq!(endings[0].steps, endings[1].steps);
    let step = endings[0].steps;
    assert!((2..6).contains(&step), "{step}");
    for report in endings {
        let checkpoint = broken.join(format!("checkpoint-{step}"));
        assert_eq!(report.ending, Ending::Interrupted { checkpoint });
    }
    for (outcome, told) in run_ranks(two(&broken, &[])) {
        assert_eq!(outcome.unwrap().ending, Ending::Finished);
        assert!(
            !told
                .events
                .iter()
                .any(|event| matches!(event, Event::DataMoved(_)))
        );
    }
    assert_eq!(losses(&straight), losses(&broken));
    let files = ["checkpoint-6/optimizer.safetensors", WHOLE[0], WHOLE[1]];
    for file in files {
        same_tensors(&straight.join(file), &broken.join(file));
    }
    let state = |folder: &Path| json(&folder.join("checkpoint-6/state.json"))["state"].clone();
    assert_eq!(state(&straight), state(&broken));
    // And once more, when all is done.
    for (outcome, _) in run_ranks(two(&broken, &[])) {
        let report = outcome.unwrap();
        assert_eq!((report.ending, report.samples), (Ending::FinishedBefore, 24));
    }
}

#[test]
fn another_number_of_ranks_goes_on_with_the_next_epoch() {
    let folder = tempfile::tempdir().unwrap();
    let flags = |steps| [("max_train_steps", steps), ("train_batch_size", "2")];
    for (ranks, steps, samples, moved) in [
        (2, "2", 8, None),
        (3, "4", 20, Some("the number of ranks was 2 and is 3")),
        (1, "6", 24, Some("the number of ranks was 3 and is 1")),
    ] {
        let configs = vec![options(folder.path(), &flags(steps)); ranks];
        let outcomes = match ranks {
            1 => {
                let mut told = Told::default();
                vec![(fewstep_train::run(&configs[0], &Stop::new(), &mut told), told)]
            }
            _ => run_ranks(configs),
        };
        for (outcome, told) in outcomes {
            assert_eq!(outcome.unwrap().samples, samples);
            let said = told.events.iter().find_map(|event| match event {
                Event::DataMoved(resumed) => Some(resumed.to_string()),
                _ => None,
            });
            match moved {
                None => assert_eq!(said, None),
                Some(moved) => {
                    let said = said.unwrap();
                    assert!(said.contains(moved) && said.contains("next epoch"), "{said}");
                }
            }
        }
    }
}

/// Runs so many ranks to their end.
fn finish(ranks: usize, config: &Config) {
    match ranks {
        1 => assert_eq!(train(config).ending, Ending::Finished),
        _ => {
            for (outcome, _) in run_ranks(vec![config.clone(); ranks]) {
                assert_eq!(outcome.unwrap().ending, Ending::Finished);
            }
        }
    }
}

/// Runs whose ranks have shares of the state leave the very bits of runs whose ranks have it whole, and go on from one
/// another's checkpoints, whatever the number of ranks.
fn shares_change_nothing(ranks: usize, then: &[usize], flags: &[(&str, &str)], files: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let same = |a: &str, b: &str, step: u32| {
        let file = format!("checkpoint-{step}/optimizer.safetensors");
        let checkpoint = files.iter().map(|name| format!("checkpoint-{step}/{name}"));
        let results = files.iter().map(|name| (*name).to_owned());
        for file in checkpoint.chain([file]).chain(results) {
            same_tensors(
                &folder.path().join(a).join(&file),
                &folder.path().join(b).join(&file),
            );
        }
        assert_eq!(
            losses(&folder.path().join(a)),
            losses(&folder.path().join(b)),
            "{a} {b}"
        );
    };
    let config = |name: &str, steps: &str, zero: &str| {
        let mut all = vec![
            ("train_batch_size", "1"),
            ("checkpointing_steps", "1"),
            ("max_train_steps", steps),
            ("zero", zero),
        ];
        all.extend(flags);
        options(&folder.path().join(name), &all)
    };
    let copy = |from: &str, to: &str| {
        let status = std::process::Command::new("cp")
            .arg("-r")
            .args([from, to].map(|name| folder.path().join(name)))
            .status();
        assert!(status.unwrap().success());
    };
    finish(ranks, &config("whole", "2", "0"));
    finish(ranks, &config("shares", "2", "1"));
    same("whole", "shares", 2);
    for &then in then {
        let [a, b] = ["whole", "shares"].map(|name| format!("{name} then {then}"));
        copy("whole", &a);
        copy("shares", &b);
        finish(then, &config(&a, "4", "0"));
        finish(then, &config(&b, "4", "1"));
        same(&a, &b, 4);
    }
}

#[test]
fn shares_of_the_state_change_no_bit_and_no_checkpoint() {
    let bf16 = [("mixed_precision", "bf16"), ("gradient_accumulation_steps", "2")];
    shares_change_nothing(2, &[2, 3, 1], &bf16, &WHOLE);
    let eight_bits = [("use_8bit_adam", "")];
    shares_change_nothing(3, &[2], &eight_bits, &WHOLE);
    let adapters = [
        ("lora_rank", "32"),
        ("ema_decay", "0.9"),
        ("use_8bit_adam", ""),
        ("mixed_precision", "bf16"),
    ];
    shares_change_nothing(3, &[2], &adapters, &[ADAPTERS, AVERAGED_ADAPTERS]);
}

#[test]
fn when_the_data_of_one_give_out_all_keep_what_is_done_and_go_on_from_it() {
    let folder = tempfile::tempdir().unwrap();
    let well = folder.path().join("well");
    let shard = fixtures().join("data/good.tar");
    // Each rank has one of the two: this one hangs unless all is well.
    let hanging = format!(
        "{shard}::pipe:if [ -e {well} ]; then cat {shard}; else head -c 37000 {shard}; sleep 1000; fi",
        shard = shard.display(),
        well = well.display()
    );
    let flags = [
        ("train_shards_path_or_url", &*hanging),
        ("train_batch_size", "1"),
        ("gradient_accumulation_steps", "2"),
        ("max_train_steps", "8"),
        ("checkpointing_steps", "100"),
        ("shuffle_buffer_size", "1"),
        ("max_data_wait", "1"),
        ("mixed_precision", "bf16"),
        ("zero", "1"),
    ];
    let [straight, broken] = ["a", "b"].map(|name| folder.path().join(name));
    let errors: Vec<String> = run_ranks(vec![options(&broken, &flags); 2])
        .into_iter()
        .map(|(outcome, _)| outcome.unwrap_err().to_string())
        .collect();
    let told = |error: &String| error.contains(" ended: ") && error.contains("--max_data_wait");
    assert!(
        errors.iter().all(|error| error.contains("--max_data_wait")),
        "{errors:?}"
    );
    assert_eq!(errors.iter().filter(|error| told(error)).count(), 1, "{errors:?}");
    let done = losses(&broken).last().unwrap().0;
    assert!((1..8).contains(&done), "{done}");
    assert!(broken.join(format!("checkpoint-{done}/state.json")).is_file());

    std::fs::write(&well, "").unwrap();
    finish(2, &options(&straight, &flags));
    finish(2, &options(&broken, &flags));
    assert_eq!(losses(&straight), losses(&broken));
    for file in WHOLE.iter().chain(&["optimizer.safetensors"]) {
        let file = Path::new("checkpoint-8").join(file);
        same_tensors(&straight.join(&file), &broken.join(&file));
    }
}

#[test]
fn ranks_that_are_told_differently_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let mut configs = two(&out, &[]);
    configs[1].run.seed = 12;
    configs[1].run.device = "auto".to_owned();
    let errors: Vec<String> = run_ranks(configs)
        .into_iter()
        .map(|(outcome, _)| outcome.unwrap_err().to_string())
        .collect();
    assert!(
        errors[1].contains("seed is 11 on rank 0 and 12 on rank 1; give all ranks"),
        "{errors:?}"
    );
    assert!(
        errors[0].starts_with("rank 1 ended: ") && errors[0].contains("seed is 11"),
        "{errors:?}"
    );
    assert!(!out.exists());
}

#[test]
fn a_rank_that_fails_ends_the_others_with_its_words() {
    let folder = tempfile::tempdir().unwrap();
    for failing in [0, 1] {
        let mut configs = two(&folder.path().join("run"), &[]);
        configs[failing].model.pretrained_teacher_model = Some("/nowhere/at/all".into());
        let errors: Vec<String> = run_ranks(configs)
            .into_iter()
            .map(|(outcome, _)| outcome.unwrap_err().to_string())
            .collect();
        assert!(errors[failing].contains("/nowhere/at/all"), "{errors:?}");
        let other = &errors[1 - failing];
        assert!(
            other.starts_with(&format!("rank {failing} ended: ")) && other.contains("/nowhere/at/all"),
            "{errors:?}"
        );
    }
}

#[test]
fn what_is_not_finite_on_one_rank_is_skipped_by_all_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let teacher = poisoned(folder.path());
    let flags = [
        ("train_batch_size", "1"),
        ("nan_limit", "100"),
        ("proportion_empty_prompts", "0"),
    ];
    let mut configs = two(&folder.path().join("run"), &flags);
    // Only the second rank's text encoder cannot bear a word.
    configs[1].model.pretrained_teacher_model = Some(teacher);
    let outcomes = run_ranks(configs);
    let reports: Vec<&Report> = outcomes
        .iter()
        .map(|(outcome, _)| outcome.as_ref().unwrap())
        .collect();
    assert_eq!((reports[0].steps, reports[1].steps), (6, 6));
    let skipped = reports[0].skipped.not_finite;
    assert!(skipped > 0);
    assert_eq!(reports[0].skipped, reports[1].skipped);
    assert_eq!(reports[0].samples, 2 * (6 + skipped));
    // Rank 0 names the other's samples, which have the odd numbers.
    let named = outcomes[0].1.not_finite();
    assert_eq!(named.len() as u64, skipped);
    for found in named {
        assert_eq!(found.stage, Some("the text encoder's embedding"));
        let numbers: Vec<u64> = found.samples.iter().map(|sample| sample.number % 2).collect();
        assert_eq!(numbers, [1]);
    }
}

#[test]
fn ranks_that_do_not_come_are_named() {
    let short = Duration::from_secs(1);
    let port = port();
    let error = Ranks::meet(seat(0, 3, port), short).unwrap_err().to_string();
    assert!(
        error.contains("ranks 1, 2 did not come within 1 s") && error.contains("are all ranks started"),
        "{error}"
    );
    let error = Ranks::meet(seat(1, 3, port), short).unwrap_err().to_string();
    assert!(
        error.contains("nobody answers on 127.0.0.1") && error.contains("is rank 0 running"),
        "{error}"
    );
    let taken = TcpListener::bind("[::]:0")
        .or_else(|_| TcpListener::bind("0.0.0.0:0"))
        .unwrap();
    let port = taken.local_addr().unwrap().port();
    let error = Ranks::meet(seat(0, 2, port), short).unwrap_err();
    assert!(matches!(error, RanksError::NoRendezvous { rank: 0, .. }));
    assert!(
        error.to_string().contains(&format!("port {port} is in use")),
        "{error}"
    );
}
