//! What a VAE's config.json says, and what of it we support.
//!
//! It knows options, not layers.

use serde_json::{Value, json};

use crate::weights::{ModelError, Options};

const CONFIG: &str = "AutoencoderKL";

/// The options that shape an [`AutoencoderKl`](super::AutoencoderKl), by diffusers' names.
#[derive(Debug, Clone, PartialEq)]
pub struct VaeConfig {
    /// Channels of a picture.
    pub in_channels: i64,
    /// Channels of a decoded picture.
    pub out_channels: i64,
    /// Channels of a latent.
    pub latent_channels: i64,
    /// Widths of the levels, finest first; each but the last halves height and width.
    pub block_out_channels: Vec<i64>,
    /// Residual blocks a level in the encoder; the decoder has one more.
    pub layers_per_block: i64,
    /// Groups of every group norm.
    pub norm_num_groups: i64,
    /// What latents are multiplied with for the UNet, so that they have unit variance.
    pub scaling_factor: f64,
    /// Whether f16 overflows in it, so that it should run in f32 or bf16.
    pub force_upcast: bool,
    /// Whether a 1x1 convolution follows the encoder.
    pub use_quant_conv: bool,
    /// Whether a 1x1 convolution precedes the decoder.
    pub use_post_quant_conv: bool,
    /// Whether the coarsest level attends to itself.
    pub mid_block_add_attention: bool,
}

impl VaeConfig {
    /// Reads a config.json; what it leaves out takes diffusers' default. Options that do not change what
    /// the network computes pass.
    ///
    /// # Errors
    /// An option of the wrong type, or one that is set and not supported.
    pub fn from_json(value: &Value) -> Result<Self, ModelError> {
        let options = Options::new(CONFIG, value)?;
        options.only("_class_name", &[json!(CONFIG)])?;
        options.only("act_fn", &[json!("silu"), json!("swish")])?;
        options.only("shift_factor", &[json!(0), json!(0.0)])?;
        options.only("latents_mean", &[])?;
        options.only("latents_std", &[])?;
        let config = VaeConfig {
            in_channels: options.count("in_channels")?.unwrap_or(3),
            out_channels: options.count("out_channels")?.unwrap_or(3),
            latent_channels: options.count("latent_channels")?.unwrap_or(4),
            block_out_channels: options.counts("block_out_channels")?.unwrap_or_else(|| vec![64]),
            layers_per_block: options.layers("layers_per_block")?.unwrap_or(1),
            norm_num_groups: options.count("norm_num_groups")?.unwrap_or(32),
            scaling_factor: options.float("scaling_factor")?.unwrap_or(0.18215),
            force_upcast: options.flag("force_upcast")?.unwrap_or(true),
            use_quant_conv: options.flag("use_quant_conv")?.unwrap_or(true),
            use_post_quant_conv: options.flag("use_post_quant_conv")?.unwrap_or(true),
            mid_block_add_attention: options.flag("mid_block_add_attention")?.unwrap_or(true),
        };
        let levels = config.block_out_channels.len();
        check_blocks(&options, "down_block_types", "DownEncoderBlock2D", levels)?;
        check_blocks(&options, "up_block_types", "UpDecoderBlock2D", levels)?;
        config.check()?;
        Ok(config)
    }

    /// How many pixels a latent's pixel spans, across and down.
    pub fn downscale(&self) -> i64 {
        1 << (self.block_out_channels.len().max(1) - 1)
    }

    /// Refuses sizes that no network can have.
    pub(super) fn check(&self) -> Result<(), ModelError> {
        let error = |option, problem: String| Err(ModelError::option(CONFIG, option, problem));
        let groups = self.norm_num_groups;
        if !(1..=MOST_LEVELS).contains(&self.block_out_channels.len()) {
            let levels = self.block_out_channels.len();
            return error(
                "block_out_channels",
                format!("has {levels} levels, but must have 1 to {MOST_LEVELS}"),
            );
        }
        if let Some(width) = self.block_out_channels.iter().find(|&width| width % groups != 0) {
            let problem = format!("is {groups}, which does not divide the {width} of block_out_channels");
            return error("norm_num_groups", problem);
        }
        if self.scaling_factor <= 0.0 {
            let problem = format!("is {}, but must be above zero", self.scaling_factor);
            return error("scaling_factor", problem);
        }
        Ok(())
    }
}

/// Halving a picture more often than this leaves nothing of it.
const MOST_LEVELS: usize = 12;

/// Every level's block must be the plain one. A level more or less than widths is a mistake in the file.
fn check_blocks(
    options: &Options<'_>,
    option: &'static str,
    only: &str,
    levels: usize,
) -> Result<(), ModelError> {
    // diffusers' default is a single block, which fits a configuration with a single level.
    let blocks = options.texts(option)?.unwrap_or_else(|| vec![only]);
    if let Some(other) = blocks.iter().find(|&&block| block != only) {
        return Err(options.error(option, format!("has {other:?}, but only {only:?} is supported")));
    }
    if blocks.len() != levels {
        let found = blocks.len();
        return Err(options.error(
            option,
            format!("has {found} blocks for the {levels} of block_out_channels"),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_those_of_diffusers() {
        let config = VaeConfig::from_json(&json!({})).unwrap();
        assert_eq!(config.scaling_factor, 0.18215);
        assert_eq!(config.block_out_channels, [64]);
        assert!(config.use_quant_conv && config.force_upcast);
    }

    #[test]
    fn what_is_not_supported_is_named() {
        for (config, named) in [
            (json!({"_class_name": "AutoencoderTiny"}), "AutoencoderTiny"),
            (json!({"act_fn": "mish"}), "act_fn"),
            (json!({"shift_factor": 0.1159}), "shift_factor"),
            (json!({"latents_mean": [0.0]}), "latents_mean"),
            (
                json!({"up_block_types": ["AttnUpDecoderBlock2D"]}),
                "AttnUpDecoderBlock2D",
            ),
            (json!({"block_out_channels": [64, 64]}), "down_block_types"),
            (json!({"block_out_channels": [48]}), "norm_num_groups"),
            (json!({"block_out_channels": []}), "block_out_channels"),
            (json!({"scaling_factor": 0}), "scaling_factor"),
            (json!({"layers_per_block": "two"}), "layers_per_block"),
        ] {
            let error = VaeConfig::from_json(&config).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
        assert!(VaeConfig::from_json(&json!({"shift_factor": null, "latents_mean": null})).is_ok());
    }
}
