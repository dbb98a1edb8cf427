//! `fewstep lora` on files that diffusers, PEFT and the reference's scripts wrote.

use std::path::Path;

use fewstep_models::lora::{LoraFile, Part};
use tempfile::TempDir;

use super::common::{fewstep, fixture, word};

fn convert(input: &str, output: &Path, more: &[&str]) -> super::common::Ran {
    let paths = [word(fixture("lora").join(input)), word(output)];
    let words = ["lora", "convert", &paths[0], &paths[1]];
    fewstep(words.iter().chain(more))
}

/// Asserts that two files hold the same adapters.
#[track_caller]
fn same(found: &Path, wanted: &Path) {
    let (found, wanted) = (LoraFile::read(found).unwrap(), LoraFile::read(wanted).unwrap());
    for part in Part::ALL {
        let (found, wanted) = (found.modules(part), wanted.modules(part));
        assert!(found.keys().eq(wanted.keys()));
        for (path, found) in found {
            let wanted = &wanted[path];
            assert!(found.a.equal(&wanted.a) && found.b.equal(&wanted.b), "{path}");
            assert_eq!(found.alpha, wanted.alpha, "{path}");
        }
    }
}

#[test]
fn every_form_becomes_both_written_ones() {
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("out.safetensors");
    for input in [
        "diffusers.safetensors",
        "bare.safetensors",
        "old.safetensors",
        "processor.safetensors",
        "mixed.safetensors",
        "wds",
        "wds/unet_lora",
        "kohya.safetensors",
        "kohya_sgm.safetensors",
    ] {
        for form in ["--to=diffusers", "--to=kohya"] {
            let said = convert(input, &out, &[form]).ok().stderr;
            assert!(said.contains("rank") && said.contains("wrote "), "{said}");
            same(&out, &fixture("lora").join(input));
        }
    }
}

#[test]
fn a_folder_gets_the_usual_names() {
    let folder = TempDir::new().unwrap();
    convert("kohya.safetensors", folder.path(), &["--to=diffusers"]).ok();
    convert("kohya.safetensors", folder.path(), &["--to=kohya"]).ok();
    for name in ["pytorch_lora_weights.safetensors", "lora_kohya.safetensors"] {
        same(&folder.path().join(name), &fixture("lora/kohya.safetensors"));
    }
}

#[test]
fn what_was_put_right_is_said() {
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("out.safetensors");
    let said = convert("mixed.safetensors", &out, &["--to=diffusers", "--alpha=3"])
        .ok()
        .stderr;
    for wanted in [
        "a mix of old and new diffusers names",
        "13 modules, ",
        "2 (12 modules), 4 (1 module)",
        "3; as given, the file states none",
        "repaired: 5 modules have old names",
    ] {
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
    let read = LoraFile::read(&out).unwrap();
    assert!(read.unet.values().all(|module| module.alpha == 3.0));
    let said = convert("kohya.safetensors", &out, &["--to=kohya"]).ok().stderr;
    assert!(
        said.contains("note: alphas differ from module to module"),
        "{said}"
    );
    let said = convert("old.safetensors", &out, &["--to=kohya"]).ok().stderr;
    assert!(!said.contains("note:"), "{said}");
}

#[test]
fn inspect_says_what_a_model_has_no_place_for() {
    let inspect = |file: &str, model: &str| {
        let (file, model) = (
            word(fixture("lora").join(file)),
            word(fixture("models").join(model)),
        );
        fewstep(["lora", "inspect", &file, "--model", &model])
    };
    let text = inspect("kohya.safetensors", "tiny-sd").ok().stdout;
    assert!(
        text.contains("fits   13 of 13 modules of the file, in "),
        "{text}"
    );
    assert!(!text.contains("would not load"), "{text}");

    // Its UNet has another width of prompts, linear projections, and other levels.
    let ran = inspect("kohya.safetensors", "tiny-sdxl");
    assert_eq!(ran.status, Some(1));
    for wanted in [
        "would not load: unet.down_blocks.0.attentions.0.proj_in belongs to no linear map or convolution",
        "would not load: unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k has the shapes [4, 16] and ",
    ] {
        assert!(ran.stdout.contains(wanted), "{wanted}: {}", ran.stdout);
    }
    // Text encoders: two layers each there, and no second one here.
    let text = inspect("kohya_sgm.safetensors", "tiny-sd").stdout;
    let second = "text_encoder_2.text_model.encoder.layers.1.self_attn.out_proj belongs to no linear map";
    assert!(text.contains(second), "{text}");
    assert!(text.contains("0 of 20 modules of the file"), "{text}");
    let error = inspect("kohya.safetensors", "loader").failed(1);
    assert!(
        error.contains("a model in diffusers' layout has a folder `unet`"),
        "{error}"
    );
}

#[test]
fn inspect_says_what_is_there() {
    let file = word(fixture("lora/diffusers.safetensors"));
    let text = fewstep(["lora", "inspect", &file]).ok().stdout;
    for wanted in [
        "form   diffusers (lora_A, lora_B)",
        "unet   13 modules, ",
        "rank   2 (12 modules), 4 (1 module)",
        "alpha  6 (11 modules), 0.5 (1 module), 1 (1 module); stated by the metadata",
        "dtype  f32",
        "kB",
    ] {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
    let file = word(fixture("lora/kohya_sgm.safetensors"));
    let text = fewstep(["lora", "inspect", &file]).ok().stdout;
    for wanted in [
        "kohya with SGM block names",
        "text_encoder    2 modules",
        "text_encoder_2  1 module,",
    ] {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
    let bare = word(fixture("lora/bare.safetensors"));
    let text = fewstep(["lora", "inspect", &bare]).ok().stdout;
    assert!(text.contains("the rank, since the file states none"), "{text}");
}

#[test]
fn what_would_not_load_is_listed_and_not_converted() {
    let file = fixture("lora/dora.safetensors");
    let ran = fewstep(["lora", "inspect", &word(file)]);
    assert_eq!(ran.status, Some(1));
    assert_eq!(
        ran.stdout.matches("would not load: unet.").count(),
        13,
        "{}",
        ran.stdout
    );
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("out.safetensors");
    let text = convert("dora.safetensors", &out, &["--to=kohya"]).failed(1);
    assert!(text.contains("lora_magnitude_vector") && !out.exists(), "{text}");
    let model = "../models/tiny-sd2/unet/diffusion_pytorch_model.safetensors";
    let ran = fewstep(["lora", "inspect", &word(fixture("lora").join(model))]);
    assert!(
        ran.stdout.contains("no LoRA that fewstep knows"),
        "{}",
        ran.stdout
    );
    let text = convert(model, &out, &["--to=kohya"]).failed(1);
    assert!(
        text.contains("no part of a LoRA") && text.contains("more"),
        "{text}"
    );
}

#[test]
fn sgm_blocks_are_counted_as_told() {
    let file = word(fixture("lora/kohya_sgm.safetensors"));
    let ran = fewstep(["lora", "inspect", &file, "--layers-per-block", "1"]);
    assert_eq!(ran.status, Some(1));
    assert!(
        ran.stdout
            .contains("would not load: lora_unet_input_blocks_3_0_op"),
        "{}",
        ran.stdout
    );
}

#[test]
fn flags_without_effect_are_refused() {
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("out.safetensors");
    for (input, more, wanted) in [
        (
            "kohya.safetensors",
            "--alpha=2",
            "--alpha is for files that do not state it",
        ),
        (
            "kohya.safetensors",
            "--layers_per_block=2",
            "--layers_per_block is for SGM's block names",
        ),
        (
            "bare.safetensors",
            "--alpha=inf",
            "--alpha must be a finite number",
        ),
    ] {
        let text = convert(input, &out, &["--to=diffusers", more]).failed(2);
        assert!(text.contains(wanted), "{text}");
    }
    let text = convert("bare.safetensors", Path::new("out.pt"), &["--to=diffusers"]).failed(2);
    assert!(text.contains("end in .safetensors"), "{text}");
    assert!(!out.exists());
}
