//! Whether two configurations describe the same run, so that one may go on where the other stopped.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::Config;

/// Options that may change without making it another run: where it lies, on what it computes, how long it
/// goes on, and how often it is saved.
const FREE: &[&str] = &[
    "output_dir",
    "device",
    "allow_tf32",
    "enable_xformers_memory_efficient_attention",
    "gradient_checkpointing",
    "checkpointing_steps",
    "checkpoints_total_limit",
    "resume_from_checkpoint",
    "on_save_error",
    "on_nan",
    "nan_limit",
    "dataloader_num_workers",
    "num_train_epochs",
    "max_train_steps",
    "max_train_samples",
    "cast_teacher_unet",
    "vae_encode_batch_size",
];

/// The options that make a run what it is, as words by name. One that is not set has no word.
pub(crate) fn of(config: &Config) -> BTreeMap<String, String> {
    let mut words = config.resolved().words();
    words.retain(|name, _| !FREE.contains(&name.as_str()));
    words
}

/// The options in which the two differ, as "NAME is X there and Y here".
pub(crate) fn differences(there: &BTreeMap<String, String>, here: &BTreeMap<String, String>) -> Vec<String> {
    let names: BTreeSet<&String> = there.keys().chain(here.keys()).collect();
    let word = |words: &BTreeMap<String, String>, name| words.get(name).cloned();
    names
        .into_iter()
        .filter(|name| there.get(*name) != here.get(*name))
        .map(|name| {
            let not_set = || "not set".to_owned();
            let (other, own) = (word(there, name), word(here, name));
            format!(
                "{name} is {} there and {} here",
                other.unwrap_or_else(not_set),
                own.unwrap_or_else(not_set)
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_shapes_a_run_makes_it_another() {
        let mut config = Config::default();
        let before = of(&config);
        config.set("max_train_steps", &["7".to_owned()]).unwrap();
        config.set("output_dir", &["elsewhere".to_owned()]).unwrap();
        assert_eq!(differences(&before, &of(&config)), [""; 0]);
        config.set("seed", &["7".to_owned()]).unwrap();
        config.set("learning_rate", &["1e-4".to_owned()]).unwrap();
        let differences = differences(&before, &of(&config));
        assert!(
            differences.contains(&"seed is 0 there and 7 here".to_owned()),
            "{differences:?}"
        );
    }
}
