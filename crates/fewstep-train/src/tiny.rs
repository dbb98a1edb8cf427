//! Options for tests: those of a run with the smallest teacher.

use crate::config::Config;

/// The teacher's folder.
pub(crate) const TEACHER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/models/tiny-sd");

/// Five steps on the CPU, with these flags besides.
pub(crate) fn config(flags: &[(&str, &str)]) -> Config {
    let mut config = Config::default();
    let given = [
        ("pretrained_teacher_model", TEACHER),
        ("max_train_steps", "5"),
        ("device", "cpu"),
    ];
    for (name, word) in given.iter().chain(flags) {
        config.set(name, &[(*word).to_owned()]).unwrap();
    }
    config
}
