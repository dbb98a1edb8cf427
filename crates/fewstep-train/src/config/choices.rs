//! The options that are one of a few words.

use serde::{Serialize, Serializer};

use super::value::{FlagKind, Word};

macro_rules! choices {
    ($(
        $(#[doc = $doc:literal])*
        $Name:ident { $( $(#[doc = $variant_doc:literal])* $Variant:ident = $word:literal, )* }
    )*) => {$(
        $(#[doc = $doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $Name {
            $( $(#[doc = $variant_doc])* $Variant, )*
        }

        impl $Name {
            /// The word that a flag takes for it.
            pub fn name(self) -> &'static str {
                match self {
                    $( $Name::$Variant => $word, )*
                }
            }
        }

        impl Word for $Name {
            const CHOICES: &'static [&'static str] = &[$($word),*];

            fn parse(word: &str) -> Result<Self, String> {
                match word {
                    $( $word => Ok($Name::$Variant), )*
                    _ => Err(format!("`{word}` is none of {}", Self::CHOICES.join(", "))),
                }
            }

            fn write(&self) -> String {
                self.name().to_owned()
            }
        }

        impl std::fmt::Display for $Name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }

        impl Serialize for $Name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.name())
            }
        }
    )*};
}

choices! {
    /// What is trained.
    Method {
        /// Every parameter of the UNet.
        Full = "full",
        /// Low-rank adapters beside a frozen UNet.
        Lora = "lora",
    }

    /// The dtype in which the networks compute. The trained weights are kept in f32 in any case.
    MixedPrecision {
        /// f32.
        No = "no",
        /// IEEE half precision, with a loss scaler.
        Fp16 = "fp16",
        /// bfloat16.
        Bf16 = "bf16",
    }

    /// What of a run's state is spread over its ranks instead of being kept by each.
    Zero {
        /// Nothing.
        Off = "0",
        /// The first stage: what the optimiser keeps, and what only it needs.
        One = "1",
    }

    /// What a checkpoint that cannot be saved does to the run.
    OnSaveError {
        /// It ends the run.
        Stop = "stop",
        /// It is told, and the run goes on.
        Continue = "continue",
    }

    /// What a loss or a gradient that is not finite does to the run.
    OnNan {
        /// It ends the run.
        Stop = "stop",
        /// Its update is skipped, up to a limit.
        Skip = "skip",
    }

    /// Where a run is reported, besides metrics.jsonl.
    ReportTo {
        /// TensorBoard's event files.
        Tensorboard = "tensorboard",
        /// An offline run of Weights & Biases.
        Wandb = "wandb",
        /// Both.
        All = "all",
        /// Nowhere else.
        None = "none",
    }

    /// The distance between the prediction and its target.
    LossType {
        /// The mean square.
        L2 = "l2",
        /// The pseudo-Huber distance with constant `huber_c`.
        Huber = "huber",
    }

    /// How the learning rate changes over the run.
    LrSchedule {
        /// Falls in a straight line to 0.
        Linear = "linear",
        /// Falls to 0 along half a cosine wave.
        Cosine = "cosine",
        /// The same with restarts; as in the reference there is one cycle.
        CosineWithRestarts = "cosine_with_restarts",
        /// Falls to 1e-7 along a polynomial; as in the reference its power is 1.
        Polynomial = "polynomial",
        /// Stays as it is.
        Constant = "constant",
        /// Rises in a straight line, then stays.
        ConstantWithWarmup = "constant_with_warmup",
    }

    /// How the new projection of the guidance scale starts.
    CondProjInit {
        /// With zeros: the student starts exactly as the teacher.
        Zeros = "zeros",
        /// With the uniform numbers that torch gives a linear layer, as in the reference.
        Default = "default",
    }

    /// The filter that resizes pictures, as Pillow's of the same name.
    Interpolation {
        /// Triangle.
        Bilinear = "bilinear",
        /// Keys' cubic, a = -0.5.
        Bicubic = "bicubic",
        /// The mean of the pixels covered.
        Box = "box",
        /// The pixel at the scaled place.
        Nearest = "nearest",
        /// The pixel nearest to the scaled centre.
        NearestExact = "nearest_exact",
        /// Hamming.
        Hamming = "hamming",
        /// Lanczos with three lobes.
        Lanczos = "lanczos",
    }
}

/// Which pieces of the student keep only their inputs in the forward pass, and are computed again in the backward
/// pass. It changes no gradient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GradientCheckpointing {
    /// None: the fastest, and the most memory.
    Off,
    /// This many, those with the largest feature maps first.
    Pieces(u32),
    /// All of them: the least memory.
    Full,
    /// As few as the memory demands that there is, those first that save most for the time that they take.
    Auto,
}

impl Word for GradientCheckpointing {
    const KIND: FlagKind = FlagKind::Optional("full");

    fn parse(word: &str) -> Result<Self, String> {
        match word {
            "false" => Ok(GradientCheckpointing::Off),
            "full" | "true" => Ok(GradientCheckpointing::Full),
            "auto" => Ok(GradientCheckpointing::Auto),
            number => number.parse().map(GradientCheckpointing::Pieces).map_err(|_| {
                format!("`{word}` is not full, auto, false, or a number of residual and transformer blocks")
            }),
        }
    }

    fn write(&self) -> String {
        match self {
            GradientCheckpointing::Off => "false".to_owned(),
            GradientCheckpointing::Full => "full".to_owned(),
            GradientCheckpointing::Auto => "auto".to_owned(),
            GradientCheckpointing::Pieces(count) => count.to_string(),
        }
    }
}

impl Serialize for GradientCheckpointing {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.write())
    }
}

/// How many steps are profiled, after one that warms up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct ProfiledSteps(pub u32);

impl Word for ProfiledSteps {
    const KIND: FlagKind = FlagKind::Optional("1");

    fn parse(word: &str) -> Result<Self, String> {
        match word {
            "false" => Ok(ProfiledSteps(0)),
            "true" => Ok(ProfiledSteps(1)),
            number => number
                .parse()
                .map(ProfiledSteps)
                .map_err(|_| format!("`{word}` is not a number of steps")),
        }
    }

    fn write(&self) -> String {
        self.0.to_string()
    }
}

impl Serialize for ProfiledSteps {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(self.0)
    }
}
