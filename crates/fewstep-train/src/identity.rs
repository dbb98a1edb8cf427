//! Whether two configurations describe the same run, so that one may go on where the other stopped.

use serde_json::Value;

use crate::config::Config;
use crate::error::TrainError;

/// Options that may change without making it another run: where it lies, on what it computes, how long it
/// goes on, and how often it is saved.
const FREE: &[&str] = &[
    "output_dir",
    "device",
    "allow_tf32",
    "enable_xformers_memory_efficient_attention",
    "checkpointing_steps",
    "checkpoints_total_limit",
    "resume_from_checkpoint",
    "dataloader_num_workers",
    "num_train_epochs",
    "max_train_steps",
    "max_train_samples",
    "cast_teacher_unet",
    "vae_encode_batch_size",
];

/// The options that make a run what it is, by name.
pub(crate) fn of(config: &Config) -> Result<Value, TrainError> {
    let sections = serde_json::to_value(config.resolved()).map_err(|error| crate::ConfigError::Value {
        flag: "config".to_owned(),
        reason: error.to_string(),
    })?;
    let flat = sections
        .as_object()
        .into_iter()
        .flat_map(|sections| sections.values().filter_map(Value::as_object))
        .flatten()
        .filter(|(name, _)| !FREE.contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()));
    Ok(Value::Object(flat.collect()))
}

/// The options in which the two differ, as "NAME is X there and Y here".
pub(crate) fn differences(there: &Value, here: &Value) -> Vec<String> {
    let (Some(there), Some(here)) = (there.as_object(), here.as_object()) else {
        return Vec::new();
    };
    here.iter()
        .filter(|(name, value)| there.get(*name) != Some(*value))
        .map(|(name, value)| {
            let other = there.get(name).unwrap_or(&Value::Null);
            format!("{name} is {other} there and {value} here")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_shapes_a_run_makes_it_another() {
        let mut config = Config::default();
        let before = of(&config).unwrap();
        config.set("max_train_steps", &["7".to_owned()]).unwrap();
        config.set("output_dir", &["elsewhere".to_owned()]).unwrap();
        assert_eq!(differences(&before, &of(&config).unwrap()), [""; 0]);
        config.set("seed", &["7".to_owned()]).unwrap();
        config.set("learning_rate", &["1e-4".to_owned()]).unwrap();
        let differences = differences(&before, &of(&config).unwrap());
        assert_eq!(differences.len(), 2);
        assert!(
            differences.contains(&"seed is 0 there and 7 here".to_owned()),
            "{differences:?}"
        );
    }
}
