//! The numbers that 8 bits stand for in an optimiser's moments: the dynamic map of bitsandbytes (Dettmers et al., 2022,
//! "8-bit Optimizers via Block-wise Quantization"), with or without negative numbers.
//!
//! A map is computed by plain f32 arithmetic, so that it is the same everywhere. It knows no tensors.

use std::sync::LazyLock;

/// Powers of ten that a map reaches down to.
const DECADES: u32 = 7;
/// One more than the upper 16 bits of -1.0: all numbers in [-1, 1] have a place below.
const PLACES: usize = 0xbf81;

/// A map of 256 numbers in ascending order, as tiles.h lays it out too.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Map {
    pub(crate) values: [f32; 256],
    /// A number up to `bounds[i]` and above those before is nearest to `values[i]`; the last is infinite.
    pub(crate) bounds: [f32; 256],
    /// The least code of the numbers whose upper 16 bits are the index.
    first: [u8; PLACES],
}

/// For the first moment: numbers in [-1, 1].
pub(crate) static SIGNED: LazyLock<Map> = LazyLock::new(|| Map::new(Sign::Both));
/// For the second moment: numbers in [0, 1].
pub(crate) static UNSIGNED: LazyLock<Map> = LazyLock::new(|| Map::new(Sign::Positive));

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sign {
    Both,
    Positive,
}

impl Map {
    fn new(sign: Sign) -> Self {
        let mut values = vec![0.0, 1.0];
        for decade in 0..DECADES {
            // The numbers of a decade lie in the middle of equal parts of it, twice as many as in the one below.
            let parts = match sign {
                Sign::Both => 1 << decade,
                Sign::Positive => 2 << decade,
            };
            let scale = 10f64.powi(decade as i32 + 1 - DECADES as i32) as f32;
            for part in 0..parts {
                let value = scale * ((edge(part, parts) + edge(part + 1, parts)) / 2.0);
                values.push(value);
                if sign == Sign::Both {
                    values.push(-value);
                }
            }
        }
        values.sort_by(f32::total_cmp);
        let mut map = Map {
            values: [0.0; 256],
            bounds: [f32::INFINITY; 256],
            first: [0; PLACES],
        };
        map.values.copy_from_slice(&values);
        for (bound, pair) in map.bounds.iter_mut().zip(values.windows(2)) {
            *bound = (pair[0] + pair[1]) / 2.0;
        }
        for (first, upper) in map.first.iter_mut().zip(0u32..) {
            // The least number with these upper bits: of negative ones that with the largest lower bits.
            let negative = upper >= 0x8000;
            let least = f32::from_bits(upper << 16 | if negative { 0xffff } else { 0 });
            let below = map.bounds.iter().filter(|&&bound| bound < least).count();
            *first = u8::try_from(below).unwrap_or(u8::MAX);
        }
        map
    }
}

/// Where the part of that number begins if the numbers from 0.1 to 1 are cut into equal parts: from the nearer end and
/// rounded once, as torch's linspace.
fn edge(number: u32, parts: u32) -> f32 {
    let step = (1.0 - 0.1f32) / parts as f32;
    match number < parts.div_ceil(2) {
        true => step.mul_add(number as f32, 0.1),
        false => (-step).mul_add((parts - number) as f32, 1.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_with_the_same_upper_bits_have_at_most_one_bound_between_them() {
        for map in [&*SIGNED, &*UNSIGNED] {
            assert!(map.values.is_sorted() && map.values[255] == 1.0);
            for upper in (0..=0x3f80u32).chain(0x8000..PLACES as u32) {
                let ends = [upper << 16, upper << 16 | 0xffff].map(f32::from_bits);
                let within = |bound: &&f32| **bound >= ends[0].min(ends[1]) && **bound < ends[0].max(ends[1]);
                assert!(map.bounds.iter().filter(within).count() <= 1, "{upper:#x}");
            }
        }
    }
}
