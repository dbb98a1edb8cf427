//! The block names of the original Stable Diffusion code (Stability's SGM), which kohya's SDXL files use, as
//! diffusers' names.
//!
//! The original numbers its blocks through; diffusers counts levels and layers. So the number of layers in a level
//! must be known.

/// The words that begin an SGM name.
pub(super) const ROOTS: &[&str] = &[
    "input_blocks",
    "middle_block",
    "output_blocks",
    "time_embed",
    "label_emb",
    "out",
];

/// The words that follow, besides diffusers' own and numbers.
pub(super) const WORDS: &[&str] = &["in_layers", "out_layers", "emb_layers", "skip_connection", "op"];

/// diffusers' path of the module at this SGM path, given as segments: `["input_blocks", "1", "0", "in_layers",
/// "2"]` is `down_blocks.0.resnets.0.conv1`. None where there is no such module.
pub(super) fn to_diffusers(segments: &[&str], layers_per_block: usize) -> Option<String> {
    let blocks = layers_per_block + 1;
    let number = |word: &str| word.parse::<usize>().ok();
    match *segments {
        ["input_blocks", "0", "0"] => Some("conv_in".to_owned()),
        ["out", "2"] => Some("conv_out".to_owned()),
        ["time_embed", "0"] => Some("time_embedding.linear_1".to_owned()),
        ["time_embed", "2"] => Some("time_embedding.linear_2".to_owned()),
        ["label_emb", "0", "0"] => Some("add_embedding.linear_1".to_owned()),
        ["label_emb", "0", "2"] => Some("add_embedding.linear_2".to_owned()),
        ["input_blocks", block, "0", "op"] => {
            let block = number(block)?.checked_sub(1)?;
            // A level ends with its halving.
            (block % blocks == layers_per_block)
                .then(|| format!("down_blocks.{}.downsamplers.0.conv", block / blocks))
        }
        ["input_blocks", block, inner, ref rest @ ..] => {
            let block = number(block)?.checked_sub(1)?;
            let layer = block % blocks;
            if layer == layers_per_block {
                return None;
            }
            inside(&format!("down_blocks.{}", block / blocks), inner, layer, rest)
        }
        ["middle_block", "0", ref rest @ ..] => inside("mid_block", "0", 0, rest),
        ["middle_block", "1", ref rest @ ..] => inside("mid_block", "1", 0, rest),
        ["middle_block", "2", ref rest @ ..] => inside("mid_block", "0", 1, rest),
        // The doubling comes after the transformer where there is one.
        ["output_blocks", block, "1" | "2", "conv"] => {
            let block = number(block)?;
            (block % blocks == layers_per_block)
                .then(|| format!("up_blocks.{}.upsamplers.0.conv", block / blocks))
        }
        ["output_blocks", block, inner, ref rest @ ..] => {
            let block = number(block)?;
            inside(
                &format!("up_blocks.{}", block / blocks),
                inner,
                block % blocks,
                rest,
            )
        }
        _ => None,
    }
}

/// A module of a residual block (`inner` 0) or of a transformer (`inner` 1).
fn inside(level: &str, inner: &str, layer: usize, rest: &[&str]) -> Option<String> {
    match inner {
        "0" => {
            let module = match rest {
                ["in_layers", "2"] => "conv1",
                ["out_layers", "3"] => "conv2",
                ["emb_layers", "1"] => "time_emb_proj",
                ["skip_connection"] => "conv_shortcut",
                _ => return None,
            };
            Some(format!("{level}.resnets.{layer}.{module}"))
        }
        "1" if !rest.is_empty() => Some(format!("{level}.attentions.{layer}.{}", rest.join("."))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::to_diffusers;

    fn two_layers(path: &str) -> Option<String> {
        to_diffusers(&path.split('.').collect::<Vec<_>>(), 2)
    }

    #[test]
    fn blocks_become_levels_and_layers() {
        for (sgm, diffusers) in [
            ("input_blocks.1.0.in_layers.2", "down_blocks.0.resnets.0.conv1"),
            ("input_blocks.3.0.op", "down_blocks.0.downsamplers.0.conv"),
            (
                "input_blocks.5.1.transformer_blocks.1.attn2.to_k",
                "down_blocks.1.attentions.1.transformer_blocks.1.attn2.to_k",
            ),
            ("middle_block.0.emb_layers.1", "mid_block.resnets.0.time_emb_proj"),
            ("middle_block.1.proj_in", "mid_block.attentions.0.proj_in"),
            ("middle_block.2.out_layers.3", "mid_block.resnets.1.conv2"),
            ("output_blocks.2.2.conv", "up_blocks.0.upsamplers.0.conv"),
            // Stable Diffusion 1.x has no transformer in its lowest level, so the doubling comes second.
            ("output_blocks.2.1.conv", "up_blocks.0.upsamplers.0.conv"),
            (
                "output_blocks.8.0.skip_connection",
                "up_blocks.2.resnets.2.conv_shortcut",
            ),
            ("out.2", "conv_out"),
        ] {
            assert_eq!(two_layers(sgm).as_deref(), Some(diffusers), "{sgm}");
        }
    }

    #[test]
    fn what_is_no_module_has_no_name() {
        for sgm in [
            "input_blocks.0.0.op",
            "input_blocks.1.0.op",
            "input_blocks.3.0.in_layers.2",
            "input_blocks.1.0.in_layers.1",
            "output_blocks.1.2.conv",
            "middle_block.3.proj_in",
            "input_blocks.1",
        ] {
            assert_eq!(two_layers(sgm), None, "{sgm}");
        }
    }
}
