//! What a UNet is given, and the check that it fits.

use tch::{Kind, Tensor};

use super::config::{TextTime, UNetConfig};
use crate::weights::ModelError;

/// The tensors of one UNet evaluation, all on the device of the weights, of any floating dtype.
#[derive(Debug, Clone, Copy)]
pub struct UNetInput<'a> {
    /// Noisy latents, `[B, in_channels, h, w]`.
    pub sample: &'a Tensor,
    /// Timesteps, `[B]`, i64 or f32.
    pub timestep: &'a Tensor,
    /// The prompt's embeddings, `[B, S, cross_attention_dim]`.
    pub encoder_hidden_states: &'a Tensor,
    /// The guidance embedding, `[B, time_cond_proj_dim]`; without it, only the timestep speaks.
    pub timestep_cond: Option<&'a Tensor>,
    /// What SDXL adds: needed where the config's `addition_embed_type` is `text_time`.
    pub added: Option<AddedConditions<'a>>,
}

/// SDXL's conditions besides the prompt.
#[derive(Debug, Clone, Copy)]
pub struct AddedConditions<'a> {
    /// The prompt's pooled embedding, `[B, P]`.
    pub text_embeds: &'a Tensor,
    /// Original height and width, crop top and left, target height and width: `[B, 6]`, f32 (16-bit floats
    /// cannot hold such numbers).
    pub time_ids: &'a Tensor,
}

/// Whether `input` fits `config`; the error says which tensor has which shape, and which it must have.
pub(super) fn check(config: &UNetConfig, input: &UNetInput<'_>) -> Result<(), ModelError> {
    let sample = input.sample.size();
    let batch = match sample[..] {
        [batch, channels, h, w] if channels == config.in_channels && batch > 0 && h > 0 && w > 0 => batch,
        _ => {
            let wanted = format!("[B, {}, h, w]", config.in_channels);
            return Err(misfit("sample", input.sample, &wanted));
        }
    };
    fits("timestep", input.timestep, &[Some(batch)])?;
    let context = config.context_dim();
    fits(
        "encoder_hidden_states",
        input.encoder_hidden_states,
        &[Some(batch), None, context],
    )?;
    match (input.timestep_cond, config.time_cond_proj_dim) {
        (None, _) => {}
        (Some(cond), Some(dim)) => fits("timestep_cond", cond, &[Some(batch), Some(dim)])?,
        (Some(_), None) => {
            return Err(ModelError::input(
                "the UNet's input `timestep_cond`",
                "is given, but its config has no `time_cond_proj_dim`: this UNet knows no guidance embedding",
            ));
        }
    }
    match (&input.added, &config.text_time) {
        (None, None) => {}
        (Some(added), Some(text_time)) => {
            fits("text_embeds", added.text_embeds, &[Some(batch), None])?;
            fits("time_ids", added.time_ids, &[Some(batch), None])?;
            let (pooled, ids) = (added.text_embeds.size()[1], added.time_ids.size()[1]);
            let TextTime {
                time_embed_dim,
                input_dim,
            } = *text_time;
            if pooled + ids * time_embed_dim != input_dim {
                let problem = format!(
                    "are [B, {pooled}] and [B, {ids}], but {pooled} and {ids} sinusoids of {time_embed_dim} do \
                     not make the projection_class_embeddings_input_dim of {input_dim}"
                );
                return Err(ModelError::input(
                    "the UNet's inputs `text_embeds` and `time_ids`",
                    problem,
                ));
            }
        }
        (None, Some(_)) => {
            return Err(ModelError::input(
                "the UNet's inputs `text_embeds` and `time_ids`",
                "are missing, but its `addition_embed_type` text_time needs them",
            ));
        }
        (Some(_), None) => {
            return Err(ModelError::input(
                "the UNet's inputs `text_embeds` and `time_ids`",
                "are given, but its config has no `addition_embed_type`",
            ));
        }
    }
    for (name, tensor) in named(input) {
        let may_be_whole = matches!(name, "timestep" | "time_ids");
        let whole = matches!(tensor.kind(), Kind::Int64 | Kind::Int);
        if !(tensor.is_floating_point() || may_be_whole && whole) {
            let problem = format!("is {:?}, but must be floating point", tensor.kind());
            return Err(ModelError::input(format!("the UNet's input `{name}`"), problem));
        }
    }
    Ok(())
}

fn named<'a>(input: &UNetInput<'a>) -> impl Iterator<Item = (&'static str, &'a Tensor)> {
    [
        ("sample", Some(input.sample)),
        ("timestep", Some(input.timestep)),
        ("encoder_hidden_states", Some(input.encoder_hidden_states)),
        ("timestep_cond", input.timestep_cond),
        ("text_embeds", input.added.map(|added| added.text_embeds)),
        ("time_ids", input.added.map(|added| added.time_ids)),
    ]
    .into_iter()
    .filter_map(|(name, tensor)| Some((name, tensor?)))
}

/// Whether each dimension is the wanted one; `None` takes any but zero.
fn fits(name: &str, tensor: &Tensor, wanted: &[Option<i64>]) -> Result<(), ModelError> {
    let size = tensor.size();
    let same = size.len() == wanted.len()
        && size
            .iter()
            .zip(wanted)
            .all(|(&is, want)| want.map_or(is > 0, |want| is == want));
    if same {
        return Ok(());
    }
    let wanted: Vec<String> = wanted
        .iter()
        .map(|dim| dim.map_or("any".to_owned(), |dim| dim.to_string()))
        .collect();
    Err(misfit(name, tensor, &format!("[{}]", wanted.join(", "))))
}

fn misfit(name: &str, tensor: &Tensor, wanted: &str) -> ModelError {
    let problem = format!("has shape {:?}, but must have {wanted}", tensor.size());
    ModelError::input(format!("the UNet's input `{name}`"), problem)
}
