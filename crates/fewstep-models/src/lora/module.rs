//! One low-rank adapter, and the networks of a pipeline that can carry adapters.
//!
//! It knows shapes, not names.

use tch::Tensor;

/// A network of a pipeline that adapters attach to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// The UNet.
    UNet,
    /// The text encoder, the first of SDXL's two.
    TextEncoder,
    /// SDXL's second text encoder.
    TextEncoder2,
}

impl Part {
    /// All parts.
    pub const ALL: [Part; 3] = [Part::UNet, Part::TextEncoder, Part::TextEncoder2];

    /// Its folder in diffusers' layout, and what its names begin with in diffusers' files.
    pub fn name(self) -> &'static str {
        match self {
            Part::UNet => "unet",
            Part::TextEncoder => "text_encoder",
            Part::TextEncoder2 => "text_encoder_2",
        }
    }
}

/// The adapter of one linear map or convolution: it adds `alpha / rank * B(A(x))`.
#[derive(Debug)]
pub struct LoraModule {
    /// The map down: `[rank, inputs]`, or for a convolution `[rank, inputs, k, k]`.
    pub a: Tensor,
    /// The map up: `[outputs, rank]`, or for a convolution `[outputs, rank, 1, 1]`.
    pub b: Tensor,
    /// The numerator of the scale.
    pub alpha: f64,
}

impl LoraModule {
    /// The adapter's rank: the rows of A.
    pub fn rank(&self) -> i64 {
        self.a.size().first().copied().unwrap_or(0)
    }

    /// What `B(A(x))` is multiplied by: alpha / rank.
    pub fn scale(&self) -> f64 {
        self.alpha / self.rank() as f64
    }

    /// The number of numbers in both matrices.
    pub fn parameters(&self) -> usize {
        self.a.numel() + self.b.numel()
    }
}

/// Whether two shapes are those of one adapter; the error says what is wrong with them.
pub(super) fn check_shapes(a: &[i64], b: &[i64]) -> Result<(), String> {
    let fits = match (a, b) {
        ([r, _], [_, s]) => r == s,
        ([r, _, _, _], [_, s, 1, 1]) => r == s,
        _ => false,
    };
    if fits && a.iter().chain(b).all(|&size| size > 0) {
        return Ok(());
    }
    Err(format!(
        "is {a:?} and its counterpart {b:?}, but they must be [r, in] and [out, r], or [r, in, k, k] and [out, r, 1, 1]"
    ))
}

#[cfg(test)]
mod tests {
    use super::check_shapes;

    #[test]
    fn only_matrices_of_one_rank_make_an_adapter() {
        assert!(check_shapes(&[4, 8], &[16, 4]).is_ok());
        assert!(check_shapes(&[4, 8, 3, 3], &[16, 4, 1, 1]).is_ok());
        for (a, b) in [
            (&[4, 8][..], &[16, 5][..]),
            (&[4, 8, 3, 3], &[16, 4]),
            (&[4, 8], &[16, 4, 1, 1]),
            (&[4, 8, 3, 3], &[16, 4, 3, 3]),
            (&[0, 8], &[16, 0]),
            (&[4], &[4]),
        ] {
            let error = check_shapes(a, b).unwrap_err();
            assert!(error.contains(&format!("{a:?}")), "{error}");
        }
    }
}
