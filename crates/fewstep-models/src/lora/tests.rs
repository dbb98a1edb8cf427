//! The module names of full-size UNets, through every form of name and through files.

use std::collections::BTreeMap;
use std::path::Path;

use tch::{Device, Kind, Tensor};

use super::kohya;
use super::{LoraFile, LoraForm, LoraModule, Part, write_diffusers, write_kohya};
use crate::adapters::Targets;
use crate::arch::Arch;
use crate::unet::{UNet2DConditionModel, UNetConfig};
use crate::weights::read_json;

/// The paths of all linear maps and convolutions of a UNet.
fn all_modules(arch: Arch) -> Vec<String> {
    let config = UNetConfig::from_json(&arch.unet_config()).unwrap();
    let unet = UNet2DConditionModel::new(config).unwrap();
    let matrices = unet.layout().specs().iter().filter(|spec| spec.shape.len() > 1);
    matrices
        .map(|spec| spec.name.strip_suffix(".weight").unwrap().to_owned())
        .collect()
}

/// Those of them that the reference adapts.
fn adapted_modules(arch: Arch) -> Vec<String> {
    let targets = Targets::default();
    all_modules(arch)
        .into_iter()
        .filter(|path| targets.hold(path))
        .collect()
}

#[test]
fn the_modules_of_full_size_are_those_that_peft_adapts_and_names() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/fixtures/lora/modules.json"
    );
    let lists = read_json(Path::new(path), "PEFT's names").unwrap();
    for (arch, name, count) in [(Arch::Sd15, "SD 1.5", 278), (Arch::Sdxl, "SDXL", 788)] {
        let mut modules = adapted_modules(arch);
        modules.sort_unstable();
        assert_eq!(modules.len(), count);
        assert_eq!(serde_json::json!(modules), lists[name], "{name}");
    }
}

#[test]
fn every_module_of_every_unet_has_a_kohya_name_that_leads_back() {
    for arch in Arch::ALL {
        for path in all_modules(arch) {
            let name = kohya::name(Part::UNet, &path, false).unwrap();
            let name = name.strip_prefix("lora_unet_").unwrap();
            assert!(!name.contains('.'), "{name}");
            let (back, is_sgm) = kohya::path(Part::UNet, name, 2).unwrap();
            assert_eq!((back, is_sgm), (path.clone(), path.starts_with("add_embedding")));
        }
    }
}

/// The name that the original code has for a module: its blocks numbered through, its own words in residual blocks.
fn sgm_name(path: &str, layers: usize) -> String {
    let segments: Vec<&str> = path.split('.').collect();
    let number = |i: usize| segments[i].parse::<usize>().unwrap();
    let inner = match segments.last().copied() {
        Some("conv1") => "in_layers_2".to_owned(),
        Some("conv2") => "out_layers_3".to_owned(),
        Some("time_emb_proj") => "emb_layers_1".to_owned(),
        Some("conv_shortcut") => "skip_connection".to_owned(),
        _ if segments[0] == "mid_block" => segments[3..].join("_"),
        _ => segments[4..].join("_"),
    };
    let kind = |word: &str| usize::from(word == "attentions");
    match segments[0] {
        "mid_block" => format!("middle_block_{}_{inner}", kind(segments[1]) + 2 * number(2)),
        "down_blocks" if segments[2] == "downsamplers" => {
            format!("input_blocks_{}_0_op", (number(1) + 1) * (layers + 1))
        }
        "down_blocks" => {
            let block = 1 + number(1) * (layers + 1) + number(3);
            format!("input_blocks_{block}_{}_{inner}", kind(segments[2]))
        }
        _ if segments[2] == "upsamplers" => {
            format!("output_blocks_{}_2_conv", number(1) * (layers + 1) + layers)
        }
        _ => {
            let block = number(1) * (layers + 1) + number(3);
            format!("output_blocks_{block}_{}_{inner}", kind(segments[2]))
        }
    }
}

#[test]
fn every_module_of_full_size_is_found_by_its_sgm_name() {
    for (arch, layers) in [(Arch::Sd15, 2), (Arch::Sdxl, 2), (Arch::TinySdxl, 1)] {
        for path in adapted_modules(arch) {
            let name = sgm_name(&path, layers);
            assert_eq!(
                kohya::path(Part::UNet, &name, layers),
                Some((path, true)),
                "{name}"
            );
        }
    }
}

#[test]
fn full_key_lists_survive_both_files() {
    let folder = tempfile::tempdir().unwrap();
    let one = || Tensor::ones([1, 1], (Kind::Half, Device::Cpu));
    for arch in [Arch::Sd15, Arch::Sdxl] {
        let modules: BTreeMap<String, LoraModule> = adapted_modules(arch)
            .into_iter()
            .map(|path| {
                (
                    path,
                    LoraModule {
                        a: one(),
                        b: one(),
                        alpha: 0.5,
                    },
                )
            })
            .collect();
        let paths = [
            folder.path().join("diffusers.safetensors"),
            folder.path().join("kohya.safetensors"),
        ];
        write_diffusers(&paths[0], &[(Part::UNet, &modules)]).unwrap();
        write_kohya(&paths[1], &[(Part::UNet, &modules)]).unwrap();
        for (path, form) in paths.iter().zip([LoraForm::Diffusers, LoraForm::Kohya]) {
            let read = LoraFile::read(path).unwrap();
            assert_eq!((read.form, &read.repairs), (form, &Vec::new()));
            assert!(read.unet.keys().eq(modules.keys()), "{}", arch.name());
            assert!(read.unet.values().all(|module| module.alpha == 0.5));
        }
    }
}
