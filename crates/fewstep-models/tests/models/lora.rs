//! Files of adapters: every form that diffusers, PEFT and the reference's scripts write, and files that are wrong.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::common::fixture;
use fewstep_models::lora::{
    AlphaSource, LoraFile, LoraForm, LoraModule, Part, ReadOptions, write_diffusers, write_kohya,
};
use fewstep_models::weights::{TensorFile, read_json, read_tensors, write_tensors};
use serde_json::Value;
use tch::{Device, Kind, Tensor};

const TO_Q: &str = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q";
const TO_K: &str = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k";

fn read(name: &str) -> LoraFile {
    LoraFile::read(&fixture("lora").join(name)).unwrap()
}

fn error(path: &Path) -> String {
    LoraFile::read(path).unwrap_err().to_string()
}

/// Asserts that every module of `file` has the matrices that diffusers' file holds.
#[track_caller]
fn same_matrices(file: &LoraFile, modules: usize) {
    let wanted = read("diffusers.safetensors");
    assert_eq!(file.unet.len(), modules);
    for (path, module) in &file.unet {
        assert!(module.a.equal(&wanted.unet[path].a), "{path}");
        assert!(module.b.equal(&wanted.unet[path].b), "{path}");
    }
}

#[track_caller]
fn same_alphas(file: &LoraFile, source: AlphaSource) {
    let wanted = read("diffusers.safetensors");
    for (path, module) in &file.unet {
        assert_eq!(module.alpha, wanted.unet[path].alpha, "{path}");
    }
    assert!(
        file.alpha_sources.iter().eq([&source]),
        "{:?}",
        file.alpha_sources
    );
}

#[track_caller]
fn alphas_are_ranks(file: &LoraFile) {
    assert!(file.unet.values().all(|module| module.scale() == 1.0));
    assert!(file.alpha_sources.iter().eq([&AlphaSource::Rank]));
}

#[test]
fn diffusers_file_says_its_alphas() {
    let file = read("diffusers.safetensors");
    assert_eq!(file.form, LoraForm::Diffusers);
    assert_eq!((file.unet.len(), file.text_encoder.len()), (13, 0));
    assert!(file.repairs.is_empty() && file.unloadable.is_empty());
    assert!(file.alpha_sources.iter().eq([&AlphaSource::Metadata]));
    assert_eq!((file.unet[TO_Q].rank(), file.unet[TO_Q].alpha), (2, 6.0));
    assert_eq!((file.unet[TO_K].rank(), file.unet[TO_K].alpha), (4, 6.0));
    assert_eq!(file.unet["down_blocks.0.attentions.0.proj_in"].alpha, 1.0);
    assert_eq!(file.unet["down_blocks.0.resnets.0.conv1"].a.size(), [2, 8, 3, 3]);
    let bare = read("bare.safetensors");
    same_matrices(&bare, 13);
    alphas_are_ranks(&bare);
}

#[test]
fn old_names_are_read() {
    for name in ["old.safetensors", "processor.safetensors"] {
        let file = read(name);
        assert_eq!(file.form, LoraForm::OldDiffusers, "{name}");
        assert!(file.repairs.is_empty());
        same_matrices(&file, 4);
        alphas_are_ranks(&file);
    }
}

#[test]
fn what_the_reference_writes_wrongly_is_put_right() {
    let mixed = read("mixed.safetensors");
    assert_eq!(mixed.form, LoraForm::MixedDiffusers);
    same_matrices(&mixed, 13);
    alphas_are_ranks(&mixed);
    assert_eq!(mixed.repairs.len(), 1);
    assert!(
        mixed.repairs[0].starts_with("5 modules have old names"),
        "{:?}",
        mixed.repairs
    );

    let copy = read("wds/unet_lora");
    assert_eq!(copy.form, LoraForm::WrappedDiffusers);
    same_matrices(&copy, 13);
    // The settings lie in the folder above.
    same_alphas(&copy, AlphaSource::AdapterConfig);
    assert!(
        copy.repairs[0].contains("taken out of the names of 13 modules"),
        "{:?}",
        copy.repairs
    );

    let alone = tempfile::tempdir().unwrap();
    let path = alone.path().join("x.safetensors");
    std::fs::copy(
        fixture("lora/wds/unet_lora/pytorch_lora_weights.safetensors"),
        &path,
    )
    .unwrap();
    alphas_are_ranks(&LoraFile::read(&path).unwrap());
    let options = ReadOptions {
        alpha: Some(6.0),
        ..ReadOptions::default()
    };
    let told = LoraFile::read_with(&path, &options).unwrap();
    assert_eq!(told.unet[TO_K].alpha, 6.0);
    assert!(told.alpha_sources.iter().eq([&AlphaSource::Given]));
}

#[test]
fn peft_folder_and_its_file_are_the_same() {
    for name in ["wds", "wds/adapter_model.safetensors"] {
        let file = read(name);
        assert_eq!(file.form, LoraForm::Peft);
        same_matrices(&file, 13);
        same_alphas(&file, AlphaSource::AdapterConfig);
        assert!(file.repairs.is_empty(), "{:?}", file.repairs);
    }
}

#[test]
fn kohya_file_has_alphas_of_its_own() {
    let file = read("kohya.safetensors");
    assert_eq!(file.form, LoraForm::Kohya);
    same_matrices(&file, 13);
    same_alphas(&file, AlphaSource::Tensor);
}

#[test]
fn sgm_names_are_what_diffusers_makes_of_them() {
    let file = read("kohya_sgm.safetensors");
    assert_eq!(file.form, LoraForm::KohyaSgm);
    assert!(file.repairs.is_empty(), "{:?}", file.repairs);
    let wanted = read_json(&fixture("lora/kohya_sgm.json"), "").unwrap();
    let mut wanted: Vec<&str> = wanted
        .as_object()
        .unwrap()
        .values()
        .map(|path| path.as_str().unwrap())
        .collect();
    wanted.sort_unstable();
    let mut found: Vec<String> = Vec::new();
    for (part, modules) in file.parts() {
        found.extend(modules.keys().map(|path| format!("{}.{path}", part.name())));
    }
    found.sort_unstable();
    assert_eq!(found, wanted);
    let tensors = read_tensors(&file.path).unwrap();
    let up = &tensors["lora_unet_output_blocks_2_2_conv.lora_up.weight"];
    assert!(file.unet["up_blocks.0.upsamplers.0.conv"].b.equal(up));
    assert_eq!((file.text_encoder.len(), file.text_encoder_2.len()), (2, 1));
    assert!(file.unet.values().all(|module| module.alpha == 0.5));
}

#[test]
fn dora_is_an_error_that_names_the_key() {
    let path = fixture("lora/dora.safetensors");
    let text = error(&path);
    assert!(
        text.contains("holds a DoRA") && text.contains("lora_magnitude_vector"),
        "{text}"
    );
    let examined = LoraFile::examine(&path, &ReadOptions::default()).unwrap();
    assert_eq!((examined.unet.len(), examined.unloadable.len()), (13, 13));
}

#[test]
fn both_written_forms_read_back() {
    let folder = tempfile::tempdir().unwrap();
    for source in ["kohya.safetensors", "kohya_sgm.safetensors"] {
        let wanted = read(source);
        for form in [LoraForm::Diffusers, LoraForm::Kohya] {
            let path = folder.path().join("written.safetensors");
            match form {
                LoraForm::Kohya => write_kohya(&path, &wanted.parts()),
                _ => write_diffusers(&path, &wanted.parts()),
            }
            .unwrap();
            let found = LoraFile::read(&path).unwrap();
            for part in Part::ALL {
                let (found, wanted) = (found.modules(part), wanted.modules(part));
                assert!(found.keys().eq(wanted.keys()));
                for (found, wanted) in found.values().zip(wanted.values()) {
                    assert!(found.a.equal(&wanted.a) && found.b.equal(&wanted.b));
                    assert_eq!(found.alpha, wanted.alpha);
                }
            }
            let stated = match form {
                LoraForm::Kohya => AlphaSource::Tensor,
                _ => AlphaSource::Metadata,
            };
            assert!(found.alpha_sources.iter().eq([&stated]));
        }
    }
}

#[test]
fn metadata_holds_rank_alpha_and_targets() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("written.safetensors");
    write_diffusers(&path, &read("kohya.safetensors").parts()).unwrap();
    let file = TensorFile::open(&path).unwrap();
    assert_eq!(file.metadata()["format"], "pt");
    let settings: Value = serde_json::from_str(&file.metadata()["lora_adapter_metadata"]).unwrap();
    assert_eq!(settings["unet.r"], 2);
    assert_eq!(settings["unet.lora_alpha"], 6);
    assert_eq!(settings["unet.rank_pattern"][TO_K], 4);
    assert_eq!(settings["unet.alpha_pattern"].as_object().unwrap().len(), 2);
    assert_eq!(settings["unet.target_modules"].as_array().unwrap().len(), 13);
    // The text encoder's paths have their root in the tensors' names and not in the settings.
    write_diffusers(&path, &read("kohya_sgm.safetensors").parts()).unwrap();
    let file = TensorFile::open(&path).unwrap();
    let settings: Value = serde_json::from_str(&file.metadata()["lora_adapter_metadata"]).unwrap();
    let target = &settings["text_encoder_2.target_modules"][0];
    assert_eq!(target, "encoder.layers.1.self_attn.out_proj");
    assert!(file.contains(&format!(
        "text_encoder_2.text_model.{}.lora_A.weight",
        target.as_str().unwrap()
    )));
}

/// Writes tensors of ones with these names and shapes.
fn ones(folder: &Path, tensors: &[(&str, &[i64])]) -> PathBuf {
    let path = folder.join("ones.safetensors");
    let tensors: Vec<_> = tensors
        .iter()
        .map(|(name, shape)| (*name, Tensor::ones(*shape, (Kind::Float, Device::Cpu))))
        .collect();
    write_tensors(
        &path,
        tensors.iter().map(|(name, tensor)| (*name, tensor)),
        &BTreeMap::new(),
    )
    .unwrap();
    path
}

#[test]
fn nothing_is_left_out_in_silence() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (
        format!("unet.{TO_Q}.lora_A.weight"),
        format!("unet.{TO_Q}.lora_B.weight"),
    );
    let (old, alpha) = (
        format!("unet.{TO_Q}.lora.down.weight"),
        format!("unet.{TO_K}.alpha"),
    );
    let pair: [(&str, &[i64]); 2] = [(&a, &[2, 8]), (&b, &[8, 2])];
    for (more, wanted) in [
        (
            &[("unet.conv_in.lora_A.weight", &[2, 4][..])][..],
            "has no counterpart",
        ),
        (&[(&old, &[2, 8])], "is for the same module as"),
        (&[(&alpha, &[])], "is the alpha of a module that has no matrices"),
        (
            &[("lora_unet_mid_block_x.alpha", &[])],
            "is for no module of a Stable Diffusion UNet",
        ),
        (&[("unet.conv_in.weight", &[2, 4])], "is no matrix of a LoRA"),
        (
            &[
                ("unet.conv_in.lora_A.weight", &[2, 4]),
                ("unet.conv_in.lora_B.weight", &[4, 3]),
            ],
            "is [2, 4] and its counterpart [4, 3], but they must be",
        ),
        (
            &[(&format!("unet.{TO_Q}.alpha"), &[3])],
            "is an alpha, but not one finite number",
        ),
    ] {
        let path = ones(folder.path(), &[&pair[..], more].concat());
        let text = error(&path);
        assert!(
            text.contains(wanted) && text.contains("ones.safetensors"),
            "{wanted}: {text}"
        );
        let examined = LoraFile::examine(&path, &ReadOptions::default()).unwrap();
        assert_eq!(examined.unloadable.len(), 1, "{wanted}");
    }
}

#[test]
fn files_that_are_no_lora_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let text = error(folder.path());
    assert!(text.contains("a folder with a LoRA holds it"), "{text}");
    assert!(error(&ones(folder.path(), &[])).contains("it has no tensors"));
    std::fs::write(folder.path().join("pytorch_lora_weights.bin"), "").unwrap();
    assert!(error(folder.path()).contains("as a pickle only"));
    let path = folder.path().join("x.safetensors");
    let file = read("bare.safetensors");
    let metadata = BTreeMap::from([(
        "lora_adapter_metadata".to_owned(),
        "{\"unet.r\": \"two\"}".to_owned(),
    )]);
    let tensor = &file.unet[TO_Q].a;
    write_tensors(&path, [("unet.conv_in.lora_A.weight", tensor)], &metadata).unwrap();
    assert!(
        error(&path).contains("`r` is \"two\", not a number"),
        "{}",
        error(&path)
    );
}

#[test]
fn kohya_names_only_what_can_be_named() {
    let folder = tempfile::tempdir().unwrap();
    let one = || Tensor::ones([1, 1], (Kind::Float, Device::Cpu));
    let modules = BTreeMap::from([(
        "down_blocks.0.motion_modules.0.proj_in".to_owned(),
        LoraModule {
            a: one(),
            b: one(),
            alpha: 1.0,
        },
    )]);
    let path = folder.path().join("x.safetensors");
    let text = write_kohya(&path, &[(Part::UNet, &modules)])
        .unwrap_err()
        .to_string();
    assert!(text.contains("motion_modules") && !path.exists(), "{text}");
}
