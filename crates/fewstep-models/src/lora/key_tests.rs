//! Tests of the names of tensors, one by one.

use super::form::Reason;
use super::key::{Naming, Role, parse};
use super::module::Part;

const TO_Q: &str = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q";

fn understood(key: &str) -> (Part, String, Role, Naming) {
    let key = parse(key, 2).unwrap();
    (key.part, key.path, key.role, key.naming)
}

#[test]
fn one_module_has_many_names() {
    for (key, role, naming) in [
        (format!("unet.{TO_Q}.lora_A.weight"), Role::A, Naming::Diffusers),
        (
            format!("unet.{TO_Q}.lora_B.default.weight"),
            Role::B,
            Naming::Diffusers,
        ),
        (
            format!("unet.{TO_Q}.lora.down.weight"),
            Role::A,
            Naming::OldDiffusers,
        ),
        (
            format!("unet.{TO_Q}.lora_up.weight"),
            Role::B,
            Naming::OldDiffusers,
        ),
        (format!("unet.{TO_Q}.alpha"), Role::Alpha, Naming::Diffusers),
        (
            format!("unet.{}_lora.up.weight", TO_Q.replace("attn1", "attn1.processor")),
            Role::B,
            Naming::OldDiffusers,
        ),
        (
            format!("{}_lora.up.weight", TO_Q.replace("attn1", "attn1.processor")),
            Role::B,
            Naming::OldDiffusers,
        ),
        (
            format!("unet.base_model.model.{TO_Q}.lora_A.weight"),
            Role::A,
            Naming::WrappedDiffusers,
        ),
        (
            format!("base_model.model.{TO_Q}.lora_A.weight"),
            Role::A,
            Naming::Peft,
        ),
        (
            format!("lora_unet_{}.lora_down.weight", TO_Q.replace('.', "_")),
            Role::A,
            Naming::Kohya,
        ),
        (
            "lora_unet_input_blocks_1_1_transformer_blocks_0_attn1_to_q.alpha".to_owned(),
            Role::Alpha,
            Naming::KohyaSgm,
        ),
    ] {
        assert_eq!(
            understood(&key),
            (Part::UNet, TO_Q.to_owned(), role, naming),
            "{key}"
        );
    }
    let (.., path, _, _) = understood("unet.mid_block.attentions.0.attn1.processor.to_out_lora.up.weight");
    assert_eq!(path, "mid_block.attentions.0.attn1.to_out.0");
}

#[test]
fn text_encoders_have_names_of_their_own() {
    let path = "text_model.encoder.layers.3.self_attn.out_proj";
    for key in [
        "text_encoder.text_model.encoder.layers.3.self_attn.to_out_lora.down.weight",
        "text_encoder.encoder.layers.3.self_attn.out_proj.lora_A.weight",
        "text_encoder.text_model.encoder.layers.3.self_attn.out_proj.lora_linear_layer.down.weight",
        "base_model.model.text_model.encoder.layers.3.self_attn.out_proj.lora_A.weight",
        "lora_te_text_model_encoder_layers_3_self_attn_out_proj.lora_down.weight",
        "lora_te1_text_model_encoder_layers_3_self_attn_out_proj.lora_down.weight",
    ] {
        let (part, is, role, _) = understood(key);
        assert_eq!(
            (part, is.as_str(), role),
            (Part::TextEncoder, path, Role::A),
            "{key}"
        );
    }
    let (part, path, ..) = understood("lora_te2_text_projection.lora_up.weight");
    assert_eq!((part, path.as_str()), (Part::TextEncoder2, "text_projection"));
}

#[test]
fn what_is_no_lora_is_named() {
    for key in [
        format!("lora_unet_{}.dora_scale", TO_Q.replace('.', "_")),
        format!("unet.{TO_Q}.lora_magnitude_vector"),
    ] {
        assert_eq!(parse(&key, 2), Err(Reason::Dora), "{key}");
    }
    for (key, wanted) in [
        (format!("lora_unet_{}.hada_w1_a", TO_Q.replace('.', "_")), "LoHa"),
        (format!("unet.{TO_Q}.lora_B.bias"), "bias"),
        (format!("unet.{TO_Q}.weight"), "no matrix of a LoRA"),
        (
            "bundle_emb.cat.string_to_param.*".to_owned(),
            "no matrix of a LoRA",
        ),
        (
            "transformer.single_blocks.0.lora_A.weight".to_owned(),
            "names no network",
        ),
        (
            "unet.motion_modules.0.lora_A.weight".to_owned(),
            "no module of a Stable",
        ),
        ("lora_te_up_blocks_0.alpha".to_owned(), "no module of a CLIP"),
    ] {
        let Err(Reason::Other(sentence)) = parse(&key, 2) else {
            panic!("{key}");
        };
        assert!(sentence.contains(wanted), "{key}: {sentence}");
    }
}
