//! `fewstep debug forward`: one module of a model, from its inputs to its outputs.

use std::path::{Path, PathBuf};

use fewstep_models::clip::{ClipTextModel, ClipTokenizer};
use fewstep_models::lora;
use fewstep_models::pipeline::with_loras;
use fewstep_models::unet::{AddedConditions, UNet2DConditionModel, UNetConfig, UNetInput};
use fewstep_models::vae::AutoencoderKl;
use fewstep_models::weights::{Component, Folder};
use libtorch_ext::{NoGrad, catch};
use tch::{Device, Kind, Tensor};

use super::inputs::{Inputs, write};
use crate::device::{self, Dtype};
use crate::failure::Usage;
use crate::lora_flags::LoraFlags;

/// Runs one module of a model on tensors from a file. Outputs are written as f32, whatever dtype they were
/// computed in.
#[derive(Debug, clap::Args)]
#[command(rename_all = "snake_case", after_help = TABLE_AND_EXAMPLES)]
pub(super) struct Args {
    /// The model: a folder in diffusers' layout
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// The module to run
    #[arg(long, value_enum, value_name = "NAME", rename_all = "snake_case")]
    component: Part,
    /// A safetensors file with the inputs
    #[arg(long, value_name = "FILE")]
    inputs: Option<PathBuf>,
    /// The safetensors file to write
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// What the module computes in
    #[arg(long, value_enum, default_value = "f32")]
    dtype: Dtype,
    /// Where it computes: cpu, cuda, cuda:N or auto
    #[arg(long, default_value = "cpu")]
    device: String,
    /// A UNet's folder, to be used instead of the model's
    #[arg(long, value_name = "DIR")]
    unet: Option<PathBuf>,
    #[command(flatten)]
    lora: LoraFlags,
    /// For a tokenizer: a text; may be given several times
    #[arg(long, allow_hyphen_values = true)]
    text: Vec<String>,
}

const TABLE_AND_EXAMPLES: &str = "\
Components, their inputs, and -> their outputs:
  unet            sample (B,4,h,w), timestep (B), encoder_hidden_states (B,S,D),
                  optional timestep_cond (B,C), for SDXL text_embeds (B,P) and
                  time_ids (B,6) -> sample
  vae_encode      pixels (B,3,H,W) in [-1,1] -> mean, logvar
  vae_decode      latents, divided by the scaling factor -> pixels
  text_encoder    input_ids (B,77)
                  -> last_hidden_state, penultimate_hidden_state
  text_encoder_2  the same, and -> text_embeds
  tokenizer, tokenizer_2
                  --text, repeated, instead of --inputs -> input_ids

Examples:
  fewstep debug forward --model models/sd15 --component unet \\
      --inputs in.safetensors --output out.safetensors
  fewstep debug forward --model models/sd15 --component unet \\
      --lora runs/lora/pytorch_lora_weights.safetensors=0.8 \\
      --inputs in.safetensors --output out.safetensors
  fewstep debug forward --model models/sd15 --component tokenizer \\
      --text 'a cat' --text '' --output ids.safetensors";

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
enum Part {
    Unet,
    VaeEncode,
    VaeDecode,
    TextEncoder,
    #[value(name = "text_encoder_2")]
    TextEncoder2,
    Tokenizer,
    #[value(name = "tokenizer_2")]
    Tokenizer2,
}

/// Reads, computes, writes.
///
/// # Errors
/// Wrong tensors, a wrong model, and what LibTorch refuses.
pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let is_tokenizer = matches!(args.component, Part::Tokenizer | Part::Tokenizer2);
    if is_tokenizer == args.text.is_empty() {
        return Err(Usage::error(
            "--text is for the components tokenizer and tokenizer_2, and they need it",
        ));
    }
    if is_tokenizer && args.inputs.is_some() {
        return Err(Usage::error(
            "--inputs has no part in a tokenizer: give it its texts with --text",
        ));
    }
    if args.unet.is_some() && args.component != Part::Unet {
        return Err(Usage::error("--unet is for --component unet"));
    }
    if !args.lora.is_empty() && args.component != Part::Unet {
        return Err(Usage::error("--lora is for --component unet"));
    }
    let folder = Folder::open(&args.model)?;
    let outputs = match args.component {
        Part::Unet => unet(args, &folder)?,
        Part::VaeEncode | Part::VaeDecode => vae(args, &folder)?,
        Part::TextEncoder => text_encoder(args, &folder.component("text_encoder")?)?,
        Part::TextEncoder2 => text_encoder(args, &folder.component("text_encoder_2")?)?,
        Part::Tokenizer => tokenizer(args, &folder.part("tokenizer")?)?,
        Part::Tokenizer2 => tokenizer(args, &folder.part("tokenizer_2")?)?,
    };
    write(&args.output, outputs.iter().map(|(name, tensor)| (*name, tensor)))
}

type Outputs = Vec<(&'static str, Tensor)>;

fn unet(args: &Args, folder: &Folder) -> anyhow::Result<Outputs> {
    let mut inputs = Inputs::open(args.inputs.as_deref())?;
    let device = device::open(&args.device)?;
    let component = match &args.unet {
        Some(path) => Component::open(path)?,
        None => folder.component("unet")?,
    };
    let network = UNet2DConditionModel::new(component.parse(UNetConfig::from_json)?)?;
    let sample = inputs.floats("sample", &["B", "4", "h", "w"])?.to_device(device);
    let timestep = inputs.integers("timestep", &["B"])?.to_device(device);
    let text = inputs
        .floats("encoder_hidden_states", &["B", "S", "D"])?
        .to_device(device);
    let mut optional = |name: &str, shape: &[&str]| -> anyhow::Result<Option<Tensor>> {
        Ok(inputs
            .optional_floats(name, shape)?
            .map(|tensor| tensor.to_device(device)))
    };
    let timestep_cond = optional("timestep_cond", &["B", "C"])?;
    let text_embeds = optional("text_embeds", &["B", "P"])?;
    let time_ids = optional("time_ids", &["B", "6"])?;
    inputs.finish();
    let added = match (&text_embeds, &time_ids) {
        (Some(text_embeds), Some(time_ids)) => Some(AddedConditions {
            text_embeds,
            time_ids,
        }),
        (None, None) => None,
        _ => anyhow::bail!("text_embeds and time_ids come together or not at all"),
    };
    let input = UNetInput {
        sample: &sample,
        timestep: &timestep,
        encoder_hidden_states: &text,
        timestep_cond: timestep_cond.as_ref(),
        added,
    };
    network.check_input(&input)?;
    let (loras, merge) = args.lora.read()?;
    let weights = component.load(network.layout(), args.dtype.kind(), device)?;
    let weights = with_loras(weights, lora::Part::UNet, &loras, merge)?;
    let _no_grad = NoGrad::new();
    let out = catch(|| network.forward(&weights, &input))?;
    Ok(vec![("sample", out)])
}

fn vae(args: &Args, folder: &Folder) -> anyhow::Result<Outputs> {
    let mut inputs = Inputs::open(args.inputs.as_deref())?;
    let device = device::open(&args.device)?;
    let component = folder.component("vae")?;
    let _no_grad = NoGrad::new();
    if args.component == Part::VaeEncode {
        let pixels = inputs.floats("pixels", &["B", "3", "H", "W"])?.to_device(device);
        inputs.finish();
        let (network, weights) = AutoencoderKl::load(&component, args.dtype.kind(), device)?;
        network.check_pixels(&pixels)?;
        let moments = catch(|| network.encode(&weights, &pixels))?;
        return Ok(vec![("mean", moments.mean), ("logvar", moments.logvar)]);
    }
    let latents = inputs.floats("latents", &["B", "4", "h", "w"])?.to_device(device);
    inputs.finish();
    let (network, weights) = AutoencoderKl::load(&component, args.dtype.kind(), device)?;
    network.check_latents(&latents)?;
    let pixels = catch(|| network.decode(&weights, &latents))?;
    Ok(vec![("pixels", pixels)])
}

fn text_encoder(args: &Args, component: &Component) -> anyhow::Result<Outputs> {
    let mut inputs = Inputs::open(args.inputs.as_deref())?;
    let device = device::open(&args.device)?;
    let input_ids = inputs.integers("input_ids", &["B", "77"])?.to_device(device);
    inputs.finish();
    let (network, weights) = ClipTextModel::load(component, args.dtype.kind(), device)?;
    network.check_input_ids(&input_ids)?;
    let _no_grad = NoGrad::new();
    let out = catch(|| network.forward(&weights, &input_ids))?;
    let mut outputs = vec![
        ("last_hidden_state", out.last_hidden_state),
        ("penultimate_hidden_state", out.penultimate_hidden_state),
    ];
    if args.component == Part::TextEncoder2 {
        outputs.push(("text_embeds", out.pooled));
    }
    Ok(outputs)
}

fn tokenizer(args: &Args, path: &Path) -> anyhow::Result<Outputs> {
    let tokenizer = ClipTokenizer::load(path)?;
    let texts = args.text.iter().map(String::as_str).collect::<Vec<_>>();
    let ids = tokenizer.encode(&texts)?;
    Ok(vec![(
        "input_ids",
        ids.to_device(Device::Cpu).to_kind(Kind::Int64),
    )])
}
