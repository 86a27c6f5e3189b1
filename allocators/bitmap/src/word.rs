//! Operations on the 64 bits of one word: the places for a request in it, and its longest hole.
//!
//! In all masks bit `i` is the word's page `i`, and set if that page is free.

/// The first bits of all runs of `length` set bits, 1 to 64. (Bits above the top count as 0.)
#[inline]
pub(crate) fn runs_of(length: u64, bits: u64) -> u64 {
    // `runs` has the first bits of all runs of length `done`. Two adjacent ones are a run of the
    // sum of their lengths.
    let (mut runs, mut done) = (bits, 1);
    while done < length {
        let step = done.min(length - done);
        runs &= runs >> step;
        done += step;
    }
    runs
}

/// The length of the longest run of set bits.
#[inline]
pub(crate) fn longest_run(bits: u64) -> u64 {
    let twos = bits & bits >> 1;
    let fours = twos & twos >> 2;
    let eights = fours & fours >> 4;
    let sixteens = eights & eights >> 8;
    let halves = sixteens & sixteens >> 16;
    // Builds the length bit by bit: `runs` has the first bits of runs of `length`, and the length
    // grows as long as one remains.
    let (mut runs, mut length) = (!0, 0);
    for (step, more) in
        [(32, halves), (16, sixteens), (8, eights), (4, fours), (2, twos), (1, bits), (1, bits)]
    {
        let longer = runs & more >> length;
        if longer != 0 {
            (runs, length) = (longer, length + step);
        }
    }
    length
}

/// The bits that are multiples of 1, 2, 4 and so on: all ones divided by as many ones as the power
/// of two.
const MULTIPLES: [u64; 7] = [!0, !0 / 0x3, !0 / 0xf, !0 / 0xff, !0 / 0xffff, !0 / 0xffff_ffff, 1];

/// The pages that are multiples of `alignment`, a power of two, in a word that starts at absolute
/// page `first`.
#[inline]
pub(crate) fn aligned(first: u64, alignment: u64) -> u64 {
    let offset = first.wrapping_neg() & (alignment - 1);
    if offset < 64 { MULTIPLES[alignment.trailing_zeros().min(6) as usize] << offset } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Words with runs of many lengths at many places.
    fn words() -> impl Iterator<Item = u64> {
        let scattered = (0..2_000_u64).map(|i| {
            let random = (i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            random | random.rotate_left(i as u32 % 23) | random.rotate_left(7)
        });
        let runs =
            (0..64).flat_map(|from| (from..64).map(move |to| (!0 << from) & (!0 >> (63 - to))));
        scattered.chain(runs).flat_map(|word| [word, !word])
    }

    fn run_at(word: u64, bit: u32) -> u64 {
        u64::from((word >> bit).trailing_ones())
    }

    #[test]
    fn runs_of_finds_every_bit_that_starts_a_run_of_the_length() {
        for word in words() {
            for length in [1, 2, 3, 5, 8, 31, 32, 33, 63, 64] {
                let expected = (0..64)
                    .filter(|bit| run_at(word, *bit) >= length)
                    .fold(0, |all, bit| all | 1 << bit);
                assert_eq!(runs_of(length, word), expected, "{length} in {word:#b}");
            }
        }
    }

    #[test]
    fn longest_run_is_the_maximum_over_all_bits() {
        for word in words() {
            let longest = (0..64).map(|bit| run_at(word, bit)).max();
            assert_eq!(Some(longest_run(word)), longest, "{word:#b}");
        }
    }

    #[test]
    fn aligned_pages_are_multiples_of_the_alignment() {
        for first in [0, 1, 63, 64, 4096, (1 << 52) - 64, (1 << 51) - 3] {
            for alignment in (0..52).map(|log2| 1 << log2) {
                let multiples = (0..64).filter(|bit| (first + bit) % alignment == 0);
                let expected = multiples.fold(0, |all, bit| all | 1 << bit);
                assert_eq!(aligned(first, alignment), expected, "{first}, {alignment}");
            }
        }
    }
}
