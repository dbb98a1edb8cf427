//! What a run's options ask of the data loader. It reads no data.

use std::time::Duration;

use fewstep_data::{
    Crop, DataConfig, Drawing, Flip, GivingUp, Interpolation as Filter, Origin, PictureFolder, SourceOptions,
    Unscored, Wanted,
};

use crate::config::{Config, DataConfig as Options, Interpolation};

/// The loader's configuration.
pub fn data_config(config: &Config) -> DataConfig {
    let data = &config.data;
    DataConfig {
        origin: origin(data),
        resolution: config.resolution(),
        batch_size: data.train_batch_size as usize,
        num_workers: data.dataloader_num_workers as usize,
        seed: config.run.seed,
        interpolation: match data.interpolation_type {
            Interpolation::Bilinear => Filter::Bilinear,
            Interpolation::Bicubic => Filter::Bicubic,
            Interpolation::Box => Filter::Box,
            Interpolation::Nearest => Filter::Nearest,
            Interpolation::NearestExact => Filter::NearestExact,
            Interpolation::Hamming => Filter::Hamming,
            Interpolation::Lanczos => Filter::Lanczos,
        },
        crop: match data.cache_crops {
            _ if data.crops_the_middle() => Crop::Center,
            Some(count) => Crop::OneOf(count),
            None => Crop::Random,
        },
        flip: if data.random_flip {
            Flip::Random
        } else {
            Flip::Never
        },
        shuffle_window: data.shuffle_buffer_size as usize,
        drawing: if data.resample {
            Drawing::WithReplacement
        } else {
            Drawing::EachOnce
        },
        part: config.part,
        wanted: wanted(data),
        sources: SourceOptions {
            timeout: seconds(data.data_timeout),
            retries: data.data_retries,
            patience: seconds(data.max_data_wait),
            ..SourceOptions::default()
        },
        giving_up: GivingUp {
            max_bad_fraction: data.max_bad_fraction,
            max_wait: seconds(data.max_data_wait),
        },
        ..DataConfig::default()
    }
}

/// Validation has refused what is no time.
fn seconds(number: f64) -> Duration {
    Duration::try_from_secs_f64(number).unwrap_or_default()
}

fn wanted(data: &Options) -> Wanted {
    let default = Wanted::default();
    Wanted {
        caption_key: data.caption_key.clone(),
        min_size: data.min_size,
        max_pwatermark: data.max_pwatermark,
        min_aesthetic: data.min_aesthetic,
        pwatermark_key: data.pwatermark_key.clone().unwrap_or(default.pwatermark_key),
        aesthetic_key: data.aesthetic_key.clone().unwrap_or(default.aesthetic_key),
        unscored: match data.keep_unscored {
            true => Unscored::Keep,
            false => Unscored::Drop,
        },
    }
}

fn origin(data: &Options) -> Origin {
    let Some(path) = &data.train_data_dir else {
        return Origin::Shards(data.train_shards_path_or_url.clone());
    };
    let mut folder = PictureFolder::new(path);
    if let Some(column) = &data.image_column {
        folder.image_column = column.clone();
    }
    if let Some(column) = &data.caption_column {
        folder.caption_column = column.clone();
    }
    Origin::Folder(folder)
}
