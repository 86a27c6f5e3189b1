//! Makes a failing input smaller while it still fails.

/// The most inputs that one shrinking tries.
const MOST_TRIES: u32 = 4000;

/// The smallest input found for which `fails` still holds: first pieces are removed, from half of
/// the input down to single bytes, then the bytes that stay are replaced by `plain` ones.
pub(crate) fn shrink(input: Vec<u8>, plain: u8, mut fails: impl FnMut(&[u8]) -> bool) -> Vec<u8> {
    let mut best = input;
    let mut tries = 0;
    let mut still_fails = |candidate: &[u8]| {
        tries += 1;
        tries <= MOST_TRIES && fails(candidate)
    };
    let mut piece = best.len().div_ceil(2);
    while piece > 0 {
        let mut at = 0;
        let mut removed = false;
        while at < best.len() {
            let mut candidate = best.clone();
            candidate.drain(at..(at + piece).min(best.len()));
            if still_fails(&candidate) {
                best = candidate;
                removed = true;
            } else {
                at += piece;
            }
        }
        if !removed || piece > 1 {
            piece /= 2;
        }
    }
    for at in 0..best.len() {
        if best[at] != plain {
            let mut candidate = best.clone();
            candidate[at] = plain;
            if still_fails(&candidate) {
                best = candidate;
            }
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_input_shrinks_to_the_part_that_fails() {
        let input = b"some text before x=y and some behind".to_vec();
        let has_equals = |input: &[u8]| input.contains(&b'=') && input.len() >= 3;
        assert_eq!(shrink(input, b'0', has_equals), b"=00");
    }

    #[test]
    fn an_input_that_fails_as_a_whole_stays() {
        let whole = vec![7; 100];
        let expected = whole.clone();
        assert_eq!(shrink(whole.clone(), 0, |input| input == expected), whole);
    }
}
