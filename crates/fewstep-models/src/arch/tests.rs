//! Tests of the known architectures: their sizes, and small ones written and read back.

use std::sync::Arc;

use tch::{Device, Kind, Tensor};

use super::{Arch, denoiser, text, write_random};
use crate::clip::{ClipTextConfig, ClipTextModel, ClipTokenizer};
use crate::params::Layout;
use crate::unet::{UNet2DConditionModel, UNetConfig};
use crate::vae::{AutoencoderKl, VaeConfig};
use crate::weights::{Folder, read_tensors};

fn unet(arch: Arch) -> Arc<Layout> {
    let config = UNetConfig::from_json(&denoiser::unet(arch)).unwrap();
    UNet2DConditionModel::new(config).unwrap().layout().clone()
}

fn encoders(arch: Arch) -> Vec<i64> {
    let elements = |pair: text::TextPair| {
        let config = ClipTextConfig::from_json(&pair.config).unwrap();
        ClipTextModel::new(config).unwrap().layout().elements()
    };
    text::pairs(arch, Kind::Float).into_iter().map(elements).collect()
}

#[test]
fn published_models_have_their_published_sizes() {
    // UNets: spec 2.10. Text encoders and VAE: the sums of the shapes in the published files.
    assert_eq!(unet(Arch::Sd15).elements(), 859_520_964);
    assert_eq!(unet(Arch::Sd15).specs().len(), 686);
    assert_eq!(unet(Arch::Sd21).elements(), 865_910_724);
    assert_eq!(unet(Arch::Sdxl).elements(), 2_567_463_684);
    assert_eq!(encoders(Arch::Sd15), [123_060_480]);
    assert_eq!(encoders(Arch::Sd21), [340_387_840]);
    assert_eq!(encoders(Arch::Sdxl), [123_060_480, 694_659_840]);
    for arch in [Arch::Sd15, Arch::Sd21, Arch::Sdxl] {
        let vae = AutoencoderKl::new(VaeConfig::from_json(&denoiser::vae(arch)).unwrap()).unwrap();
        assert_eq!(vae.layout().elements(), 83_653_863);
    }
}

#[test]
fn the_width_of_the_prompt_is_the_sum_of_its_encoders() {
    for arch in Arch::ALL {
        let widths = text::pairs(arch, Kind::Float);
        let widths = widths
            .iter()
            .map(|pair| pair.config["hidden_size"].as_i64().unwrap());
        let wanted = denoiser::unet(arch)["cross_attention_dim"].as_i64().unwrap();
        assert_eq!(widths.sum::<i64>(), wanted, "{}", arch.name());
    }
}

#[test]
fn a_written_model_reads_back_and_the_same_seed_gives_the_same() {
    for arch in [Arch::TinySd, Arch::TinySd2, Arch::TinySdxl] {
        let root = tempfile::tempdir().unwrap();
        let (one, two) = (root.path().join("one"), root.path().join("two"));
        let mut parts = Vec::new();
        write_random(arch, &one, 7, Kind::Float, &mut |part| {
            parts.push(part.component.to_owned())
        })
        .unwrap();
        write_random(arch, &two, 7, Kind::BFloat16, &mut |_| {}).unwrap();
        assert_eq!(parts.last().map(String::as_str), Some("unet"));

        let folder = Folder::open(&one).unwrap();
        let network = UNetConfig::from_json(folder.component("unet").unwrap().config()).unwrap();
        let network = UNet2DConditionModel::new(network).unwrap();
        let weights = folder.component("unet").unwrap();
        let weights = weights.load(network.layout(), Kind::Float, Device::Cpu).unwrap();
        let file = "unet/diffusion_pytorch_model.safetensors";
        let rounded = &read_tensors(&two.join(file)).unwrap()["conv_in.weight"];
        assert_eq!(rounded.kind(), Kind::BFloat16);
        assert_eq!(
            weights.get("conv_in.weight").unwrap().to_kind(Kind::BFloat16),
            *rounded
        );

        for pair in text::pairs(arch, Kind::Float) {
            let encoder = folder.component(pair.encoder).unwrap();
            let (encoder, weights) = ClipTextModel::load(&encoder, Kind::Float, Device::Cpu).unwrap();
            let tokenizer = ClipTokenizer::load(&one.join(pair.tokenizer)).unwrap();
            let ids = tokenizer.encode(&["a cat, 2 dogs \u{fc}", ""]).unwrap();
            assert_eq!(i64::try_from(ids.max()).unwrap(), pair.vocab_size as i64 - 1);
            let states = encoder.forward(&weights, &ids).last_hidden_state;
            assert_eq!(
                states.size(),
                [2, 77, pair.config["hidden_size"].as_i64().unwrap()]
            );
        }
        let vae = folder.component("vae").unwrap();
        let (vae, weights) = AutoencoderKl::load(&vae, Kind::Float, Device::Cpu).unwrap();
        let pixels = vae.decode(&weights, &Tensor::zeros([1, 4, 8, 8], (Kind::Float, Device::Cpu)));
        assert_eq!(pixels.size(), [1, 3, 32, 32]);
    }
}

#[test]
fn a_folder_with_something_in_it_is_left_alone() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("model_index.json"), "{}").unwrap();
    let error = write_random(Arch::TinySd, root.path(), 0, Kind::Float, &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("is not empty"), "{error}");
    assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 1);
}

#[test]
fn an_unknown_name_is_told_the_known_ones() {
    assert_eq!(Arch::named("sdxl").unwrap(), Arch::Sdxl);
    let error = Arch::named("sd3").unwrap_err().to_string();
    assert!(error.contains("sd15, sd21, sdxl, tiny-sd"), "{error}");
}
