//! A UNet's config.json, read and checked: every option that Stable Diffusion 1.x, 2.x and XL files set.
//!
//! It knows what may be built, not how. An option that is missing has diffusers' default.

use serde_json::{Map, Value};

use super::Activation;
use super::keys;
use super::levels;
use crate::weights::{ModelError, Options};

/// The class in config.json.
pub(super) const NAME: &str = "UNet2DConditionModel";

/// Halving a latent more often than this leaves nothing of it.
const MOST_LEVELS: usize = 12;

/// As many layers a level would not fit into the largest card.
const MOST_LAYERS: i64 = 16;

/// The kind of a level of the way down or up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockType {
    /// `DownBlock2D`, `UpBlock2D`: residual blocks only.
    Plain,
    /// `CrossAttnDownBlock2D`, `CrossAttnUpBlock2D`: a transformer after each residual block.
    CrossAttention,
}

/// The kind of the lowest level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MidBlockType {
    /// There is none (`null`).
    None,
    /// `UNetMidBlock2D`: one residual block.
    Plain,
    /// `UNetMidBlock2DCrossAttn`: a transformer between two residual blocks.
    CrossAttention,
}

/// How a residual block takes the time embedding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeScaleShift {
    /// Added before the second norm.
    Default,
    /// As scale and shift after it.
    ScaleShift,
}

/// SDXL's conditions besides the prompt (`addition_embed_type` `text_time`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextTime {
    /// Length of the sinusoid of each size (`addition_time_embed_dim`).
    pub time_embed_dim: i64,
    /// Length of the pooled prompt and all sinusoids (`projection_class_embeddings_input_dim`).
    pub input_dim: i64,
}

/// The options of a UNet, named as in config.json. Lists have an entry for each level, from the highest
/// resolution to the lowest, also where the file gives one value for all.
#[derive(Debug, Clone, PartialEq)]
pub struct UNetConfig {
    /// All that config.json holds.
    json: Map<String, Value>,
    /// Height and width of the latents that the model was trained on, where the file says so.
    pub sample_size: Option<[i64; 2]>,
    /// Channels of the latents: 4, or 9 for inpainting models.
    pub in_channels: i64,
    /// Channels of the prediction.
    pub out_channels: i64,
    /// Whether latents come in [0, 1] and are brought to [-1, 1].
    pub center_input_sample: bool,
    /// Whether the cosines of a sinusoid come first.
    pub flip_sin_to_cos: bool,
    /// See [`super::Sinusoid::freq_shift`].
    pub freq_shift: f64,
    /// Kinds of the levels of the way down.
    pub down_block_types: Vec<BlockType>,
    /// Kind of the lowest level.
    pub mid_block_type: MidBlockType,
    /// Kinds of the levels of the way up, from the lowest resolution to the highest.
    pub up_block_types: Vec<BlockType>,
    /// Where both attentions of a transformer block look at the prompt.
    pub only_cross_attention: Vec<bool>,
    /// Channels of the feature maps.
    pub block_out_channels: Vec<i64>,
    /// Residual blocks of the way down; the way up has one more.
    pub layers_per_block: Vec<usize>,
    /// Padding of the halving convolutions.
    pub downsample_padding: i64,
    /// What the residual blocks of the lowest level divide their sums by.
    pub mid_block_scale_factor: f64,
    /// Activation of residual blocks, of the time embedding and of the output.
    pub act_fn: Activation,
    /// Groups of the group norms.
    pub norm_num_groups: i64,
    /// Epsilon of the group norms outside transformers.
    pub norm_eps: f64,
    /// Width of the prompt's embeddings.
    pub cross_attention_dim: Vec<i64>,
    /// Transformer blocks of each transformer of the way down.
    pub transformer_layers_per_block: Vec<Vec<usize>>,
    /// Transformer blocks of each transformer of the way up, from the lowest resolution to the highest.
    pub reverse_transformer_layers_per_block: Vec<Vec<usize>>,
    /// Attention heads. Files call it `attention_head_dim`, by an old mistake of naming.
    pub num_attention_heads: Vec<i64>,
    /// Whether transformers project with linear maps instead of 1x1 convolutions.
    pub use_linear_projection: bool,
    /// Whether attention is computed in f32 whatever the dtype.
    pub upcast_attention: bool,
    /// How residual blocks take the time embedding.
    pub resnet_time_scale_shift: TimeScaleShift,
    /// Length of the time embedding, where it is not four times the first channels.
    pub time_embedding_dim: Option<i64>,
    /// Activation of the time embedding after all is added.
    pub time_embedding_act_fn: Option<Activation>,
    /// Activation after the time embedding's second linear map.
    pub timestep_post_act: Option<Activation>,
    /// Length of the guidance embedding, where the UNet takes one.
    pub time_cond_proj_dim: Option<i64>,
    /// Size of the first convolution.
    pub conv_in_kernel: i64,
    /// Size of the last convolution.
    pub conv_out_kernel: i64,
    /// SDXL's additional conditions.
    pub text_time: Option<TextTime>,
}

impl UNetConfig {
    /// Reads and checks the contents of a UNet's config.json.
    ///
    /// # Errors
    /// An option of the wrong type, one that no Stable Diffusion UNet sets and that is not supported, an
    /// unknown one, or a list that does not have an entry for each level. The error names the option and its
    /// value. Whether the options fit together, [`super::UNet2DConditionModel::new`] checks.
    pub fn from_json(value: &Value) -> Result<Self, ModelError> {
        let options = Options::new(NAME, value)?;
        let json = value.as_object().cloned().unwrap_or_default();
        keys::check(&json, &options)?;

        let block_out_channels = options
            .counts("block_out_channels")?
            .unwrap_or(vec![320, 640, 1280, 1280]);
        let levels = block_out_channels.len();
        if !(1..=MOST_LEVELS).contains(&levels) {
            let problem = format!("has {levels} levels, but must have 1 to {MOST_LEVELS}");
            return Err(options.error("block_out_channels", problem));
        }
        let layers_per_block = levels::counts(&options, "layers_per_block", 2, levels)?;
        if let Some(layers) = layers_per_block.iter().find(|&&layers| layers > MOST_LAYERS) {
            let problem = format!("is {layers}, but must be at most {MOST_LAYERS}");
            return Err(options.error("layers_per_block", problem));
        }
        let layers_per_block: Vec<usize> = layers_per_block.into_iter().map(|n| n as usize).collect();
        let heads = levels::counts(&options, "attention_head_dim", 8, levels)?;
        let heads = match options.get("num_attention_heads") {
            Some(_) => levels::counts(&options, "num_attention_heads", 8, levels)?,
            None => heads,
        };
        let (down_transformers, up_transformers) = levels::transformer_layers(&options, &layers_per_block)?;
        let act = |option| -> Result<Option<Activation>, ModelError> {
            let Some(name) = options.text(option)? else {
                return Ok(None);
            };
            let wanted = || {
                options.error(
                    option,
                    format!("is {name:?}, but must be one of {}", Activation::NAMES),
                )
            };
            Activation::named(name).map(Some).ok_or_else(wanted)
        };
        Ok(UNetConfig {
            sample_size: levels::sample_size(&options)?,
            in_channels: options.count("in_channels")?.unwrap_or(4),
            out_channels: options.count("out_channels")?.unwrap_or(4),
            center_input_sample: options.flag("center_input_sample")?.unwrap_or(false),
            // Left out it is true, and null is as good as false.
            flip_sin_to_cos: options
                .flag("flip_sin_to_cos")?
                .unwrap_or(!json.contains_key("flip_sin_to_cos")),
            freq_shift: options.float("freq_shift")?.unwrap_or(0.0),
            down_block_types: levels::block_types(&options, "down_block_types", levels)?,
            mid_block_type: levels::mid_block_type(&json, &options)?,
            up_block_types: levels::block_types(&options, "up_block_types", levels)?,
            only_cross_attention: levels::flags(&options, "only_cross_attention", levels)?,
            downsample_padding: levels::padding(&options)?,
            mid_block_scale_factor: options.float("mid_block_scale_factor")?.unwrap_or(1.0),
            act_fn: act("act_fn")?.unwrap_or(Activation::Silu),
            norm_num_groups: options.count("norm_num_groups")?.unwrap_or(32),
            norm_eps: options.float("norm_eps")?.unwrap_or(1e-5),
            cross_attention_dim: levels::counts(&options, "cross_attention_dim", 1280, levels)?,
            transformer_layers_per_block: down_transformers,
            reverse_transformer_layers_per_block: up_transformers,
            num_attention_heads: heads,
            use_linear_projection: options.flag("use_linear_projection")?.unwrap_or(false),
            upcast_attention: options.flag("upcast_attention")?.unwrap_or(false),
            resnet_time_scale_shift: time_scale_shift(&options)?,
            time_embedding_dim: options.count("time_embedding_dim")?,
            time_embedding_act_fn: act("time_embedding_act_fn")?,
            timestep_post_act: act("timestep_post_act")?,
            time_cond_proj_dim: options.count("time_cond_proj_dim")?,
            conv_in_kernel: options.count("conv_in_kernel")?.unwrap_or(3),
            conv_out_kernel: options.count("conv_out_kernel")?.unwrap_or(3),
            text_time: text_time(&options)?,
            json,
            block_out_channels,
            layers_per_block,
        })
    }

    /// The contents of a config.json that diffusers loads: all that was read, with the options that were
    /// changed since.
    pub fn to_json(&self) -> Value {
        let mut json = self.json.clone();
        json.insert("_class_name".into(), NAME.into());
        if self.time_cond_proj_dim.is_some() || json.contains_key("time_cond_proj_dim") {
            json.insert("time_cond_proj_dim".into(), self.time_cond_proj_dim.into());
        }
        // diffusers refuses this name for what it calls `attention_head_dim` everywhere else.
        if json
            .get("num_attention_heads")
            .is_some_and(|heads| !heads.is_null())
        {
            let heads = json.insert("num_attention_heads".into(), Value::Null);
            json.insert("attention_head_dim".into(), heads.into());
        }
        Value::Object(json)
    }

    /// This config for a UNet that takes a guidance embedding of this length, or none.
    #[must_use]
    pub fn with_time_cond_proj_dim(mut self, dim: Option<i64>) -> Self {
        self.time_cond_proj_dim = dim;
        self
    }
}

fn time_scale_shift(options: &Options<'_>) -> Result<TimeScaleShift, ModelError> {
    match options.text("resnet_time_scale_shift")?.unwrap_or("default") {
        "default" => Ok(TimeScaleShift::Default),
        "scale_shift" => Ok(TimeScaleShift::ScaleShift),
        other => Err(options.error(
            "resnet_time_scale_shift",
            format!("is {other:?}, but only \"default\" and \"scale_shift\" are supported"),
        )),
    }
}

fn text_time(options: &Options<'_>) -> Result<Option<TextTime>, ModelError> {
    match options.text("addition_embed_type")? {
        None => Ok(None),
        Some("text_time") => {
            let needed = |option: &str| {
                let missing = "is missing, but addition_embed_type text_time needs it";
                options
                    .count(option)?
                    .ok_or_else(|| options.error(option, missing))
            };
            Ok(Some(TextTime {
                time_embed_dim: needed("addition_time_embed_dim")?,
                input_dim: needed("projection_class_embeddings_input_dim")?,
            }))
        }
        Some(other) => Err(options.error(
            "addition_embed_type",
            format!("is {other:?}, but only null and \"text_time\" are supported"),
        )),
    }
}
