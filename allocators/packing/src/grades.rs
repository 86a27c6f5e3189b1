//! All holes, by grade of size and in each grade by address.

use crate::row::{Entry, Row};
use cma_bits::Nodes;

/// The grades of an octave, which is the sizes from a power of two to the next.
pub(crate) const PER_OCTAVE: u32 = 1 << PER_OCTAVE_LOG2;

const PER_OCTAVE_LOG2: u32 = 3;

/// The number of grades of sizes below 2^31 pages, rounded up to a multiple of 64.
pub(crate) const GRADES: usize = 256;

/// The grade of a hole of `pages` pages: the size itself below [`PER_OCTAVE`], then eight grades
/// for each octave.
#[inline]
pub(crate) fn grade_of(pages: u32) -> usize {
    let shift = pages.ilog2().saturating_sub(PER_OCTAVE_LOG2);
    (PER_OCTAVE * shift + (pages >> shift)) as usize
}

/// The pages of the smallest hole of `grade`.
pub(crate) fn least_of(grade: usize) -> u64 {
    let (octave, rest) =
        (grade as u64 / u64::from(PER_OCTAVE), grade as u64 % u64::from(PER_OCTAVE));
    match octave {
        0 => rest,
        _ => (u64::from(PER_OCTAVE) + rest) << (octave - 1),
    }
}

/// The holes of a region.
#[derive(Debug)]
pub(crate) struct Grades {
    /// A bit for each grade that has a hole.
    used: [u64; GRADES / 64],
    /// The first and the last hole of each grade that has one, so that a search need not enter the
    /// sets.
    ends: Vec<[Entry; 2]>,
    holes: Vec<Row>,
    /// The log2 of the smallest size of each grade.
    octaves: Vec<f64>,
}

impl Grades {
    /// No holes, for a region of `pages` pages.
    pub(crate) fn new(pages: u32) -> Self {
        let grades = grade_of(pages) + 1;
        #[allow(clippy::cast_precision_loss, reason = "sizes are below 2^32")]
        let octaves = (0..grades).map(|grade| (least_of(grade).max(1) as f64).log2()).collect();
        Grades {
            used: [0; GRADES / 64],
            ends: vec![[Entry::default(); 2]; grades],
            holes: vec![Row::new(); grades],
            octaves,
        }
    }

    /// The grades from `grade` up that have a hole, ascending.
    #[inline]
    pub(crate) fn from(&self, grade: usize) -> impl Iterator<Item = usize> {
        let mut word = grade / 64;
        let mut bits = self.used[word] & (!0 << (grade % 64));
        std::iter::from_fn(move || {
            while bits == 0 {
                word += 1;
                bits = *self.used.get(word)?;
            }
            let next = word * 64 + bits.trailing_zeros() as usize;
            bits &= bits - 1;
            Some(next)
        })
    }

    /// The lowest and the highest hole of `grade`, which must have one.
    #[inline]
    pub(crate) fn ends(&self, grade: usize) -> [Entry; 2] {
        self.ends[grade]
    }

    /// The holes of `grade` in ascending order of address.
    pub(crate) fn holes(&self, grade: usize) -> &Row {
        &self.holes[grade]
    }

    /// The log2 of the smallest size of each grade.
    pub(crate) fn all_octaves(&self) -> impl Iterator<Item = f64> {
        self.octaves.iter().copied()
    }

    /// The log2 of the smallest size of `grade`.
    #[inline]
    pub(crate) fn octaves(&self, grade: usize) -> f64 {
        self.octaves[grade]
    }

    /// The most pages of a hole of `grade`.
    pub(crate) fn most(grade: usize) -> u64 {
        least_of(grade + 1) - 1
    }

    #[inline]
    pub(crate) fn insert(&mut self, pages: u32, hole: Entry) {
        let grade = grade_of(pages);
        let bit = 1 << (grade % 64);
        let ends = &mut self.ends[grade];
        if self.used[grade / 64] & bit == 0 {
            self.used[grade / 64] |= bit;
            *ends = [hole; 2];
        } else {
            *ends = [ends[0].min(hole), ends[1].max(hole)];
        }
        self.holes[grade].insert(hole);
    }

    #[inline]
    pub(crate) fn remove(&mut self, pages: u32, hole: Entry) {
        let grade = grade_of(pages);
        let (holes, ends) = (&mut self.holes[grade], &mut self.ends[grade]);
        holes.remove(hole);
        if hole == ends[0] || hole == ends[1] {
            match (holes.first(), holes.last()) {
                (Some(first), Some(last)) => *ends = [first, last],
                _ => self.used[grade / 64] &= !(1 << (grade % 64)),
            }
        }
    }

    /// Turns the hole `old` of `old_pages` pages into `new` of `pages`, which contains it or lies
    /// in it, so that the order of addresses stays.
    #[inline]
    pub(crate) fn change(&mut self, old_pages: u32, old: Entry, pages: u32, new: Entry) {
        let grade = grade_of(pages);
        if grade != grade_of(old_pages) {
            self.remove(old_pages, old);
            self.insert(pages, new);
        } else if old != new {
            self.holes[grade].replace(old, new);
            for end in &mut self.ends[grade] {
                if *end == old {
                    *end = new;
                }
            }
        }
    }

    /// The pages of the largest hole, 0 without one.
    pub(crate) fn largest(&self, nodes: &Nodes) -> u32 {
        let grades = self.used.iter().enumerate().rev().find(|(_, bits)| **bits != 0);
        let Some((word, bits)) = grades else { return 0 };
        let holes = &self.holes[word * 64 + bits.ilog2() as usize];
        holes.iter().map(|hole| nodes.get(hole.node()).pages).max().unwrap_or(0)
    }

    /// Checks invariant 3.
    pub(crate) fn check(&self, nodes: &Nodes) -> Result<(), String> {
        let mut found = 0;
        for (grade, holes) in self.holes.iter().enumerate() {
            let used = self.used[grade / 64] & 1 << (grade % 64) != 0;
            let ends = holes.first().zip(holes.last()).map(|(first, last)| [first, last]);
            if ends.is_some() != used || ends.is_some_and(|ends| ends != self.ends[grade]) {
                return Err(format!(
                    "invariant 3: grade {grade} has the ends {:?}, used {used}, not {ends:?}",
                    self.ends[grade]
                ));
            }
            if !holes.is_sound() {
                return Err(format!("invariant 3: grade {grade} is not in order"));
            }
            for entry in holes.iter() {
                let (start, index) = (entry.start(), entry.node());
                let node = nodes.hole(index).filter(|node| node.start == start);
                if node.is_none_or(|node| grade_of(node.pages) != grade) {
                    return Err(format!(
                        "invariant 3: grade {grade} has no hole at {start}, node {index}"
                    ));
                }
                found += 1;
            }
        }
        let holes = nodes.iter().filter(|&(index, _)| !nodes.is_taken(index)).count();
        if holes != found {
            return Err(format!("invariant 3: {found} of {holes} holes are in a grade"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grades_ascend_with_sizes_and_each_size_lies_in_its_grade() {
        let around = |size: u32| size.saturating_sub(2).max(1)..=size.saturating_add(2);
        let sizes = (1..4096).chain((12..31).flat_map(|log2| around(1 << log2)));
        let mut last = 0;
        for size in sizes.chain([(1 << 31) - 1]) {
            let grade = grade_of(size);
            assert!(grade >= last && grade < GRADES, "{size} has grade {grade} after {last}");
            assert!(least_of(grade) <= u64::from(size), "{size} in grade {grade}");
            assert!(u64::from(size) <= Grades::most(grade), "{size} in grade {grade}");
            last = grade;
        }
    }
}
