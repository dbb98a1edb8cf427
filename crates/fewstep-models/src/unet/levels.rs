//! Options that have one value for all levels of a UNet or a list with one for each.
//!
//! It knows their forms in config.json, not what they build.

use serde_json::{Map, Value};

use super::config::{BlockType, MidBlockType};
use crate::weights::{ModelError, Options};

/// A whole number above zero for each level.
pub(super) fn counts(
    options: &Options<'_>,
    option: &str,
    default: i64,
    levels: usize,
) -> Result<Vec<i64>, ModelError> {
    match options.get(option) {
        Some(Value::Array(_)) => {
            let list = options.counts(option)?.unwrap_or_default();
            one_a_level(options, option, list, levels)
        }
        _ => Ok(vec![options.count(option)?.unwrap_or(default); levels]),
    }
}

/// True or false for each level.
pub(super) fn flags(options: &Options<'_>, option: &str, levels: usize) -> Result<Vec<bool>, ModelError> {
    let Some(Value::Array(list)) = options.get(option) else {
        return Ok(vec![options.flag(option)?.unwrap_or(false); levels]);
    };
    let flags: Option<Vec<bool>> = list.iter().map(Value::as_bool).collect();
    let wrong = || options.error(option, "must be true, false or a list of these");
    one_a_level(options, option, flags.ok_or_else(wrong)?, levels)
}

/// The kinds of the levels of the way down or up.
pub(super) fn block_types(
    options: &Options<'_>,
    option: &str,
    levels: usize,
) -> Result<Vec<BlockType>, ModelError> {
    let way = if option.starts_with("down") { "Down" } else { "Up" };
    let (plain, attention) = (format!("{way}Block2D"), format!("CrossAttn{way}Block2D"));
    let Some(names) = options.texts(option)? else {
        // diffusers' default has four levels, all but the lowest with attention.
        let mut types = vec![BlockType::CrossAttention; 4];
        types[if way == "Down" { 3 } else { 0 }] = BlockType::Plain;
        return one_a_level(options, option, types, levels);
    };
    let types: Result<Vec<BlockType>, ModelError> = names
        .into_iter()
        .map(|name| match name.strip_prefix("UNetRes").unwrap_or(name) {
            name if name == plain => Ok(BlockType::Plain),
            name if name == attention => Ok(BlockType::CrossAttention),
            _ => Err(options.error(
                option,
                format!("names {name:?}, but only {plain:?} and {attention:?} are supported"),
            )),
        })
        .collect();
    one_a_level(options, option, types?, levels)
}

/// The kind of the lowest level: the one option to which `null` says something.
pub(super) fn mid_block_type(
    json: &Map<String, Value>,
    options: &Options<'_>,
) -> Result<MidBlockType, ModelError> {
    if json.get("mid_block_type").is_some_and(Value::is_null) {
        return Ok(MidBlockType::None);
    }
    match options.text("mid_block_type")?.unwrap_or("UNetMidBlock2DCrossAttn") {
        "UNetMidBlock2DCrossAttn" => Ok(MidBlockType::CrossAttention),
        "UNetMidBlock2D" => Ok(MidBlockType::Plain),
        other => Err(options.error(
            "mid_block_type",
            format!(
                "is {other:?}, but only \"UNetMidBlock2DCrossAttn\", \"UNetMidBlock2D\" and null are supported"
            ),
        )),
    }
}

/// Height and width of the training latents: one number, or a pair.
pub(super) fn sample_size(options: &Options<'_>) -> Result<Option<[i64; 2]>, ModelError> {
    match options.get("sample_size") {
        Some(Value::Array(_)) => match options.counts("sample_size")?.unwrap_or_default()[..] {
            [height, width] => Ok(Some([height, width])),
            _ => Err(options.error("sample_size", "must be one number, or height and width")),
        },
        _ => Ok(options.count("sample_size")?.map(|size| [size, size])),
    }
}

/// The padding of halving convolutions: a whole number, zero included.
pub(super) fn padding(options: &Options<'_>) -> Result<i64, ModelError> {
    let padding = options.int("downsample_padding")?.unwrap_or(1);
    if (0..=64).contains(&padding) {
        return Ok(padding);
    }
    Err(options.error(
        "downsample_padding",
        format!("is {padding}, but must be from 0 to 64"),
    ))
}

/// The numbers of transformer blocks of each level, a list with an entry for each layer.
type Depths = Vec<Vec<usize>>;

/// The depths of the way down and of the way up, the latter from the lowest level.
pub(super) fn transformer_layers(
    options: &Options<'_>,
    layers_per_block: &[usize],
) -> Result<(Depths, Depths), ModelError> {
    const DOWN: &str = "transformer_layers_per_block";
    const UP: &str = "reverse_transformer_layers_per_block";
    let one = Value::from(1);
    let down = options.get(DOWN).unwrap_or(&one);
    let down_counts = layers_per_block.to_vec();
    let up_counts: Vec<usize> = layers_per_block.iter().rev().map(|n| n + 1).collect();
    let nested = down
        .as_array()
        .is_some_and(|list| list.iter().any(Value::is_array));
    let up = match options.get(UP) {
        Some(up) => up.clone(),
        None if nested => {
            return Err(options.error(
                UP,
                format!("is missing, but {DOWN} is {down}, which gives no way up"),
            ));
        }
        None => match down {
            Value::Array(list) => list.iter().rev().cloned().collect(),
            number => number.clone(),
        },
    };
    Ok((
        depths(options, DOWN, down, &down_counts)?,
        depths(options, UP, &up, &up_counts)?,
    ))
}

/// SDXL has ten after one another.
const MOST_TRANSFORMERS: u64 = 64;

/// Brings a number, a list of numbers, or a list of lists of numbers to one entry for each layer.
fn depths(
    options: &Options<'_>,
    option: &str,
    value: &Value,
    layers: &[usize],
) -> Result<Depths, ModelError> {
    let wrong = || {
        let problem = format!(
            "is {value}, but must be a number, or a list with a number or a list of numbers for each level"
        );
        options.error(option, problem)
    };
    let number = |value: &Value| {
        value
            .as_u64()
            .filter(|&n| n <= MOST_TRANSFORMERS)
            .map(|n| n as usize)
    };
    let entries = match value {
        Value::Array(list) => one_a_level(options, option, list.iter().collect(), layers.len())?,
        number => vec![number; layers.len()],
    };
    let level = |(entry, &count): (&Value, &usize)| match entry {
        Value::Array(list) if list.len() >= count => list[..count].iter().map(number).collect(),
        Value::Array(_) => None,
        _ => number(entry).map(|depth| vec![depth; count]),
    };
    let all: Option<Depths> = entries.into_iter().zip(layers).map(level).collect();
    all.ok_or_else(wrong)
}

fn one_a_level<T>(
    options: &Options<'_>,
    option: &str,
    list: Vec<T>,
    levels: usize,
) -> Result<Vec<T>, ModelError> {
    if list.len() == levels {
        return Ok(list);
    }
    let problem = format!("has {} entries, but block_out_channels has {levels}", list.len());
    Err(options.error(option, problem))
}
