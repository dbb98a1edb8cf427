//! A stream of numbers for one purpose of one sample.

use crate::philox::philox4x32;

/// What a draw is for. Draws for different purposes are independent, and adding a purpose changes no other.
/// The numbers are part of what makes a run repeatable: never reuse or change one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Purpose {
    /// The index of the solver's timestep.
    TimestepIndex = 1,
    /// The guidance scale w.
    GuidanceScale = 2,
    /// The noise that is added to the latents.
    LatentNoise = 3,
    /// The sample from the VAE's posterior.
    VaeNoise = 4,
    /// The place of the crop.
    Crop = 5,
    /// Whether the picture is flipped.
    Flip = 6,
    /// Whether the caption is dropped.
    CaptionDrop = 7,
    /// Which of several captions is taken.
    CaptionChoice = 8,
    /// The order of shards.
    ShardOrder = 9,
    /// The order of samples within the window over the shards.
    SampleOrder = 10,
    /// The first latents of a picture that is painted.
    InitialLatents = 11,
    /// The noise added back between the steps of a sampler.
    SamplerNoise = 12,
    /// How new parameters start.
    Initialisation = 13,
    /// The small world of the demo.
    World = 14,
    /// The inputs of adapters that are dropped in training.
    Dropout = 15,
    /// Shards that are drawn with replacement.
    ShardDraw = 16,
    /// The place of one of a picture's few crops; the picture takes the seed's place, the crop the sample's.
    FewCrops = 17,
}

/// The numbers for one (seed, purpose, sample number): the same ones wherever and whenever they are drawn.
#[derive(Debug, Clone)]
pub struct Stream {
    key: [u32; 2],
    purpose: u32,
    sample: [u32; 2],
    block: u32,
    words: [u32; 4],
    used: usize,
    spare_normal: Option<f64>,
}

impl Stream {
    /// The stream's beginning.
    pub fn new(seed: u64, purpose: Purpose, sample: u64) -> Self {
        Stream {
            key: [seed as u32, (seed >> 32) as u32],
            purpose: purpose as u32,
            sample: [sample as u32, (sample >> 32) as u32],
            block: 0,
            words: [0; 4],
            used: 4,
            spare_normal: None,
        }
    }

    /// The stream without its first `count` numbers of 32 bits, of which [`uniform`](Self::uniform) and
    /// [`below`](Self::below) take two.
    pub fn after(seed: u64, purpose: Purpose, sample: u64, count: u64) -> Self {
        let mut stream = Stream::new(seed, purpose, sample);
        stream.block = (count / 4) as u32;
        for _ in 0..count % 4 {
            stream.next_u32();
        }
        stream
    }

    /// Uniform over all 32-bit numbers.
    pub fn next_u32(&mut self) -> u32 {
        if self.used == 4 {
            let counter = [self.block, self.purpose, self.sample[0], self.sample[1]];
            self.words = philox4x32(counter, self.key);
            self.block = self.block.wrapping_add(1);
            self.used = 0;
        }
        let word = self.words[self.used];
        self.used += 1;
        word
    }

    /// Uniform over all 64-bit numbers.
    pub fn next_u64(&mut self) -> u64 {
        (u64::from(self.next_u32()) << 32) | u64::from(self.next_u32())
    }

    /// Uniform in [0, 1), in steps of 2^-53.
    pub fn uniform(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Uniform over `0..n`, without bias; 0 where `n` is 0.
    pub fn below(&mut self, n: u64) -> u64 {
        if n == 0 {
            return 0;
        }
        // Numbers in the incomplete last run of `n` are drawn again.
        let incomplete = (u64::MAX % n + 1) % n;
        loop {
            let x = self.next_u64();
            if x <= u64::MAX - incomplete {
                return x % n;
            }
        }
    }

    /// Standard normal, by the method of Box and Muller.
    pub fn normal(&mut self) -> f64 {
        if let Some(spare) = self.spare_normal.take() {
            return spare;
        }
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        let (sin, cos) = (std::f64::consts::TAU * self.uniform()).sin_cos();
        self.spare_normal = Some(radius * sin);
        radius * cos
    }

    /// Fills `out` with standard normal numbers.
    pub fn fill_normal(&mut self, out: &mut [f32]) {
        for x in out {
            *x = self.normal() as f32;
        }
    }

    /// Puts `items` in a random order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i as u64 + 1) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(sample: u64) -> Stream {
        Stream::new(7, Purpose::LatentNoise, sample)
    }

    #[test]
    fn a_draw_depends_on_seed_purpose_and_sample_alone() {
        let first = |seed, purpose, sample| Stream::new(seed, purpose, sample).next_u64();
        let here = first(1, Purpose::Crop, 5);
        assert_eq!(here, first(1, Purpose::Crop, 5));
        assert_ne!(here, first(2, Purpose::Crop, 5));
        assert_ne!(here, first(1, Purpose::Flip, 5));
        assert_ne!(here, first(1, Purpose::Crop, 6));
        assert_ne!(first(1 << 40, Purpose::Crop, 5), first(0, Purpose::Crop, 5));
        assert_ne!(first(1, Purpose::Crop, 1 << 40), first(1, Purpose::Crop, 0));
    }

    #[test]
    fn a_stream_can_be_entered_anywhere() {
        let mut whole = stream(5);
        for count in 0..20 {
            let mut rest = Stream::after(7, Purpose::LatentNoise, 5, count);
            assert_eq!(rest.next_u32(), whole.next_u32(), "after {count}");
        }
    }

    #[test]
    fn normal_numbers_have_mean_0_and_variance_1() {
        let mut numbers = vec![0.0f32; 200_000];
        stream(0).fill_normal(&mut numbers);
        let n = numbers.len() as f64;
        let mean = numbers.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
        let variance = numbers
            .iter()
            .map(|&x| (f64::from(x) - mean).powi(2))
            .sum::<f64>()
            / n;
        assert!(mean.abs() < 0.01, "{mean}");
        assert!((variance - 1.0).abs() < 0.02, "{variance}");
    }

    #[test]
    fn below_covers_its_range_evenly() {
        let mut counts = [0u32; 7];
        let mut draws = stream(3);
        (0..70_000).for_each(|_| counts[draws.below(7) as usize] += 1);
        assert!(counts.iter().all(|&c| (9_500..10_500).contains(&c)), "{counts:?}");
        assert_eq!(stream(0).below(0), 0);
        assert_eq!(stream(0).below(1), 0);
    }

    #[test]
    fn a_shuffle_keeps_every_item() {
        let mut items: Vec<u32> = (0..100).collect();
        stream(9).shuffle(&mut items);
        assert!(!items.is_sorted());
        items.sort_unstable();
        assert!(items.iter().copied().eq(0..100));
    }
}
