//! The recipe of a teacher: what its networks are like and how they are trained. `demo/teacher.toml` is the
//! committed teacher's.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

/// A whole recipe. The same recipe gives the same draws on any device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Of the world that is shown, and of every draw.
    pub seed: u64,
    /// The VAE.
    pub vae: VaeRecipe,
    /// The text encoder.
    pub text_encoder: TextRecipe,
    /// The UNet.
    pub unet: UNetRecipe,
    /// The training of UNet and text encoder.
    pub denoiser: DenoiserRecipe,
    /// How the result is judged.
    pub report: ReportRecipe,
}

/// The judgement of the finished teacher.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReportRecipe {
    /// Pictures that are painted at each guidance scale.
    pub pictures: u64,
    /// Pictures that the checker learns from, half of them through the VAE.
    pub calibration: u64,
}

/// How a network is trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// Updates.
    pub steps: u64,
    /// Pictures an update.
    pub batch: u64,
    /// The highest learning rate.
    pub learning_rate: f64,
    /// Updates over which it grows to that.
    pub warmup: u64,
    /// The share of the updates after which it falls to 0, evenly.
    pub decay_from: f64,
    /// AdamW's decoupled decay.
    pub weight_decay: f64,
    /// The most that the moving average of the weights keeps in an update.
    pub ema_decay: f64,
}

/// The VAE: `block_out_channels.len() - 1` halvings of height and width.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VaeRecipe {
    /// Widths of the levels, finest first.
    pub block_out_channels: Vec<i64>,
    /// Residual blocks a level.
    pub layers_per_block: i64,
    /// Groups of every group norm.
    pub norm_num_groups: i64,
    /// Weight of the squared error beside the absolute error.
    pub squared_weight: f64,
    /// Weight of the absolute error of differences between neighbouring pixels: of edges and patterns.
    pub edge_weight: f64,
    /// Weight of the divergence from a unit normal distribution.
    pub kl_weight: f64,
    /// How it is trained.
    pub training: Training,
}

/// The CLIP text encoder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextRecipe {
    /// Width of a token's state.
    pub hidden_size: i64,
    /// Width between the two linear maps of a layer.
    pub intermediate_size: i64,
    /// Layers.
    pub num_hidden_layers: i64,
    /// Heads of each attention.
    pub num_attention_heads: i64,
    /// Tokens of a text, start and end included.
    pub max_length: i64,
}

/// The UNet. The finest level has no attention to the text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UNetRecipe {
    /// Widths of the levels, finest first.
    pub block_out_channels: Vec<i64>,
    /// Residual blocks a level on the way down; one more on the way up.
    pub layers_per_block: i64,
    /// Transformer layers of each attention, a number a level.
    pub transformer_layers_per_block: Vec<i64>,
    /// Heads of every attention.
    pub num_attention_heads: i64,
    /// Groups of every group norm.
    pub norm_num_groups: i64,
}

/// The training of UNet and text encoder together, on latents made beforehand.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DenoiserRecipe {
    /// How many pictures are drawn and encoded.
    pub pictures: u64,
    /// The signal-to-noise ratio above which an error in the picture weighs no more (after Hang and others,
    /// "Efficient diffusion training via min-SNR weighting strategy", 2023).
    pub min_snr_gamma: f64,
    /// The share of pictures that are shown without their caption, for guidance.
    pub caption_drop: f64,
    /// How it is trained.
    pub training: Training,
}

impl Recipe {
    /// Reads a TOML file.
    ///
    /// # Errors
    /// The file cannot be read, or a key in it is missing, unknown or of the wrong type.
    pub fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("the recipe {} could not be read", path.display()))?;
        let recipe: Recipe =
            toml::from_str(&text).with_context(|| format!("{} is not a recipe", path.display()))?;
        recipe
            .check()
            .with_context(|| format!("{} cannot be followed", path.display()))?;
        Ok(recipe)
    }

    fn check(&self) -> Result<()> {
        for (name, training) in [("vae", &self.vae.training), ("denoiser", &self.denoiser.training)] {
            ensure!(
                training.steps > 0 && training.batch > 0,
                "`steps` and `batch` of [{name}.training] must be above 0"
            );
        }
        ensure!(
            self.denoiser.pictures > 0,
            "`pictures` of [denoiser] must be above 0"
        );
        ensure!(
            self.unet.transformer_layers_per_block.len() == self.unet.block_out_channels.len(),
            "`transformer_layers_per_block` of [unet] must have as many numbers as `block_out_channels`"
        );
        Ok(())
    }

    /// The same networks after a few updates: it shows that every stage runs, and paints nothing.
    pub fn in_miniature(mut self) -> Self {
        for training in [&mut self.vae.training, &mut self.denoiser.training] {
            training.steps = 20;
            training.batch = 8;
        }
        self.denoiser.pictures = 256;
        self.report.pictures = 16;
        self.report.calibration = 300;
        self
    }
}

impl Training {
    /// The learning rate of the update number `step`, from 0.
    pub fn learning_rate_at(&self, step: u64) -> f64 {
        let (step, steps) = (step as f64, self.steps as f64);
        let grown = ((step + 1.0) / (self.warmup as f64 + 1.0)).min(1.0);
        let from = self.decay_from * steps;
        let left = if step < from {
            1.0
        } else {
            (steps - step) / (steps - from)
        };
        self.learning_rate * grown * left
    }

    /// What the moving average keeps in the update number `step`: less at first, so that it forgets the
    /// random start.
    pub fn ema_decay_at(&self, step: u64) -> f64 {
        let step = step as f64;
        self.ema_decay.min((1.0 + step) / (10.0 + step))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn committed() -> Recipe {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../demo/teacher.toml");
        Recipe::load(Path::new(path)).unwrap()
    }

    #[test]
    fn the_committed_recipe_can_be_followed() {
        let recipe = committed();
        assert!(recipe.in_miniature().check().is_ok());
    }

    #[test]
    fn the_learning_rate_grows_stays_and_falls_to_nothing() {
        let training = Training {
            steps: 1000,
            warmup: 100,
            decay_from: 0.6,
            learning_rate: 1.0,
            ..committed().vae.training
        };
        let at = |step| training.learning_rate_at(step);
        assert!(at(0) > 0.0 && at(0) < 0.02);
        assert_eq!((at(100), at(599)), (1.0, 1.0));
        assert!((at(800) - 0.5).abs() < 1e-9);
        assert!(at(999) > 0.0 && at(999) < 0.005);
    }

    #[test]
    fn an_unknown_key_is_an_error_that_names_it() {
        let error = toml::from_str::<Training>("stepss = 3").unwrap_err().to_string();
        assert!(error.contains("stepss"), "{error}");
    }
}
