//! The VAE against diffusers' golden values.

use std::path::Path;

use super::common::{assert_near, fixture, golden};
use fewstep_models::vae::AutoencoderKl;
use fewstep_models::weights::Component;
use tch::{Device, Kind, Tensor};

fn load(path: &Path) -> (AutoencoderKl, fewstep_models::params::Weights) {
    let component = Component::open(path).unwrap();
    AutoencoderKl::load(&component, Kind::Float, Device::Cpu).unwrap()
}

#[test]
fn encodes_and_decodes_as_diffusers_does() {
    for (model, case) in [
        ("models/tiny-sd/vae", "vae-tiny-sd"),
        ("models/tiny-sd/vae", "vae-tiny-sd-odd"),
        ("models/tiny-sd2/vae", "vae-tiny-sd2"),
        ("models/loader/old-vae/vae", "vae-tiny-sd"),
    ] {
        let (vae, weights) = load(&fixture(model));
        let golden = golden(case);
        vae.check_pixels(&golden["in.pixels"]).unwrap();
        vae.check_latents(&golden["in.latents"]).unwrap();
        let moments = vae.encode(&weights, &golden["in.pixels"]);
        assert_near(case, &moments.mean, &golden["out.mean"], 1e-5);
        assert_near(case, &moments.logvar, &golden["out.logvar"], 1e-5);
        let sample = moments.sample(&golden["in.eps"]);
        assert_near(case, &sample, &golden["out.sample"], 1e-5);
        let pixels = vae.decode(&weights, &golden["in.latents"]);
        assert_near(case, &pixels, &golden["out.pixels"], 1e-5);
    }
}

#[test]
fn every_parameter_of_a_trained_vae_gets_a_gradient() {
    let (vae, weights) = load(&fixture("models/tiny-sd/vae"));
    let weights = weights.trainable();
    let pixels = golden("vae-tiny-sd")["in.pixels"].shallow_clone();
    let moments = vae.encode(&weights, &pixels);
    let again = vae.decode(&weights, &moments.sample(&moments.mean.ones_like()));
    (again - pixels).square().mean(Kind::Float).backward();
    for (name, tensor) in weights.named() {
        let grad = tensor.grad();
        assert!(grad.defined(), "{name}");
        assert!(grad.isfinite().all().int64_value(&[]) == 1, "{name}");
    }
}

#[test]
fn computes_in_the_dtype_of_its_weights() {
    let (vae, weights) = load(&fixture("models/tiny-sd/vae"));
    let golden = golden("vae-tiny-sd");
    for (kind, tolerance) in [(Kind::BFloat16, 0.05), (Kind::Half, 0.005), (Kind::Double, 1e-5)] {
        let cast = weights.to_kind(kind);
        let moments = vae.encode(&cast, &golden["in.pixels"]);
        let pixels = vae.decode(&cast, &golden["in.latents"]);
        assert_eq!((moments.mean.kind(), pixels.kind()), (kind, kind));
        assert_near("mean", &moments.mean, &golden["out.mean"], tolerance);
        assert_near("pixels", &pixels, &golden["out.pixels"], tolerance);
    }
}

#[test]
fn wrong_inputs_are_named() {
    let (vae, _) = load(&fixture("models/tiny-sd/vae"));
    let error = vae.check_pixels(&Tensor::zeros([3, 32, 32], (Kind::Float, Device::Cpu)));
    assert!(
        error
            .unwrap_err()
            .to_string()
            .contains("`pixels` of AutoencoderKL is Float of shape [3, 32, 32]")
    );
    let latents = Tensor::zeros([1, 3, 4, 4], (Kind::Float, Device::Cpu));
    assert!(vae.check_latents(&latents).is_err());
}
