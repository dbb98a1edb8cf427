//! The name of one tensor, taken apart: which network, which module, which matrix, and in whose words.
//!
//! It knows names only; whether a module has both its matrices is for the reader of the file.

use super::form::Reason;
use super::kohya;
use super::module::Part;

/// What a tensor is to its adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// The map down.
    A,
    /// The map up.
    B,
    /// The numerator of the scale.
    Alpha,
}

/// Whose words a name is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Naming {
    Diffusers,
    OldDiffusers,
    WrappedDiffusers,
    Peft,
    Kohya,
    KohyaSgm,
}

/// A name, understood.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) part: Part,
    /// The module's path in our layouts.
    pub(super) path: String,
    pub(super) role: Role,
    pub(super) naming: Naming,
    /// The adapter's name that PEFT left in (`lora_A.default.weight`).
    pub(super) adapter: Option<String>,
}

/// What stands after a module's path in the names of its tensors.
const ENDINGS: &[(&str, Role, Naming)] = &[
    (".lora_A.weight", Role::A, Naming::Diffusers),
    (".lora_B.weight", Role::B, Naming::Diffusers),
    (".lora.down.weight", Role::A, Naming::OldDiffusers),
    (".lora.up.weight", Role::B, Naming::OldDiffusers),
    (".lora_linear_layer.down.weight", Role::A, Naming::OldDiffusers),
    (".lora_linear_layer.up.weight", Role::B, Naming::OldDiffusers),
    // Of attention processors: `to_q_lora` for the module `to_q`.
    ("_lora.down.weight", Role::A, Naming::OldDiffusers),
    ("_lora.up.weight", Role::B, Naming::OldDiffusers),
    (".lora_down.weight", Role::A, Naming::OldDiffusers),
    (".lora_up.weight", Role::B, Naming::OldDiffusers),
    (".alpha", Role::Alpha, Naming::Diffusers),
];

/// Tensors of other kinds of adapters, by what their names contain.
const FOREIGN: &[(&str, &str)] = &[
    ("hada_", "a LoHa (a product of two LoRAs)"),
    ("lokr_", "a LoKr (a Kronecker product)"),
    ("oft_", "an OFT (a rotation)"),
    ("lora_mid", "a LoRA with a core tensor (LoCon's Tucker form)"),
    (".bias", "an adapter with a bias"),
    (".diff", "a full difference of weights"),
];

/// Takes a name apart. `layers_per_block` is the UNet's, and matters to SGM's block names only.
///
/// # Errors
/// Why the tensor cannot be part of an adapter.
pub(super) fn parse(key: &str, layers_per_block: usize) -> Result<Key, Reason> {
    if key.contains("dora_scale") || key.contains("lora_magnitude_vector") {
        return Err(Reason::Dora);
    }
    let (without_adapter, adapter) = take_adapter(key);
    let ending = ENDINGS
        .iter()
        .find_map(|&(ending, role, naming)| Some((without_adapter.strip_suffix(ending)?, role, naming)));
    let Some((place, role, naming)) = ending else {
        return Err(foreign(key));
    };
    let (part, path, naming) = match kohya_part(place) {
        Some((part, name)) => {
            let Some((path, is_sgm)) = kohya::path(part, name, layers_per_block) else {
                return Err(unknown_module(part));
            };
            let naming = if is_sgm { Naming::KohyaSgm } else { Naming::Kohya };
            (part, path, naming)
        }
        None => {
            let Some((part, path, wrapping)) = dotted_part(place) else {
                return Err(Reason::other(
                    "names no network: it should begin with `unet.`, `text_encoder.` or `lora_unet_`",
                ));
            };
            let path = today(part, path);
            if !kohya::knows(part, &path) {
                return Err(unknown_module(part));
            }
            (part, path, wrapping.unwrap_or(naming))
        }
    };
    Ok(Key {
        part,
        path,
        role,
        naming,
        adapter,
    })
}

/// `x.lora_A.default.weight` as `x.lora_A.weight`, and `default`.
fn take_adapter(key: &str) -> (String, Option<String>) {
    for matrix in [".lora_A.", ".lora_B."] {
        let adapter = key
            .split_once(matrix)
            .and_then(|(path, rest)| Some((path, rest.strip_suffix(".weight")?)));
        if let Some((path, adapter)) = adapter {
            return (format!("{path}{matrix}weight"), Some(adapter.to_owned()));
        }
    }
    (key.to_owned(), None)
}

/// The network of a kohya name, and what follows its prefix.
fn kohya_part(place: &str) -> Option<(Part, &str)> {
    [
        ("lora_unet_", Part::UNet),
        ("lora_te_", Part::TextEncoder),
        ("lora_te1_", Part::TextEncoder),
        ("lora_te2_", Part::TextEncoder2),
    ]
    .into_iter()
    .find_map(|(prefix, part)| Some((part, place.strip_prefix(prefix)?)))
}

/// The network of a name with dots, the module's path, and whose prefix it had, where that says more than the
/// ending.
fn dotted_part(place: &str) -> Option<(Part, &str, Option<Naming>)> {
    const PEFT: &str = "base_model.model.";
    for part in Part::ALL {
        let inside = place
            .strip_prefix(part.name())
            .and_then(|rest| rest.strip_prefix('.'));
        if let Some(inside) = inside {
            return Some(match inside.strip_prefix(PEFT) {
                Some(path) => (part, path, Some(Naming::WrappedDiffusers)),
                None => (part, inside, None),
            });
        }
    }
    let (path, naming) = match place.strip_prefix(PEFT) {
        Some(path) => (path, Some(Naming::Peft)),
        // The first of diffusers' files held a UNet's attention alone, without its name.
        None => (place, None),
    };
    [Part::UNet, Part::TextEncoder]
        .into_iter()
        .find(|&part| kohya::knows(part, &today(part, path)))
        .map(|part| (part, path, naming))
}

/// A path in the words of today: without the attention's processor, with the text encoder's root.
fn today(part: Part, path: &str) -> String {
    let path = path.replace(".processor.", ".");
    let renamed = |from: &str, to: &str| Some(format!("{}{to}", path.strip_suffix(from)?));
    if part == Part::UNet {
        return renamed(".to_out", ".to_out.0").unwrap_or(path);
    }
    let path = [
        (".to_q", ".q_proj"),
        (".to_k", ".k_proj"),
        (".to_v", ".v_proj"),
        (".to_out", ".out_proj"),
    ]
    .into_iter()
    .find_map(|(from, to)| renamed(from, to))
    .unwrap_or(path);
    match path.starts_with("encoder.") || path.starts_with("embeddings.") {
        true => format!("text_model.{path}"),
        false => path,
    }
}

fn unknown_module(part: Part) -> Reason {
    let network = match part {
        Part::UNet => "Stable Diffusion UNet",
        Part::TextEncoder | Part::TextEncoder2 => "CLIP text encoder",
    };
    Reason::Other(format!("is for no module of a {network} that fewstep knows"))
}

fn foreign(key: &str) -> Reason {
    match FOREIGN.iter().find(|(word, _)| key.contains(word)) {
        Some((_, kind)) => Reason::Other(format!("belongs to {kind}, which fewstep does not support")),
        None => Reason::other("is no matrix of a LoRA"),
    }
}
