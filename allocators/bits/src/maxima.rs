//! A number for each of many places, under a tree of maxima, which finds the next place with a
//! large enough number.

use crate::{TooLarge, at, zeroed};

/// The numbers in one node.
const WIDTH: u64 = 16;

/// log2 of [`WIDTH`].
const SHIFT: u32 = WIDTH.trailing_zeros();

/// One cache line: numbers of places, or the maxima of nodes one level below.
type Node = [u32; WIDTH as usize];

/// A number for each place below a fixed limit, initially 0.
///
/// Every operation accesses at most one node per level: 5 nodes for 2^20 places. The numbers take 4
/// bytes per place, and the levels above a fifteenth of that.
#[derive(Clone, Debug)]
pub struct Maxima {
    /// Level 0 has the numbers. Number `i` of a further level is the maximum of node `i` of the
    /// level below. The last level is one node.
    nodes: Vec<Node>,
    /// The start of each level in `nodes`, and the end of the last one.
    starts: Vec<usize>,
}

/// The index of `place` in its node.
#[inline]
const fn within(place: u64) -> usize {
    at(place % WIDTH)
}

/// The index of the first number from index `from` up that is at least `least`.
#[inline]
fn first_in(node: &Node, from: usize, least: u32) -> Option<u64> {
    (0..).zip(node).skip(from).find_map(|(index, number)| (*number >= least).then_some(index))
}

/// The largest number of a node.
#[inline]
fn maximum(node: &Node) -> u32 {
    node.iter().fold(0, |largest, number| largest.max(*number))
}

impl Maxima {
    /// Creates the number 0 for each of `places` places.
    ///
    /// # Errors
    ///
    /// There is not enough memory.
    pub fn new(places: u64) -> Result<Self, TooLarge> {
        let (mut starts, mut end, mut width) = (vec![0], 0, places);
        while width > 1 || end == 0 {
            width = width.div_ceil(WIDTH).max(1);
            end += width;
            starts.push(usize::try_from(end).map_err(|_| TooLarge(places))?);
        }
        Ok(Maxima { nodes: zeroed(end)?, starts })
    }

    /// The number of `place`.
    ///
    /// # Panics
    ///
    /// This and the other operations may panic if a place is not below the limit.
    #[inline]
    pub fn get(&self, place: u64) -> u32 {
        self.nodes[at(place >> SHIFT)][within(place)]
    }

    /// Raises the number of `place` to `number`, if it is lower.
    #[inline]
    pub fn raise(&mut self, mut place: u64, number: u32) {
        for start in &self.starts[..self.starts.len() - 1] {
            let entry = &mut self.nodes[start + at(place >> SHIFT)][within(place)];
            if *entry >= number {
                return;
            }
            *entry = number;
            place >>= SHIFT;
        }
    }

    /// Lowers the number of `place` to `number`, if it is higher.
    pub fn lower(&mut self, mut place: u64, mut number: u32) {
        for start in &self.starts[..self.starts.len() - 1] {
            let node = &mut self.nodes[start + at(place >> SHIFT)];
            if node[within(place)] <= number {
                return;
            }
            node[within(place)] = number;
            number = maximum(node);
            place >>= SHIFT;
        }
    }

    /// The lowest place from `from` up with a number of at least `least`, which must not be 0.
    /// `from` may exceed the limit.
    pub fn next(&self, from: u64, least: u32) -> Option<u64> {
        let mut place = from;
        for (level, pair) in self.starts.windows(2).enumerate() {
            let index = usize::try_from(place >> SHIFT).ok()?.checked_add(pair[0])?;
            if index >= pair[1] {
                return None;
            }
            if let Some(found) = first_in(&self.nodes[index], within(place), least) {
                return self.descend(level, place / WIDTH * WIDTH + found, least);
            }
            place = (place >> SHIFT) + 1;
        }
        None
    }

    /// The lowest place below number `index` of `level` with a number of at least `least`. That
    /// number must itself be at least `least`.
    fn descend(&self, level: usize, mut index: u64, least: u32) -> Option<u64> {
        for start in self.starts[..level].iter().rev() {
            index = index << SHIFT | first_in(&self.nodes[start + at(index)], 0, least)?;
        }
        Some(index)
    }

    /// Verifies that every number above level 0 is the maximum of the node below it. Takes a step
    /// for each number.
    ///
    /// # Errors
    ///
    /// The first wrong number.
    pub fn check(&self) -> Result<(), String> {
        for level in 1..self.starts.len() - 1 {
            let below = &self.nodes[self.starts[level - 1]..self.starts[level]];
            for (index, node) in (0..).zip(below) {
                let above = self.nodes[self.starts[level] + at(index >> SHIFT)][within(index)];
                if above != maximum(node) {
                    let level = level - 1;
                    return Err(format!(
                        "node {index} of level {level} is {node:?}, the number above it is {above}"
                    ));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Maxima;

    #[test]
    fn the_next_place_with_a_large_enough_number_is_found() {
        for places in [1, 2, 15, 16, 17, 256, 257, 5000] {
            let mut maxima = Maxima::new(places).unwrap();
            let mut numbers = vec![0_u32; usize::try_from(places).unwrap()];
            let mut random = 1_u64;
            for _ in 0..400 {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let (place, number) = ((random >> 33) % places, (random >> 50) as u32 & 255);
                let kept = &mut numbers[usize::try_from(place).unwrap()];
                if random >> 63 == 0 {
                    maxima.raise(place, number);
                    *kept = number.max(*kept);
                } else {
                    maxima.lower(place, number);
                    *kept = number.min(*kept);
                }
                maxima.check().unwrap();
                assert_eq!(maxima.get(place), *kept);
                let (from, least) =
                    ((random >> 40) % (places + 9), (random >> 20) as u32 % 255 + 1);
                let expected =
                    (0..).zip(&numbers).find(|(place, number)| *place >= from && **number >= least);
                assert_eq!(
                    maxima.next(from, least),
                    expected.map(|(place, _)| place),
                    "{places} places"
                );
            }
            assert_eq!(maxima.next(u64::MAX, 1), None);
        }
    }
}
