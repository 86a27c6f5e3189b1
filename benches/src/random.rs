//! The random numbers of the workloads: splitmix64, because its definition fixes its sequence,
//! independently of a crate's version.

/// Sebastiano Vigna's splitmix64 (after Steele, Lea and Flood, "Fast splittable pseudorandom number
/// generators", 2014).
#[derive(Debug)]
pub struct SplitMix64(u64);

impl SplitMix64 {
    /// The sequence of that seed.
    pub fn new(seed: u64) -> Self {
        SplitMix64(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`: the upper half of a product (its bias of 2^-32 doesn't matter here).
    pub fn below(&mut self, bound: u32) -> u32 {
        (((self.next() >> 32) * u64::from(bound)) >> 32) as u32
    }

    /// A number of pages whose logarithm is uniform from one page to `most` pages: bytes are drawn
    /// and rounded up to a page.
    pub fn log_uniform_pages(&mut self, most: u32) -> u32 {
        let unit = (self.next() >> 11) as f64 / (1u64 << 53) as f64;
        f64::from(most).powf(unit).ceil() as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_is_the_published_one() {
        let mut random = SplitMix64::new(1_234_567);
        let expected =
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        assert_eq!([random.next(), random.next(), random.next()], expected);
    }

    #[test]
    fn log_uniform_sizes_fill_every_octave_alike() {
        let mut random = SplitMix64::new(1);
        let mut octaves = [0u32; 8];
        for _ in 0..80_000 {
            let pages = random.log_uniform_pages(256);
            assert!((1..=256).contains(&pages));
            octaves[(pages.next_power_of_two().trailing_zeros().max(1) - 1) as usize] += 1;
        }
        // One page is only drawn for the lower bound itself, so it is counted with (1, 2].
        assert!(octaves.iter().all(|&count| (9_500..10_500).contains(&count)), "{octaves:?}");
    }
}
