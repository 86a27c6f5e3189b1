//! The properties of classes, and the tree compared with a list.

use super::{ClassMaxima, class_of};

#[test]
fn a_longer_hole_never_has_a_lower_class() {
    assert!((0..100_000).all(|pages| class_of(pages) <= class_of(pages + 1)));
    assert!((0..52).all(|log2| class_of((1 << log2) - 1) <= class_of(1 << log2)));
    assert_eq!(class_of(u64::MAX), 127);
}

#[test]
fn short_lengths_are_their_own_classes_and_a_quarter_more_is_a_higher_class() {
    assert!((0..8).all(|pages| u64::from(class_of(pages)) == pages));
    assert!((1..1_u64 << 20).all(|pages| class_of(pages + pages.div_ceil(4)) > class_of(pages)));
}

#[test]
fn next_finds_the_lowest_word_with_a_high_enough_bound() {
    for words in [1, 7, 8, 9, 64, 65, 600] {
        let mut maxima = ClassMaxima::new(words).unwrap();
        let mut bounds = vec![0_u8; usize::try_from(words).unwrap()];
        let mut random = 1_u64;
        for _ in 0..300 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let (word, class) = ((random >> 33) % words, (random >> 50).to_le_bytes()[0] & 127);
            let bound = &mut bounds[usize::try_from(word).unwrap()];
            if random >> 63 == 0 {
                maxima.raise(word, class);
                *bound = class.max(*bound);
            } else {
                // `lower` must not get a higher class.
                let class = class.min(*bound);
                maxima.lower(word, class);
                *bound = class;
            }
            maxima.check().unwrap();
            let (from, class) =
                ((random >> 40) % (words + 9), (random >> 20).to_le_bytes()[0] % 127 + 1);
            let expected =
                (0..).zip(&bounds).find(|(word, bound)| *word >= from && **bound >= class);
            assert_eq!(
                maxima.next(from, class),
                expected.map(|(word, _)| word),
                "{words} words, from {from}, class {class}"
            );
        }
    }
}
