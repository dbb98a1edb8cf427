//! Whether two configurations describe the same run, so that one may go on where the other stopped.

use std::collections::{BTreeMap, BTreeSet};

use fewstep_data::secrets::mask;

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
    "profile",
    "rank_timeout",
    "zero",
    "dataloader_num_workers",
    "data_timeout",
    "data_retries",
    "max_data_wait",
    "max_bad_fraction",
    "cache_dir",
    "cache_max_gb",
    "num_train_epochs",
    "max_train_steps",
    "max_train_samples",
    "cast_teacher_unet",
    "vae_encode_batch_size",
];

/// The option by which a state of the optimiser is another thing, and of no use to a run that wants the other.
const EIGHT_BITS: &str = "use_8bit_adam";

/// The options that make a run what it is, as words by name. One that is not set has no word.
pub(crate) fn of(config: &Config) -> BTreeMap<String, String> {
    let mut words = config.shown().words();
    words.retain(|name, _| !FREE.contains(&name.as_str()) && !only_looks(name));
    // Older checkpoints, which know nothing of it, were made without.
    words.retain(|name, word| name != EIGHT_BITS || word != "false");
    words
}

/// Whether an option says only what is shown of the run.
fn only_looks(name: &str) -> bool {
    let trackers = ["report_to", "logging_dir", "tracker_project_name"];
    name.starts_with("validation_") || name == "num_validation_images" || trackers.contains(&name)
}

/// Whether a run of these words keeps the optimiser's moments in 8 bits.
pub(crate) fn in_eight_bits(words: &BTreeMap<String, String>) -> bool {
    words.contains_key(EIGHT_BITS)
}

/// The options in which the two differ, as "NAME is X there and Y here". Credentials in them are masked, and make no
/// difference: an address that was signed anew is the same address.
pub(crate) fn differences(there: &BTreeMap<String, String>, here: &BTreeMap<String, String>) -> Vec<String> {
    let names: BTreeSet<&String> = there.keys().chain(here.keys()).collect();
    let word = |words: &BTreeMap<String, String>, name: &str| words.get(name).map(|word| mask(word));
    names
        .into_iter()
        .filter(|name| word(there, name) != word(here, name))
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
    fn a_new_signature_makes_no_other_run() {
        let of_shards = |shards: &str| {
            let mut config = Config::default();
            config
                .set("train_shards_path_or_url", &[shards.to_owned()])
                .unwrap();
            of(&config)
        };
        let before = of_shards("https://me:hush@host/a.tar?X-Amz-Signature=1&shard=2");
        let after = of_shards("https://me:hush2@host/a.tar?X-Amz-Signature=3&shard=2");
        assert!(!format!("{before:?}").contains("hush"), "{before:?}");
        assert_eq!(differences(&before, &after), [""; 0]);
        let other = of_shards("https://me:hush2@host/a.tar?X-Amz-Signature=3&shard=4");
        assert_eq!(differences(&before, &other).len(), 1);
        // A checkpoint of an older version holds the secret itself.
        let key = "train_shards_path_or_url".to_owned();
        let mut old = before.clone();
        old.insert(
            key,
            "https://me:hush@host/a.tar?X-Amz-Signature=1&shard=2".to_owned(),
        );
        assert_eq!(differences(&old, &after), [""; 0]);
        let differences = differences(&old, &other);
        assert!(
            differences.len() == 1 && !differences[0].contains("hush"),
            "{differences:?}"
        );
    }

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
