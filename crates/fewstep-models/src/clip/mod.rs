//! CLIP: text to token ids to the states that condition a UNet.

mod config;
mod layer;
mod special;
mod text_model;
mod tokenizer;
mod vocabulary;

pub use config::{Activation, ClipTextConfig, Pooling};
pub use text_model::{ClipOutput, ClipTextModel};
pub use tokenizer::ClipTokenizer;
