//! Prompts to embeddings: the tokenizers and text encoders of a model, one pair for SD 1.x and 2.x, two for
//! SDXL.

use libtorch_ext::{NoGrad, catch};
use tch::{Device, Kind, Tensor};

use super::conditioning::{AddedTensors, Conditions};
use super::lora::{self, LoraUse, Merge};
use crate::clip::{ClipOutput, ClipTextConfig, ClipTextModel, ClipTokenizer};
use crate::lora::Part;
use crate::params::Weights;
use crate::weights::{Folder, ModelError};

/// Which conditions a model's UNet wants, told by its text encoders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// SD 1.x and 2.x: one text encoder, the last hidden state.
    Sd,
    /// SDXL: two text encoders, a pooled embedding, and sizes.
    Sdxl,
}

impl Family {
    /// The family of a model's folder.
    pub fn of(folder: &Folder) -> Self {
        match folder.has(SECOND.1) {
            true => Family::Sdxl,
            false => Family::Sd,
        }
    }
}

const FIRST: (&str, &str) = ("tokenizer", "text_encoder");
const SECOND: (&str, &str) = ("tokenizer_2", "text_encoder_2");

/// What a model reads prompts with.
#[derive(Debug)]
pub struct TextEncoders {
    first: Encoder,
    /// SDXL's.
    second: Option<Encoder>,
}

#[derive(Debug)]
struct Encoder {
    tokenizer: ClipTokenizer,
    model: ClipTextModel,
    weights: Weights,
}

/// Prompts as token ids: `[B, S]` i64 of each tokenizer.
#[derive(Debug)]
pub struct TokenIds {
    first: Tensor,
    second: Option<Tensor>,
}

/// Prompts as a UNet attends to them.
#[derive(Debug)]
pub struct EncodedPrompts {
    /// `[B, S, D]`: SD's last hidden states; SDXL's penultimate ones of both encoders, side by side.
    pub prompt_embeds: Tensor,
    /// SDXL's pooled embeddings, of the second encoder: `[B, P]`.
    pub text_embeds: Option<Tensor>,
}

impl TextEncoders {
    /// Loads the text encoders of a model with their tokenizers.
    ///
    /// # Errors
    /// A component that is missing or not supported, or a second encoder without a projection.
    pub fn load(folder: &Folder, kind: Kind, device: Device) -> Result<Self, ModelError> {
        TextEncoders::load_with(folder, kind, device, &[], Merge::Attach)
    }

    /// The same, with the adapters that these files have for text encoders.
    ///
    /// # Errors
    /// As for [`TextEncoders::load`], and adapters of another architecture.
    pub(super) fn load_with(
        folder: &Folder,
        kind: Kind,
        device: Device,
        loras: &[LoraUse],
        merge: Merge,
    ) -> Result<Self, ModelError> {
        let family = Family::of(folder);
        if let (Family::Sd, Some(lora)) = (family, lora::any_for(Part::TextEncoder2, loras)) {
            return Err(ModelError::malformed(
                &lora.file.path,
                "has adapters for a second text encoder, which only SDXL has: it was made for another model",
            ));
        }
        let load = |names, part| {
            let encoder = Encoder::load(folder, names, kind, device)?;
            Ok::<_, ModelError>(Encoder {
                weights: lora::with_loras(encoder.weights, part, loras, merge)?,
                ..encoder
            })
        };
        let second = match family {
            Family::Sd => None,
            Family::Sdxl => Some(load(SECOND, Part::TextEncoder2)?),
        };
        if let Some(second) = &second
            && second.model.config().projection_dim.is_none()
        {
            return Err(ModelError::malformed(
                &folder.path().join(SECOND.1),
                "has no text projection (its config's architectures must name CLIPTextModelWithProjection), but \
                 SDXL's pooled embedding is made by it",
            ));
        }
        Ok(TextEncoders {
            first: load(FIRST, Part::TextEncoder)?,
            second,
        })
    }

    /// The encoders' configurations and weights: with the token ids, all that embeddings depend on.
    pub fn networks(&self) -> impl Iterator<Item = (&ClipTextConfig, &Weights)> {
        let both = std::iter::once(&self.first).chain(&self.second);
        both.map(|encoder| (encoder.model.config(), &encoder.weights))
    }

    /// Which family these encoders belong to.
    pub fn family(&self) -> Family {
        match self.second {
            None => Family::Sd,
            Some(_) => Family::Sdxl,
        }
    }

    /// The embeddings of prompts. An empty prompt is encoded like any other.
    ///
    /// # Errors
    /// No prompts, or token ids that an encoder does not know.
    pub fn encode<S: AsRef<str>>(&self, prompts: &[S]) -> Result<EncodedPrompts, ModelError> {
        self.encode_ids(&self.tokenize(prompts)?)
    }

    /// The prompts' token ids: all that their embeddings depend on, besides the encoders.
    ///
    /// # Errors
    /// A text that has no tokens.
    pub fn tokenize<S: AsRef<str>>(&self, prompts: &[S]) -> Result<TokenIds, ModelError> {
        let second = self.second.as_ref();
        Ok(TokenIds {
            first: self.first.tokenizer.encode(prompts)?,
            second: second
                .map(|second| second.tokenizer.encode(prompts))
                .transpose()?,
        })
    }

    /// The embeddings of token ids.
    ///
    /// # Errors
    /// No prompts, or token ids that an encoder does not know.
    pub fn encode_ids(&self, ids: &TokenIds) -> Result<EncodedPrompts, ModelError> {
        let first = self.first.encode(&ids.first)?;
        let (Some(second), Some(ids)) = (&self.second, &ids.second) else {
            return Ok(EncodedPrompts {
                prompt_embeds: first.last_hidden_state,
                text_embeds: None,
            });
        };
        let second = second.encode(ids)?;
        let states = [first.penultimate_hidden_state, second.penultimate_hidden_state];
        Ok(EncodedPrompts {
            prompt_embeds: catch(|| Tensor::cat(&states, -1))?,
            text_embeds: Some(second.pooled),
        })
    }
}

impl Encoder {
    fn load(
        folder: &Folder,
        (tokenizer, model): (&str, &str),
        kind: Kind,
        device: Device,
    ) -> Result<Self, ModelError> {
        let tokenizer = ClipTokenizer::load(&folder.part(tokenizer)?)?;
        let (model, weights) = ClipTextModel::load(&folder.component(model)?, kind, device)?;
        Ok(Encoder {
            tokenizer,
            model,
            weights,
        })
    }

    fn encode(&self, input_ids: &Tensor) -> Result<ClipOutput, ModelError> {
        self.model.check_input_ids(input_ids)?;
        Ok(catch(|| {
            let _no_grad = NoGrad::new();
            let input_ids = input_ids.to_device(self.weights.device());
            self.model.forward(&self.weights, &input_ids)
        })?)
    }
}

impl TokenIds {
    /// The ids of some of the prompts, by their numbers.
    pub fn rows(&self, rows: &[i64]) -> Self {
        let rows = Tensor::from_slice(rows);
        let pick = |ids: &Tensor| ids.index_select(0, &rows);
        TokenIds {
            first: pick(&self.first),
            second: self.second.as_ref().map(pick),
        }
    }

    /// Each prompt's ids, of one tokenizer after the other.
    pub fn of_each(&self) -> Vec<Vec<i64>> {
        let both: Vec<&Tensor> = std::iter::once(&self.first).chain(&self.second).collect();
        let ids = Tensor::cat(&both, 1);
        (0..ids.size()[0])
            .map(|row| ids.get(row).iter::<i64>().into_iter().flatten().collect())
            .collect()
    }
}

impl EncodedPrompts {
    /// The same embeddings in `kind`.
    pub fn to_kind(&self, kind: Kind) -> Self {
        self.map(|t| t.to_kind(kind))
    }

    /// One row of zeros: what SDXL takes for no prompt at all.
    pub fn zeros(&self) -> Self {
        self.map(|t| t.narrow(0, 0, 1).zeros_like())
    }

    /// What a UNet is told with these prompts; `time_ids` (`[B, 6]` f32) are SDXL's sizes and mean nothing to
    /// others.
    pub fn with_sizes(self, time_ids: &Tensor) -> Conditions {
        Conditions {
            prompt_embeds: self.prompt_embeds,
            added: self.text_embeds.map(|text_embeds| AddedTensors {
                text_embeds,
                time_ids: time_ids.shallow_clone(),
            }),
        }
    }

    /// One prompt's, as a batch of one.
    pub fn row(&self, row: i64) -> Self {
        self.map(|t| t.narrow(0, row, 1))
    }

    /// Several, one after another.
    ///
    /// # Panics
    /// Where LibTorch does: none at all, or embeddings of different encoders.
    pub fn cat(several: &[EncodedPrompts]) -> Self {
        let prompt_embeds: Vec<&Tensor> = several.iter().map(|one| &one.prompt_embeds).collect();
        let text_embeds: Option<Vec<&Tensor>> = several.iter().map(|one| one.text_embeds.as_ref()).collect();
        EncodedPrompts {
            prompt_embeds: Tensor::cat(&prompt_embeds, 0),
            text_embeds: text_embeds.map(|all| Tensor::cat(&all, 0)),
        }
    }

    /// The same with both tensors replaced by `f` of them.
    pub fn map(&self, f: impl Fn(&Tensor) -> Tensor) -> Self {
        EncodedPrompts {
            prompt_embeds: f(&self.prompt_embeds),
            text_embeds: self.text_embeds.as_ref().map(f),
        }
    }
}
