//! Options of the reference that this version answers with "not yet", by name.

/// An option that is known and not built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaterFlag {
    /// Its name, with underscores.
    pub name: &'static str,
    /// Whether it is followed by a value on the command line.
    pub takes_value: bool,
    /// What it belongs to, as a sentence's subject.
    pub feature: &'static str,
    /// The word that asks for none of it, and is fine today.
    pub off: &'static str,
}

impl LaterFlag {
    /// Whether `words` ask for what there is without it.
    pub fn is_off<S: AsRef<str>>(&self, words: &[S]) -> bool {
        words.iter().all(|word| word.as_ref() == self.off)
    }

    const fn unless(self, off: &'static str) -> Self {
        LaterFlag { off, ..self }
    }
}

const HUB: &str = "the model hub";
const RANKS: &str = "fewstep launch, torchrun, srun and mpirun say it in the environment";
const DATASETS: &str = "a data set by its hub name (give its folder with --train_data_dir)";

const fn value(name: &'static str, feature: &'static str) -> LaterFlag {
    LaterFlag {
        name,
        takes_value: true,
        feature,
        off: "",
    }
}

const fn switch(name: &'static str, feature: &'static str) -> LaterFlag {
    LaterFlag {
        name,
        takes_value: false,
        feature,
        off: "false",
    }
}

/// All of them.
pub const LATER: &[LaterFlag] = &[
    switch("push_to_hub", HUB),
    value("hub_token", HUB),
    value("hub_model_id", HUB),
    value("teacher_revision", HUB),
    value("revision", HUB),
    value("local_rank", RANKS).unless("-1"),
    value("encode_batch_size", "give --vae_encode_batch_size"),
    value("dataset_name", DATASETS),
    value("dataset_config_name", DATASETS),
];
