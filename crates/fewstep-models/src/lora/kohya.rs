//! kohya's names: a module's path with underscores for dots, after a prefix that says the network.
//!
//! Modules have underscores in their own names (`down_blocks`, `to_q`), so the way back needs the words that such
//! paths are made of. There are few, and no two of them joined make a third: taking the longest at each place has
//! one outcome.

use super::module::Part;
use super::sgm;

/// The words that paths are made of.
struct Vocabulary {
    /// Those that begin a path.
    roots: &'static [&'static str],
    /// Those that follow, besides numbers.
    words: &'static [&'static str],
}

const UNET: Vocabulary = Vocabulary {
    roots: &[
        "down_blocks",
        "mid_block",
        "up_blocks",
        "conv_in",
        "conv_out",
        "time_embedding",
        "add_embedding",
    ],
    words: &[
        "attentions",
        "resnets",
        "downsamplers",
        "upsamplers",
        "transformer_blocks",
        "attn1",
        "attn2",
        "to_q",
        "to_k",
        "to_v",
        "to_out",
        "ff",
        "net",
        "proj",
        "proj_in",
        "proj_out",
        "conv",
        "conv1",
        "conv2",
        "conv_shortcut",
        "time_emb_proj",
        "linear_1",
        "linear_2",
        "cond_proj",
    ],
};

const TEXT: Vocabulary = Vocabulary {
    roots: &["text_model", "text_projection"],
    words: &[
        "encoder",
        "layers",
        "self_attn",
        "q_proj",
        "k_proj",
        "v_proj",
        "out_proj",
        "mlp",
        "fc1",
        "fc2",
        "embeddings",
        "token_embedding",
        "position_embedding",
    ],
};

fn vocabulary(part: Part) -> &'static Vocabulary {
    match part {
        Part::UNet => &UNET,
        Part::TextEncoder | Part::TextEncoder2 => &TEXT,
    }
}

/// Whether a path has the words of modules that this network can have.
pub(super) fn knows(part: Part, path: &str) -> bool {
    let Vocabulary { roots, words } = vocabulary(part);
    let mut segments = path.split('.');
    segments.next().is_some_and(|root| roots.contains(&root))
        && segments.all(|segment| words.contains(&segment) || is_number(segment))
}

/// The path behind a name without its prefix, and whether it was in SGM's words. None where a word is not known,
/// or the words are no module's.
pub(super) fn path(part: Part, name: &str, layers_per_block: usize) -> Option<(String, bool)> {
    let own = vocabulary(part);
    if let Some(segments) = segments(name, own.roots, own.words) {
        return Some((segments.join("."), false));
    }
    let segments =
        (part == Part::UNet).then(|| segments(name, sgm::ROOTS, &[own.words, sgm::WORDS].concat()))??;
    let path = sgm::to_diffusers(&segments, layers_per_block)?;
    knows(part, &path).then_some((path, true))
}

/// Cuts a name at the underscores between its words, the first of which is one of `roots`.
fn segments<'a>(name: &'a str, roots: &[&str], words: &[&str]) -> Option<Vec<&'a str>> {
    let mut segments = vec![longest(name, roots)?];
    let mut rest = &name[segments[0].len()..];
    while let Some(after) = rest.strip_prefix('_') {
        let digits = after.bytes().take_while(u8::is_ascii_digit).count();
        let number = Some(&after[..digits]).filter(|number| ends(after, number));
        let segment = number.or_else(|| longest(after, words))?;
        segments.push(segment);
        rest = &after[segment.len()..];
    }
    Some(segments)
}

/// The longest of `words` that the text begins with.
fn longest<'a>(text: &'a str, words: &[&str]) -> Option<&'a str> {
    let fitting = words
        .iter()
        .filter(|word| text.starts_with(**word) && ends(text, word));
    fitting.map(|word| word.len()).max().map(|len| &text[..len])
}

/// Whether this beginning of the text ends where a word may end.
fn ends(text: &str, beginning: &str) -> bool {
    let next = text.as_bytes().get(beginning.len());
    !beginning.is_empty() && next.is_none_or(|byte| *byte == b'_')
}

fn is_number(segment: &str) -> bool {
    !segment.is_empty() && segment.bytes().all(|byte| byte.is_ascii_digit())
}

/// The name of a module without the ending of its tensors; `two_encoders` says whether the pipeline has a second
/// text encoder. None where it could not be read back.
pub(super) fn name(part: Part, path: &str, two_encoders: bool) -> Option<String> {
    let prefix = match part {
        Part::UNet => "lora_unet_",
        Part::TextEncoder if two_encoders => "lora_te1_",
        Part::TextEncoder => "lora_te_",
        Part::TextEncoder2 => "lora_te2_",
    };
    // diffusers and kohya's own tools know these two by SGM's name only.
    let path = match path {
        "add_embedding.linear_1" if part == Part::UNet => "label_emb.0.0",
        "add_embedding.linear_2" if part == Part::UNet => "label_emb.0.2",
        path if knows(part, path) => path,
        _ => return None,
    };
    Some(format!("{prefix}{}", path.replace('.', "_")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn underscores_inside_words_stay() {
        for path in [
            "down_blocks.1.attentions.0.transformer_blocks.11.attn2.to_out.0",
            "mid_block.attentions.0.transformer_blocks.0.ff.net.0.proj",
            "up_blocks.0.resnets.2.conv_shortcut",
            "time_embedding.linear_2",
        ] {
            let name = name(Part::UNet, path, false).unwrap();
            let name = name.strip_prefix("lora_unet_").unwrap();
            assert_eq!(super::path(Part::UNet, name, 2), Some((path.to_owned(), false)));
        }
        let (path, _) = path(Part::TextEncoder2, "text_model_encoder_layers_31_mlp_fc2", 2).unwrap();
        assert_eq!(path, "text_model.encoder.layers.31.mlp.fc2");
    }

    #[test]
    fn unknown_words_are_refused() {
        for name in [
            "down_blocks_0_motion_modules_0_proj_in",
            "down_blocks_0_attentions_0_to_q_",
            "double_blocks_0_img_attn_proj",
            "attn1_to_q",
            "_",
            "",
        ] {
            assert_eq!(path(Part::UNet, name, 2), None, "{name}");
        }
        assert_eq!(name(Part::UNet, "down_blocks.0.motion_modules.0", false), None);
    }

    #[test]
    fn no_two_words_make_a_third() {
        let sgm = [UNET.words, sgm::WORDS].concat();
        for (roots, words) in [
            (UNET.roots, UNET.words),
            (TEXT.roots, TEXT.words),
            (sgm::ROOTS, &sgm),
        ] {
            let pairs = |firsts: &[&str]| -> Vec<String> {
                let pairs = firsts
                    .iter()
                    .flat_map(|a| words.iter().map(move |b| format!("{a}_{b}")));
                pairs.collect()
            };
            assert!(!pairs(roots).iter().any(|pair| roots.contains(&pair.as_str())));
            assert!(!pairs(words).iter().any(|pair| words.contains(&pair.as_str())));
        }
    }
}
