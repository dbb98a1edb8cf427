//! `fewstep train`: distils a teacher, and shows how far it is.

use std::process::ExitCode;

use anyhow::Context;
use fewstep_train::config::{Config, Method, Zero};
use fewstep_train::{
    Checkpointed, Ending, Event, MemoryPlan, Observer, Profiled, Report, Skip, Skipped, Start, StepMetrics,
    Stop, TooMuch,
};
use tch::Device;

use crate::answer::Answer;
use crate::failure;
use crate::pace::Pace;
use crate::progress::Progress;
use crate::ranks;
use crate::terminal;
use crate::train_flags::TrainFlags;

/// Distils a latent consistency model from a teacher, on shards or a folder of captioned pictures.
#[derive(Debug, clap::Args)]
#[command(rename_all = "snake_case", after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    flags: TrainFlags,
    /// Print the resolved configuration and the memory that the run would take, phase by phase, and do nothing else
    #[arg(long)]
    dry_run: bool,
}

const EXAMPLES: &str = "\
Examples:
  fewstep train --pretrained_teacher_model models/sd15 --output_dir runs/sd15 \\
      --train_shards_path_or_url 'data/{00000..00099}.tar' --dataloader_num_workers 8 \\
      --mixed_precision bf16 --train_batch_size 12 --learning_rate 1e-6 --loss_type huber \\
      --max_train_steps 1000 --checkpointing_steps 200
  fewstep train --pretrained_teacher_model models/sdxl --output_dir runs/sdxl-lora --lora_rank 64 \\
      --train_shards_path_or_url 'data/{00000..00099}.tar' --mixed_precision bf16 --max_train_steps 1000
  fewstep train --config runs/sd15/config.toml --max_train_steps 2000
  fewstep train --config run.toml --dry-run
  fewstep train --pretrained_teacher_model models/sd15 --output_dir runs/foxes \\
      --train_data_dir pictures/foxes --caption_column caption --max_train_steps 1000

Ctrl-C and SIGTERM finish the step and write a checkpoint; the same command again goes on from
there, after a kill or a full disk from the last checkpoint that is whole. SIGUSR1 prints how the
run stands, SIGUSR2 writes a checkpoint and goes on (both under fewstep launch too). The results are folders
and files that diffusers loads: OUT/unet and OUT/unet_target, or with adapters
OUT/pytorch_lora_weights.safetensors, and OUT/scheduler.

Not yet, and answered by name: the model hub and data sets by
their hub names. Several ranks: `fewstep launch --help`.";

/// Trains to the end, or until it is told to stop.
///
/// # Errors
/// Options, models or data that are wrong, a full disk, or a student that diverged.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut config = args.flags.config()?;
    config.validate()?;
    let seat = ranks::seat()?;
    let is_first = seat.as_ref().is_none_or(|seat| seat.rank == 0);
    if args.dry_run {
        if !is_first {
            return Ok(ExitCode::SUCCESS);
        }
        if let Some(seat) = seat {
            config.part = seat.part();
            config.others_here = seat.local_ranks.saturating_sub(1);
        }
        if config.optimizer.zero == Zero::One && !config.is_sharded() {
            terminal::note(&describe(&Event::NothingToShare));
        }
        let plan = fewstep_train::plan(&config)?;
        terminal::result(&format!("{}\n{}", config.to_toml()?, comment(&plan)));
        if let Some(too_much) = TooMuch::of(&plan, &config) {
            terminal::note(&format!("warning: {too_much}"));
        }
        return Ok(ExitCode::SUCCESS);
    }
    let stop = Stop::on_signals()
        .and_then(Stop::and_wishes)
        .context("Ctrl-C and other signals cannot be caught")?;
    let mut watcher = Watcher {
        stop: stop.clone(),
        shown: None,
    };
    let is_alone = seat.is_none();
    let report = match ranks::meet(seat, &config)? {
        None => fewstep_train::run(&config, &stop, &mut watcher),
        Some(ranks) if is_first => fewstep_train::run_as(ranks, &config, &stop, &mut watcher),
        // Rank 0 speaks for all.
        Some(ranks) => fewstep_train::run_as(ranks, &config, &stop, &mut ()),
    };
    if let Some(shown) = &watcher.shown {
        shown.answer.if_asked(&stop);
        shown.answer.end();
        shown.progress.finish();
    }
    let report = match report {
        Err(error) if !is_alone => ranks::end_with(error),
        report => report?,
    };
    if is_first {
        terminal::note(&closing(&report, &config));
    }
    Ok(match report.ending {
        Ending::Finished | Ending::FinishedBefore => ExitCode::SUCCESS,
        Ending::Interrupted { .. } => failure::stopped_by(stop.signal().unwrap_or(SIGINT)),
    })
}

/// What a run that something else than a signal stopped counts as stopped by.
const SIGINT: i32 = 2;

/// The plan as comments, so that what `--dry_run` prints is a configuration file.
fn comment(plan: &MemoryPlan) -> String {
    let row = |what: &str, bytes: u64| format!("#   {what:<34}{:>12.1} MB\n", bytes as f64 / 1e6);
    let mut text = format!(
        "# {} optimiser steps of {} samples; {} trainable parameters\n# held for the whole run:\n",
        plan.steps, plan.samples_per_step, plan.trainable
    );
    for holding in &plan.holdings {
        text += &row(&holding.what, holding.bytes);
    }
    text += &row("together", plan.held());
    text += "# on top of that at most, one phase of a step after another:\n";
    for phase in &plan.phases {
        text += &row(phase.what, phase.bytes);
    }
    text += &format!("# of which, with {}:\n", checkpointing(plan.checkpointed));
    text += &row("activations for the backward pass", plan.activations);
    text += &row("gradients of a step", plan.gradients);
    text += "# on the host, besides tensors, and without the encoded pictures of the shuffle window:\n";
    text += &row("the process itself", plan.process);
    text += &row("pictures decoded ahead", plan.pictures_ahead);
    text += &row("kept by the allocator, unused", plan.not_reused);
    text += "# planned peak:\n";
    text += &row(&format!("of a step, on {:?}", plan.device), plan.peak());
    if plan.ranks_here > 1 && plan.device == Device::Cpu {
        let what = format!("of the {} ranks on this machine", plan.ranks_here);
        text += &row(&what, plan.peak_of_ranks_here());
    }
    if plan.checkpoint_copy > 0 {
        text += &row("and a copy for checkpoints, on the host", plan.checkpoint_copy);
    }
    if plan.device == Device::Cpu && plan.loading > plan.peak() {
        text += &row("while loading, the mapped file too", plan.loading);
    }
    text.trim_end().to_owned()
}

/// How much is computed again, as a part of a sentence.
fn checkpointing(checkpointed: Checkpointed) -> String {
    let Checkpointed { pieces, of, .. } = checkpointed;
    format!("gradient checkpointing of {pieces} of {of} pieces")
}

/// Shows a person what the run tells it.
struct Watcher {
    stop: Stop,
    /// From the first step on.
    shown: Option<Shown>,
}

struct Shown {
    progress: Progress,
    pace: Pace,
    answer: Answer,
}

impl Observer for Watcher {
    fn started(&mut self, start: &Start) {
        if let Some((step, checkpoint)) = &start.resumed {
            terminal::note(&format!(
                "going on after step {step}, from {}",
                checkpoint.display()
            ));
        }
        terminal::note(&format!(
            "training {:.1} M parameters for {} steps on {:?}{}",
            start.trainable as f64 / 1e6,
            start.total_steps,
            start.device,
            match start.ranks {
                1 => String::new(),
                ranks => format!(", with {ranks} ranks"),
            }
        ));
        let done = start.resumed.as_ref().map_or(0, |(step, _)| *step);
        let progress = Progress::new(done, start.total_steps);
        let answer = Answer::new(progress.speaker(), done, start.total_steps);
        answer.clone().watch(self.stop.clone());
        self.shown = Some(Shown {
            progress,
            pace: Pace::default(),
            answer,
        });
    }

    fn step(&mut self, metrics: &StepMetrics) {
        if let Some(shown) = &mut self.shown {
            shown.answer.if_asked(&self.stop);
            shown.pace.add(metrics);
            shown.progress.step(metrics.step, &shown.pace.line());
            let left = shown.progress.left(metrics.step);
            shown.answer.stands(&shown.pace, &left);
        }
    }

    fn event(&mut self, event: &Event) {
        let text = describe(event);
        let Some(shown) = &self.shown else {
            return terminal::note(&text);
        };
        shown.answer.if_asked(&self.stop);
        shown.progress.speaker().say(&text);
    }
}

/// An event in a sentence.
fn describe(event: &Event) -> String {
    match event {
        Event::DataMoved(resumed) => resumed.to_string(),
        Event::Checkpoint { path, .. } => format!("wrote {}", path.display()),
        Event::NotSaved { step, reason } => {
            format!(
                "warning: the checkpoint of step {step} could not be saved, and the run goes on: {reason}"
            )
        }
        Event::MetricsNotWritten { reason } => {
            format!("warning: {reason}; the lines are kept until they can be written")
        }
        Event::SkippedUpdate { step, cause } => match cause {
            Skip::Overflow { scale } => format!(
                "after step {step}: an update overflowed in fp16 and was skipped; the loss scale is now {scale}"
            ),
            Skip::NotFinite(found) => format!("warning: after step {step} an update was skipped: {found}"),
        },
        Event::DamagedCheckpoint { damage, moved_to } => {
            format!(
                "warning: {damage}; that checkpoint is now {}, and the one before it is taken",
                moved_to.display()
            )
        }
        Event::Checkpointing(checkpointed) => checkpointing(*checkpointed),
        Event::TooMuch(too_much) => format!("warning: {too_much}"),
        Event::NothingToShare => {
            "--zero 1 does nothing here: there is one rank, which keeps all of the optimiser's state"
                .to_owned()
        }
        Event::Cache(estimate) => estimate.to_string(),
        Event::Profiled(profiled) => profile(profiled),
        Event::TrackerFails { tracker, reason } => {
            format!("warning: --report_to {tracker}: {reason}; the run goes on, and what is lost is counted")
        }
        Event::TrackerLost { tracker, records } => {
            format!("warning: --report_to {tracker}: {records} records were lost")
        }
        Event::Validated { path, .. } => format!("painted {}", path.display()),
        Event::NotValidated { step, reason } => format!(
            "warning: the validation pictures of step {step} could not be painted, and the run goes on: {reason}"
        ),
        Event::CacheNote(note) => format!("warning: {note}"),
        Event::NoLock { folder, reason } => format!(
            "warning: nothing keeps another run out of {}, for its file system has no locks ({reason})",
            folder.display()
        ),
    }
}

/// What a profile found, and where it lies.
fn profile(profiled: &Profiled) -> String {
    let folder = profiled.folder.display();
    format!(
        "{}in {folder}/table.txt; {folder}/trace.json opens in https://ui.perfetto.dev and chrome://tracing",
        profiled.table
    )
}

/// The updates that were skipped, a line for each cause.
fn skipped(skipped: &Skipped) -> String {
    let line = |count: u64, why: &str| match count {
        0 => String::new(),
        1 => format!("1 update was skipped since {why}\n"),
        _ => format!("{count} updates were skipped since {why}\n"),
    };
    line(skipped.overflow, "fp16 overflowed")
        + &line(skipped.not_finite, "the loss or the gradient was not finite")
}

/// What the run was, and what it left out.
fn closing(report: &Report, config: &Config) -> String {
    let mut text = String::new();
    if !report.dropped.is_empty() {
        text.push_str(&format!(
            "left out of the training data, or read again:\n{}\n",
            report.dropped
        ));
    }
    text.push_str(&skipped(&report.skipped));
    let (steps, samples, out) = (report.steps, report.samples, config.run.output_dir.display());
    text + &match &report.ending {
        Ending::Finished | Ending::FinishedBefore => {
            let (student, average) = match config.method() {
                Method::Full => ("unet", "unet_target"),
                Method::Lora => ("pytorch_lora_weights.safetensors", "lora_target"),
            };
            let average = match config.ema_decay() {
                Some(_) => format!(", its moving average in {out}/{average}"),
                None => String::new(),
            };
            let done = match report.ending {
                Ending::FinishedBefore => "this run was finished before: it was done",
                _ => "done",
            };
            format!(
                "{done} after {steps} steps and {samples} samples: the student is in {out}/{student}{average}"
            )
        }
        Ending::Interrupted { checkpoint } => format!(
            "stopped after {steps} steps and {samples} samples; the same command goes on from {}",
            checkpoint.display()
        ),
    }
}
