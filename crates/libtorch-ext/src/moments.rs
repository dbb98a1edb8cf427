//! Adam's two moments of one parameter, in f32 or in 8 bits. It knows what they are made of, not how they are
//! updated.

use tch::{Device, Kind, Tensor};

/// Numbers that share a scale.
pub const BLOCK: i64 = 256;

/// How the moments of a parameter are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// In f32.
    Full,
    /// In 8 bits a number, as bitsandbytes' blockwise optimisers keep them.
    Blocks,
}

impl Form {
    /// The bytes that both moments of a parameter of so many numbers take.
    pub fn bytes(self, numbers: u64) -> u64 {
        let of_one = match self {
            Form::Full => 4 * numbers,
            Form::Blocks => numbers + 4 * numbers.div_ceil(BLOCK as u64),
        };
        2 * of_one
    }

    /// What [`Moments::named`] gives for a parameter of this shape: names, shapes and dtypes.
    pub fn described(self, shape: &[i64]) -> Vec<(&'static str, Vec<i64>, Kind)> {
        let whole = |name, kind| (name, shape.to_vec(), kind);
        let scales = |name| (name, vec![scales(shape)], Kind::Float);
        match self {
            Form::Full => vec![whole("exp_avg", Kind::Float), whole("exp_avg_sq", Kind::Float)],
            Form::Blocks => vec![
                whole("exp_avg", Kind::Uint8),
                scales("exp_avg_absmax"),
                whole("exp_avg_sq", Kind::Uint8),
                scales("exp_avg_sq_absmax"),
            ],
        }
    }
}

/// Both moments of a parameter.
#[derive(Debug)]
pub enum Moments {
    /// f32 tensors of the parameter's shape.
    Full {
        /// The moving average of the gradient.
        exp_avg: Tensor,
        /// The moving average of its square.
        exp_avg_sq: Tensor,
    },
    /// 8 bits a number.
    Blocks {
        /// The moving average of the gradient, in codes of the signed map.
        exp_avg: Blocks,
        /// The moving average of its square, in codes of the unsigned map.
        exp_avg_sq: Blocks,
    },
}

/// Numbers in 8 bits: each is its code's number in a map, times the largest absolute value of its block.
#[derive(Debug)]
pub struct Blocks {
    /// u8 codes in the parameter's shape.
    pub codes: Tensor,
    /// f32 `[ceil(n / 256)]`, one a block of 256 numbers that follow each other.
    pub absmax: Tensor,
}

impl Moments {
    /// Zeros for `param`, of its shape and on its device.
    pub fn zeros(param: &Tensor, form: Form) -> Self {
        let zeros = || param.detach().zeros_like();
        let blocks = || Blocks::zeros(&param.size(), param.device());
        match form {
            Form::Full => Moments::Full {
                exp_avg: zeros(),
                exp_avg_sq: zeros(),
            },
            Form::Blocks => Moments::Blocks {
                exp_avg: blocks(),
                exp_avg_sq: blocks(),
            },
        }
    }

    /// The tensors that they are made of, each with what it is.
    pub fn named(&self) -> Vec<(&'static str, &Tensor)> {
        match self {
            Moments::Full { exp_avg, exp_avg_sq } => vec![("exp_avg", exp_avg), ("exp_avg_sq", exp_avg_sq)],
            Moments::Blocks { exp_avg, exp_avg_sq } => vec![
                ("exp_avg", &exp_avg.codes),
                ("exp_avg_absmax", &exp_avg.absmax),
                ("exp_avg_sq", &exp_avg_sq.codes),
                ("exp_avg_sq_absmax", &exp_avg_sq.absmax),
            ],
        }
    }
}

impl Blocks {
    fn zeros(shape: &[i64], device: Device) -> Self {
        Blocks {
            codes: Tensor::zeros(shape, (Kind::Uint8, device)),
            absmax: Tensor::zeros([scales(shape)], (Kind::Float, device)),
        }
    }
}

/// How many scales the numbers of a parameter of this shape have.
fn scales(shape: &[i64]) -> i64 {
    let numbers: i64 = shape.iter().product();
    numbers.unsigned_abs().div_ceil(BLOCK as u64) as i64
}
