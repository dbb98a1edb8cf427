//! Adapters from training to painting, on SDXL.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use fewstep_models::weights::read_tensors;
use tch::Tensor;
use tempfile::TempDir;

use super::common::{close, fewstep, fixture, golden, save, word};

/// Adapters of the tiny SDXL teacher after three steps, trained when first asked for.
fn run() -> &'static Path {
    static RUN: OnceLock<PathBuf> = OnceLock::new();
    RUN.get_or_init(|| {
        let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("adapters-{}", std::process::id()));
        let (teacher, shards) = (word(fixture("models/tiny-sdxl")), word(fixture("data/good.tar")));
        let out_word = word(&out);
        let words = [
            "train",
            "--pretrained_teacher_model",
            &teacher,
            "--output_dir",
            &out_word,
            "--train_shards_path_or_url",
            &shards,
            "--lora_rank=2",
            "--lora_alpha=3",
            "--learning_rate=0.05",
            "--resolution=32",
            "--train_batch_size=2",
            "--max_train_steps=3",
            "--device=cpu",
        ];
        let text = fewstep(words).ok().stderr;
        assert!(
            text.contains("the student is in") && text.contains("pytorch_lora_weights.safetensors"),
            "{text}"
        );
        out
    })
}

/// What the UNet answers with these flags.
fn forward(flags: &[&str]) -> Tensor {
    let folder = TempDir::new().unwrap();
    let [from, to] = ["in.safetensors", "out.safetensors"].map(|name| folder.path().join(name));
    save(&from, &golden("unet-tiny-sdxl").inputs);
    let model = word(fixture("models/tiny-sdxl"));
    let (from, to_word) = (word(&from), word(&to));
    let words = [
        "debug",
        "forward",
        "--model",
        &model,
        "--component",
        "unet",
        "--inputs",
        &from,
        "--output",
        &to_word,
    ];
    fewstep([&words[..], flags].concat()).ok();
    read_tensors(&to).unwrap().remove("sample").unwrap()
}

#[test]
fn adapters_change_the_unet_alike_beside_it_and_inside_and_from_either_file() {
    let diffusers = format!("{}=0.7", word(run().join("pytorch_lora_weights.safetensors")));
    let kohya = format!("{}=0.7", word(run().join("lora_kohya.safetensors")));
    let beside = forward(&["--lora", &diffusers]);
    close(
        "fused",
        &forward(&["--lora", &diffusers, "--fuse_lora"]),
        &beside,
        1e-5,
    );
    close("kohya", &forward(&["--lora", &kohya]), &beside, 1e-6);
    let halves = word(run().join("lora_kohya.safetensors"));
    let (a, b) = (format!("{halves}=0.3"), format!("{halves}=0.4"));
    close("two", &forward(&["--lora", &a, "--lora", &b]), &beside, 1e-5);
    let change = (forward(&[]) - beside).abs().max().double_value(&[]);
    assert!(change > 1e-2, "{change}");
}

#[test]
fn sdxl_paints_with_adapters_and_without() {
    let folder = TempDir::new().unwrap();
    let model = word(fixture("models/tiny-sdxl"));
    let lora = word(run().join("pytorch_lora_weights.safetensors"));
    let paint = |name: &str, flags: &[&str]| {
        let out = folder.path().join(name);
        let out_word = word(&out);
        let words = [
            "generate",
            "--model",
            &model,
            "--prompt",
            "a cat",
            "--prompt",
            "a dog",
            "--steps=2",
            "--device=cpu",
            "--out",
            &out_word,
        ];
        let stderr = fewstep([&words[..], flags].concat()).ok().stderr;
        (std::fs::read(out).unwrap(), stderr)
    };
    let (with, _) = paint("with.png", &["--lora", &lora]);
    let (without, _) = paint("without.png", &["--guidance_scale=1"]);
    assert_ne!(with, without);
    let (_, said) = paint("negative.png", &["--lora", &lora, "--negative_prompt", "a dog"]);
    assert!(said.contains("--negative_prompt has no effect"), "{said}");
    let guided = ["--lora", &lora, "--guidance_scale=1.5"];
    let (zeros, _) = paint("guided.png", &guided);
    let (negative, _) = paint(
        "guided-negative.png",
        &[&guided[..], &["--negative_prompt", "a dog"]].concat(),
    );
    assert_ne!(zeros, negative);
}

#[test]
fn adapters_of_another_model_are_refused_by_name() {
    let lora = word(run().join("pytorch_lora_weights.safetensors"));
    let model = word(fixture("models/tiny-sd"));
    let words = [
        "generate",
        "--model",
        &model,
        "--prompt",
        "a",
        "--lora",
        &lora,
        "--out",
        "never.png",
        "--device=cpu",
    ];
    let text = fewstep(words).failed(1);
    assert!(text.contains("does not fit the unet"), "{text}");
    assert!(text.contains("another architecture"), "{text}");
}
