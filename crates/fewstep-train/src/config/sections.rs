//! Every option of a training run, declared once: its name on the command line and in a TOML file, its type,
//! its default and its help all come from here.
//!
//! The names are the reference's. A field's comment is the flag's help: say there what it does, in which
//! unit, and where it differs from the reference.

use std::path::PathBuf;

use fewstep_data::Part;
use serde::Serialize;

use super::choices::{
    CondProjInit, GradientCheckpointing, Interpolation, LossType, LrSchedule, Method, MixedPrecision, OnNan,
    OnSaveError, ProfiledSteps, ReportTo, Zero,
};
use super::value::{FlagKind, FlagType, FlagValue};

/// An option, for a command line's parser and for its help.
#[derive(Debug, Clone, Copy)]
pub struct Flag {
    /// Its name, with underscores: `train_batch_size`.
    pub name: &'static str,
    /// The section of the TOML file that holds it.
    pub section: &'static str,
    /// How it is written.
    pub kind: FlagKind,
    /// The words that it may be, where they are few.
    pub choices: &'static [&'static str],
    /// What it does, in sentences; lines are separated by `\n` and start with a blank.
    pub help: &'static str,
}

impl Flag {
    /// The default as it would be written on a command line, where there is one.
    pub fn default_word(&self) -> Option<String> {
        Config::default().value(self.name).and_then(|value| value.word())
    }
}

macro_rules! sections {
    ($(
        $(#[doc = $section_doc:literal])*
        $section:ident: $Section:ident {
            $( $(#[doc = $doc:literal])* $field:ident: $type:ty = $default:expr, )*
        }
    )*) => {
        $(
            $(#[doc = $section_doc])*
            #[derive(Debug, Clone, PartialEq, Serialize)]
            pub struct $Section {
                $( $(#[doc = $doc])* pub $field: $type, )*
            }

            impl Default for $Section {
                fn default() -> Self {
                    $Section { $( $field: $default, )* }
                }
            }
        )*

        /// Everything that a training run can be told.
        #[derive(Debug, Clone, Default, PartialEq, Serialize)]
        pub struct Config {
            $( $(#[doc = $section_doc])* pub $section: $Section, )*
            /// Which rank of how many this process is. No option: whoever starts the ranks says it.
            #[serde(skip)]
            pub part: Part,
            /// How many other ranks share this machine. No option either.
            #[serde(skip)]
            pub others_here: u32,
        }

        impl Config {
            /// Every option, in the order in which they are declared.
            pub const FLAGS: &[Flag] = &[$($( Flag {
                name: stringify!($field),
                section: stringify!($section),
                kind: <$type as FlagType>::KIND,
                choices: <$type as FlagType>::CHOICES,
                help: concat!($($doc, "\n"),*),
            }, )*)*];

            /// The names of the sections.
            pub const SECTIONS: &[&str] = &[$( stringify!($section), )*];

            /// The value of the option `name`, to be set or shown.
            pub(super) fn value(&mut self, name: &str) -> Option<&mut dyn FlagValue> {
                match name {
                    $($( stringify!($field) => Some(&mut self.$section.$field), )*)*
                    _ => None,
                }
            }
        }
    };
}

sections! {
    /// Which networks are read, and what becomes the student.
    model: ModelConfig {
        /// The teacher: a folder in diffusers' layout with scheduler/, tokenizer/, text_encoder/, vae/ and
        /// unet/. Required.
        pretrained_teacher_model: Option<PathBuf> = None,
        /// A folder with another VAE, itself or in vae/ inside, to be used instead of the teacher's.
        pretrained_vae_model_name_or_path: Option<PathBuf> = None,
        /// Train the whole UNet (full) or low-rank adapters (lora): full unless an option of the adapters is
        /// given.
        method: Option<Method> = None,
        /// Width of the embedding of the guidance scale that the student gets if the teacher has none.
        unet_time_cond_proj_dim: u32 = 256,
        /// How the new projection of that embedding starts. With zeros the student starts as the teacher;
        /// default is torch's uniform start, which the reference uses.
        cond_proj_init: CondProjInit = CondProjInit::Zeros,
        /// The dtype in which the VAE computes: f32 (no) for an SDXL teacher, whose VAE overflows in fp16, and
        /// mixed_precision's for others, unless given.
        vae_precision: Option<MixedPrecision> = None,
        /// Store the teacher in the compute dtype. Frozen networks always are: accepted so that the
        /// reference's command lines work.
        cast_teacher_unet: bool = false,
    }

    /// Low-rank adapters (LoRA) on the teacher's UNet, trained in place of the whole.
    lora: LoraConfig {
        /// Rank of the adapters: 64 unless given.
        lora_rank: Option<u32> = None,
        /// Adapters count alpha/rank times: 64 unless given.
        lora_alpha: Option<f64> = None,
        /// Share of an adapter's inputs that are dropped in training, from 0 to 1: 0 unless given. The target
        /// drops nothing.
        lora_dropout: Option<f64> = None,
        /// The modules that get an adapter, separated by commas: their names in the UNet, or the ends of
        /// such names. Unless given, all linear maps and convolutions of the blocks.
        lora_target_modules: Option<String> = None,
    }

    /// Where the run lies, on what it runs, and what it leaves behind.
    run: RunConfig {
        /// The folder of the run: its checkpoints, metrics and results.
        output_dir: PathBuf = PathBuf::from("lcm-distilled"),
        /// cpu, cuda, cuda:N, or auto for the first accelerator there is.
        device: String = "auto".to_owned(),
        /// Every random number of the run is a function of it.
        seed: u64 = 0,
        /// The dtype in which the networks compute. Trained weights, optimiser and schedule arithmetic are
        /// f32 in any case.
        mixed_precision: MixedPrecision = MixedPrecision::No,
        /// Let f32 matrix products on CUDA round their inputs to TF32: faster, with 10 bits of mantissa.
        allow_tf32: bool = false,
        /// Keep less of the forward pass in memory and compute it again in the backward pass: all residual and
        /// transformer blocks (full, also without a value), the given number of them, those with the largest feature
        /// maps first, or only as many as the memory demands that there is (auto). It takes time, and changes no bit
        /// of any gradient.
        gradient_checkpointing: GradientCheckpointing = GradientCheckpointing::Off,
        /// Fused attention is always on: accepted so that the reference's command lines work.
        enable_xformers_memory_efficient_attention: bool = false,
        /// Write a checkpoint every so many optimiser steps; 0 writes them only when interrupted.
        checkpointing_steps: u64 = 500,
        /// Keep this many checkpoints: the oldest go once a newer one is complete.
        checkpoints_total_limit: Option<u64> = None,
        /// Go on from a checkpoint: latest, the name of one in the output folder, or a path. Without it a
        /// run goes on from its latest checkpoint if its settings are the same, and refuses if they differ.
        resume_from_checkpoint: Option<String> = None,
        /// When a checkpoint cannot be saved (a full disk, most often): stop ends the run, continue goes on and
        /// tries again at the next one. The last good checkpoint stays in any case, and a run whose results cannot
        /// be saved ends with an error.
        on_save_error: OnSaveError = OnSaveError::Stop,
        /// When a loss or a gradient is not finite, the update is not done. skip counts it and goes on with the
        /// next samples until there are more than nan_limit; stop ends the run at once. Either way the end leaves
        /// a file for fewstep debug step --inputs.
        on_nan: OnNan = OnNan::Skip,
        /// With on_nan skip: the run ends when more than so many of the last 1000 updates were not finite.
        nan_limit: u64 = 10,
        /// Record so many steps after the first one of this process (1 without a value), and write where their time
        /// and memory went into OUT/profile: as a table, and as a trace that chrome://tracing and Perfetto open. The
        /// recorded steps take longer; the run goes on after them. Of several ranks the first is recorded.
        profile: ProfiledSteps = ProfiledSteps(0),
        /// Report steps, pictures and options besides metrics.jsonl: as TensorBoard's event files, as an offline run of
        /// Weights & Biases (nothing is sent; wandb sync uploads it), as both (all), or not (none).
        report_to: ReportTo = ReportTo::Tensorboard,
        /// The folder of these reports, within output_dir.
        logging_dir: PathBuf = PathBuf::from("logs"),
        /// The folder of the event files in logging_dir, and the project of Weights & Biases.
        tracker_project_name: String = "text2image-fine-tune".to_owned(),
        /// With several ranks: the run ends when one of them has given no sign of life for so many seconds, at the
        /// start or later. Each gives one a second, whatever it works on.
        rank_timeout: f64 = 120.0,
    }

    /// The pictures and captions, and how many of them.
    data: DataConfig {
        /// WebDataset shards, plain or packed with gzip or zstd, with {00000..00099} or {a,b} expanded, ${NAME}
        /// replaced by the environment's WDS_NAME, and :: between several. They are files, folders of them,
        /// http(s)://, s3://, gs://, az:// and hf:// addresses, pipe:COMMAND for what a command writes, or - for
        /// standard input. May be given several times. Either this or train_data_dir is required. docs/data.md
        /// says more.
        train_shards_path_or_url: Vec<String> = Vec::new(),
        /// A folder of pictures with their captions: in metadata.jsonl, .csv or .parquet (with the column
        /// file_name), in a .txt beside each picture, or in parquet files as the datasets library writes them.
        train_data_dir: Option<PathBuf> = None,
        /// Seconds of silence after which a server, a connection or a pipe: of shards is given up and asked again.
        data_timeout: f64 = 15.0,
        /// How often, in a row, shards that are no local files are asked for again before they are left out: after
        /// 1 s, 2 s, 4 s and so on, but for no longer than max_data_wait altogether. A pipe: is run again twice at most.
        data_retries: u32 = 5,
        /// Seconds without a usable sample after which a run that waits for one ends, with the table of what was left
        /// out and why.
        max_data_wait: f64 = 60.0,
        /// The run ends, with that table, when more than this fraction of the samples is broken or incomplete, or of
        /// the shards empty or not to be read. Samples that were not asked for (min_size and the like) do not count. 1
        /// never ends it.
        max_bad_fraction: f64 = 0.9,
        /// With train_data_dir: the column with the pictures in parquet files, or with the pictures' names in
        /// metadata that has no file_name; image unless given.
        image_column: Option<String> = None,
        /// With train_data_dir: the column with the captions. text unless given. Of a list of captions one
        /// is drawn each time.
        caption_column: Option<String> = None,
        /// The side of the square pictures, in pixels: the shorter side is resized to it, then cropped. 512
        /// unless given, 1024 for SDXL.
        resolution: Option<u32> = None,
        /// The filter that resizes, as Pillow's of the same name.
        interpolation_type: Interpolation = Interpolation::Bilinear,
        /// Crop the middle instead of a random place.
        center_crop: bool = false,
        /// SDXL: crop the middle, and tell the UNet the sizes of a picture that was made whole in the trained
        /// resolution. (The reference tells the same of a random crop.)
        use_fix_crop_and_size: bool = false,
        /// Mirror half of the pictures.
        random_flip: bool = false,
        /// Leave out pictures whose shorter side has fewer pixels; those between this and the resolution are
        /// enlarged, with 0 all that are smaller. The resolution unless given: nothing is enlarged.
        min_size: Option<u32> = None,
        /// Leave out samples of shards whose JSON gives a higher probability of a watermark.
        max_pwatermark: Option<f64> = None,
        /// Leave out samples of shards whose JSON gives a lower aesthetic score.
        min_aesthetic: Option<f64> = None,
        /// With max_pwatermark: the key of the JSON with the probability; pwatermark unless given.
        pwatermark_key: Option<String> = None,
        /// With min_aesthetic: the key of the JSON with the score; aesthetic unless given.
        aesthetic_key: Option<String> = None,
        /// With max_pwatermark or min_aesthetic: take samples without such a number too.
        keep_unscored: bool = false,
        /// With train_shards_path_or_url: the key of the samples' JSON with the caption, instead of a .txt,
        /// .text or .caption file. Of a list of captions one is drawn each time.
        caption_key: Option<String> = None,
        /// Samples that the shuffle window over the shards (or the folder) holds.
        shuffle_buffer_size: u32 = 1000,
        /// Draw the shards of an epoch with replacement, as the reference does: as many as there are, each from
        /// all of them. Unless given every shard is read once an epoch.
        resample: bool = false,
        /// Threads that decode pictures ahead of the step; 0 decodes in line.
        dataloader_num_workers: u32 = 0,
        /// Samples in one forward pass, on each rank.
        train_batch_size: u32 = 16,
        /// Epochs to train, where max_train_steps is not given; needs max_train_samples.
        num_train_epochs: u64 = 100,
        /// Optimiser steps to train; overrides num_train_epochs.
        max_train_steps: Option<u64> = None,
        /// Samples that make up one epoch. It cuts nothing off: the data are read to
        /// their end.
        max_train_samples: Option<u64> = None,
        /// Keep what the VAE and the text encoders make in this folder, and take it from there when it comes again:
        /// from the second epoch on they need not run, and pictures are not decoded. Several runs may share it. An
        /// entry is found by the picture's and the models' contents, so a change of either never gives old ones. Random
        /// crops never come again: give --cache_crops or --center_crop with it. fewstep cache fills it ahead.
        cache_dir: Option<PathBuf> = None,
        /// Crop one of this many random places of each picture, the same places in every epoch and every run, instead
        /// of a new one each time. The model sees less variety of crops: that is the price of a cache of them. It
        /// changes the samples with and without --cache_dir.
        cache_crops: Option<u32> = None,
        /// With cache_dir: the folder grows to at most so many GB (of 1000^3 bytes), and the disk keeps 2 GB free in
        /// any case. What is not in it then is computed each time.
        cache_max_gb: f64 = 100.0,
        /// Share of captions, from 0 to 1, that are replaced by the empty prompt.
        proportion_empty_prompts: f64 = 0.0,
    }

    /// The optimiser and its learning rate.
    optimizer: OptimizerConfig {
        /// The learning rate after warm-up: unless given 1e-4 for adapters and 1e-6 for a whole UNet (for
        /// which the reference's 1e-4 is too high).
        learning_rate: Option<f64> = None,
        /// Multiply the learning rate by gradient_accumulation_steps, train_batch_size and the number of ranks.
        scale_lr: bool = false,
        /// How the learning rate changes over the run.
        lr_scheduler: LrSchedule = LrSchedule::Constant,
        /// Optimiser steps over which the learning rate rises from 0: 500 unless given. The constant
        /// schedule has no warm-up; there it may only be 0.
        lr_warmup_steps: Option<u64> = None,
        /// Micro-batches whose gradients make one optimiser step.
        gradient_accumulation_steps: u32 = 1,
        /// AdamW: decay rate of the first moment.
        adam_beta1: f64 = 0.9,
        /// AdamW: decay rate of the second moment.
        adam_beta2: f64 = 0.999,
        /// AdamW: decoupled weight decay.
        adam_weight_decay: f64 = 1e-2,
        /// AdamW: added to the root of the second moment.
        adam_epsilon: f64 = 1e-8,
        /// Keep AdamW's two moments in 8 bits a number instead of 32, as bitsandbytes does: 256 numbers share a scale,
        /// and parameters of fewer than 4096 numbers keep 32 bits. It saves 6 bytes for every trained number.
        use_8bit_adam: bool = false,
        /// 1 spreads the optimiser over the ranks, as the first stage of ZeRO does: each keeps the moments of its share
        /// of the parameters, in 16-bit runs their f32 masters and moving averages too, and gives the others what it
        /// has updated. It changes no bit of the result, saves memory, and takes some more traffic after each update.
        /// Checkpoints do not depend on it. One rank has nobody to share with, and says so.
        zero: Zero = Zero::Off,
        /// The gradient is scaled down to this global L2 norm where it is larger.
        max_grad_norm: f64 = 1.0,
    }

    /// Latent consistency distillation itself.
    distillation: DistillationConfig {
        /// Least guidance scale w, in the paper's sense: w = 7.5 is what pipelines call guidance_scale 8.5.
        /// 5 unless given, 3 for SDXL.
        w_min: Option<f64> = None,
        /// Largest guidance scale w.
        w_max: f64 = 15.0,
        /// Steps of the DDIM solver that distillation skips along (N).
        num_ddim_timesteps: u32 = 50,
        /// The distance between prediction and target.
        loss_type: LossType = LossType::L2,
        /// The constant of the pseudo-Huber distance.
        huber_c: f64 = 0.001,
        /// Scale of the timestep in the boundary condition (s).
        timestep_scaling_factor: f64 = 10.0,
        /// Pictures that the VAE encodes at once.
        vae_encode_batch_size: u32 = 32,
        /// Decay rate of the target network, a moving average of the student: 0.95 unless given. Adapters
        /// have one only if it is given; else the target is the student itself.
        ema_decay: Option<f64> = None,
    }

    /// Pictures that are painted while the run goes on, to look at.
    validation: ValidationConfig {
        /// Every so many optimiser steps, paint the validation prompts with the student and its moving average, beside
        /// the teacher's pictures from the same noise, as a grid in OUT/samples. 0 paints nothing. It changes no bit of
        /// what is trained.
        validation_steps: u64 = 200,
        /// What to paint; may be given several times. The name of a file stands for its lines. The reference's four
        /// prompts unless given.
        validation_prompts: Vec<String> = Vec::new(),
        /// Pictures of each prompt, from each network. (The reference paints 4.)
        num_validation_images: u32 = 1,
        /// Steps in which student and moving average paint.
        validation_inference_steps: u32 = 4,
        /// Steps in which the teacher paints its pictures, once a run; 0 leaves the teacher out.
        validation_teacher_steps: u32 = 25,
        /// The guidance scale of the teacher and of a whole student. 7.5 unless given, 5 for SDXL, or what is nearest to
        /// it in the trained range (w_min + 1 to w_max + 1). Adapters always paint with 1: the guidance is in them.
        validation_guidance_scale: Option<f64> = None,
        /// The seed of the pictures' noise; the run's unless given.
        validation_seed: Option<u64> = None,
    }
}
