//! The first stage: a VAE that keeps patterns, trained on drawn pictures.

use anyhow::Result;
use fewstep_models::params::Weights;
use fewstep_models::vae::{AutoencoderKl, VaeConfig};
use libtorch_ext::NoGrad;
use tch::{Kind, Tensor};

use super::pictures::{batches, byte_batch, drawn_bytes, to_unit};
use super::progress::Progress;
use super::recipe::VaeRecipe;
use super::trained::Trained;
use super::{Making, architecture};
use crate::ahead::ahead;
use fewstep_draw::{Purpose, Stream};

/// The VAE and its weights in f32.
pub(super) struct Autoencoder {
    pub(super) network: AutoencoderKl,
    pub(super) weights: Weights,
}

/// Pictures by which the latents are brought to unit variance.
const MEASURED: u64 = 2048;
/// Pictures are numbered from here for the VAE's training, so that the UNet's are others.
const FIRST_PICTURE: u64 = 1 << 32;
/// Updates whose draws travel to the device together: each journey waits for what the device does.
const TOGETHER: u64 = 8;

impl Autoencoder {
    /// Takes the finished VAE from the work folder, or trains it.
    pub(super) fn make(making: &mut Making<'_>) -> Result<Self> {
        let config = VaeConfig::from_json(&architecture::vae(&making.recipe.vae))?;
        let network = AutoencoderKl::new(config)?;
        let weights = match making.finished("vae", network.layout())? {
            Some(weights) => weights,
            None => {
                let trained = train(&network, making)?;
                let weights = normalised(&network, &trained, making)?;
                making.finish("vae", &weights)?;
                weights
            }
        };
        Ok(Autoencoder { network, weights })
    }
}

fn train(network: &AutoencoderKl, making: &mut Making<'_>) -> Result<Weights> {
    let recipe = making.recipe.vae.clone();
    let (seed, device, threads) = (making.recipe.seed, making.device, making.threads);
    let training = &recipe.training;
    let mut trained = Trained::new(&[("vae", network.layout())], seed, device);
    making.resume("vae", &mut trained)?;
    let mut progress = Progress::new("vae", trained.step(), device);
    let side = architecture::latent_side(making.recipe);
    let latent = [architecture::LATENT_CHANNELS, side, side];
    let (first, steps) = (trained.step(), training.steps);
    let draw = |chunk: u64| {
        let from = first + chunk * TOGETHER;
        let pictures = from * training.batch..steps.min(from + TOGETHER) * training.batch;
        Draws::new(seed, pictures, latent.iter().product::<i64>() as usize)
    };
    ahead(0..(steps - first).div_ceil(TOGETHER), threads, draw, |chunks| {
        for draws in chunks {
            let bytes = byte_batch(&draws.bytes).to_device(device);
            let noise = Tensor::from_slice(&draws.noise)
                .view([-1, latent[0], latent[1], latent[2]])
                .to_device(device);
            let batch = training.batch as i64;
            for (bytes, noise) in bytes.split(batch, 0).iter().zip(noise.split(batch, 0)) {
                let weights = trained.masters[0].to_kind(making.kind);
                let loss = loss(network, &weights, &to_unit(bytes), &noise, &recipe);
                trained.update(&loss, training)?;
                let due = progress.update(trained.step(), &loss, training);
                making.after_update("vae", &trained, due)?;
            }
        }
        Ok(trained.averages().remove(0))
    })
}

/// Pictures and the noise of their posteriors, on the host.
struct Draws {
    bytes: Vec<u8>,
    noise: Vec<f32>,
}

impl Draws {
    fn new(seed: u64, pictures: std::ops::Range<u64>, latent: usize) -> Self {
        let pictures = FIRST_PICTURE + pictures.start..FIRST_PICTURE + pictures.end;
        let mut noise = vec![0.0f32; (pictures.end - pictures.start) as usize * latent];
        for (picture, out) in pictures.clone().zip(noise.chunks_mut(latent)) {
            Stream::new(seed, Purpose::VaeNoise, picture).fill_normal(out);
        }
        Draws {
            bytes: drawn_bytes(seed, pictures),
            noise,
        }
    }
}

/// Absolute error, squared error, absolute error of neighbours' differences, and divergence.
fn loss(
    network: &AutoencoderKl,
    weights: &Weights,
    pixels: &Tensor,
    noise: &Tensor,
    recipe: &VaeRecipe,
) -> Tensor {
    let moments = network.encode(weights, pixels);
    let decoded = network
        .decode(weights, &moments.sample(noise))
        .to_kind(Kind::Float);
    let error = decoded - pixels;
    let (mean, logvar) = (
        moments.mean.to_kind(Kind::Float),
        moments.logvar.to_kind(Kind::Float),
    );
    let divergence = (mean.square() + logvar.exp() - 1.0 - logvar).mean(Kind::Float) * 0.5;
    let edges = error
        .diff(1, -1, None::<Tensor>, None::<Tensor>)
        .abs()
        .mean(Kind::Float)
        + error
            .diff(1, -2, None::<Tensor>, None::<Tensor>)
            .abs()
            .mean(Kind::Float);
    error.abs().mean(Kind::Float)
        + error.square().mean(Kind::Float) * recipe.squared_weight
        + edges * recipe.edge_weight
        + divergence * recipe.kl_weight
}

/// The same VAE with latents of zero mean and unit variance in every channel: what the UNet's noise is made
/// for, and what one `scaling_factor` for all channels cannot give. The change is folded into the 1x1
/// convolutions on both sides of the latents, so that pictures come out as before.
fn normalised(network: &AutoencoderKl, weights: &Weights, making: &Making<'_>) -> Result<Weights> {
    let _guard = NoGrad::new();
    let numbers = FIRST_PICTURE..FIRST_PICTURE + MEASURED.min(making.recipe.denoiser.pictures);
    let latents = batches(
        making.recipe.seed,
        numbers,
        making.threads,
        making.device,
        |chunks| {
            chunks
                .map(|bytes| network.encode(weights, &to_unit(&bytes)).mean)
                .collect::<Vec<_>>()
        },
    );
    let latents = Tensor::cat(&latents, 0);
    let mean = latents.mean_dim([0i64, 2, 3].as_slice(), false, Kind::Float);
    let std = latents.std_dim([0i64, 2, 3].as_slice(), false, false);
    Ok(fold(weights, &mean, &std))
}

/// Folds `z' = (z - mean) / std` (a number a channel) into the convolutions around the latents.
fn fold(weights: &Weights, mean: &Tensor, std: &Tensor) -> Weights {
    let mut names = weights.layout().specs().iter().map(|spec| spec.name.clone());
    let channels = mean.size()[0];
    weights.map(|tensor| {
        let tensor = tensor.detach();
        let column = |t: &Tensor| t.view([-1, 1, 1, 1]);
        match names.next().unwrap_or_default().as_str() {
            // Rows for the means are divided by std; those for the logarithms of variances shift.
            "quant_conv.weight" => Tensor::cat(
                &[
                    tensor.narrow(0, 0, channels) / column(std),
                    tensor.narrow(0, channels, channels),
                ],
                0,
            ),
            "quant_conv.bias" => Tensor::cat(
                &[
                    (tensor.narrow(0, 0, channels) - mean) / std,
                    tensor.narrow(0, channels, channels) - std.log() * 2.0,
                ],
                0,
            ),
            "post_quant_conv.weight" => tensor * std.view([1, -1, 1, 1]),
            "post_quant_conv.bias" => {
                let kernel = weights
                    .get("post_quant_conv.weight")
                    .map(|w| w.detach().squeeze());
                tensor + kernel.map_or_else(|| mean.zeros_like(), |kernel| kernel.mv(mean))
            }
            _ => tensor,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use tch::Device;

    fn tiny() -> (AutoencoderKl, Weights) {
        let config = json!({
            "block_out_channels": [4, 4], "norm_num_groups": 2, "layers_per_block": 1,
            "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D"],
            "up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D"],
        });
        let network = AutoencoderKl::new(VaeConfig::from_json(&config).unwrap()).unwrap();
        tch::manual_seed(3);
        let weights = Weights::random(network.layout(), Device::Cpu);
        (network, weights)
    }

    #[test]
    fn folding_changes_latents_and_no_picture() {
        let (network, weights) = tiny();
        let pixels = Tensor::rand([2, 3, 8, 8], (Kind::Float, Device::Cpu)) * 2.0 - 1.0;
        let (mean, std) = (
            Tensor::from_slice(&[0.5f32, -1.0, 0.0, 2.0]),
            Tensor::from_slice(&[2.0f32, 0.5, 3.0, 1.5]),
        );
        let folded = fold(&weights, &mean, &std);
        let (before, after) = (
            network.encode(&weights, &pixels),
            network.encode(&folded, &pixels),
        );
        let wanted = (&before.mean - mean.view([1, -1, 1, 1])) / std.view([1, -1, 1, 1]);
        let close = |a: &Tensor, b: &Tensor| assert!((a - b).abs().max().double_value(&[]) < 1e-5);
        close(&after.mean, &wanted);
        let noise = before.mean.ones_like() * 0.3;
        close(
            &network.decode(&folded, &after.sample(&noise)),
            &network.decode(&weights, &before.sample(&noise)),
        );
    }
}
