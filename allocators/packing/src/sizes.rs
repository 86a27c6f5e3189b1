//! How requested pages are distributed over sizes: by what a profile knows its program again.

use crate::grades::{GRADES, PER_OCTAVE, grade_of, least_of};

/// The classes of an octave. Finer ones would tell two runs of a program apart.
const CLASSES_PER_OCTAVE: usize = 2;

/// The grades of a class.
const GRADES_OF_CLASS: usize = PER_OCTAVE as usize / CLASSES_PER_OCTAVE;

/// The number of classes.
const CLASSES: usize = GRADES / GRADES_OF_CLASS;

/// Pages that were requested, by the class of the request's size: half an octave, and below 8 pages
/// the sizes up to 3 and those from 4.
#[derive(Clone, Debug, PartialEq)]
pub struct Sizes {
    pages: Box<[f64; CLASSES]>,
}

impl Default for Sizes {
    fn default() -> Self {
        Sizes { pages: Box::new([0.0; CLASSES]) }
    }
}

impl Sizes {
    /// Counts a request of `pages` pages, of which there are 1 to 2^31 - 1.
    pub fn count(&mut self, pages: u32) {
        self.add(pages, f64::from(pages));
    }

    /// Adds `more` pages to the class of requests of `size` pages.
    pub fn add(&mut self, size: u32, more: f64) {
        self.pages[grade_of(size) / GRADES_OF_CLASS] += more;
    }

    /// Makes old requests count half.
    pub(crate) fn halve(&mut self) {
        self.pages.iter_mut().for_each(|pages| *pages /= 2.0);
    }

    /// The classes with pages: the smallest size of each, and its share of all pages.
    pub fn shares(&self) -> impl Iterator<Item = (u64, f64)> {
        let all = self.total();
        let class = move |(class, pages): (usize, &f64)| {
            (least_of(class * GRADES_OF_CLASS).max(1), pages / all)
        };
        self.pages.iter().enumerate().filter(|(_, pages)| **pages > 0.0).map(class)
    }

    /// All pages.
    pub(crate) fn total(&self) -> f64 {
        self.pages.iter().sum()
    }

    /// The share of the pages that would have to be of another class for the shares to be those of
    /// `other`: 0 to 1.
    pub fn distance(&self, other: &Sizes) -> f64 {
        let (all, of_other) = (self.total(), other.total());
        let pairs = self.pages.iter().zip(other.pages.iter());
        pairs.map(|(one, two)| (one / all - two / of_other).abs()).sum::<f64>() / 2.0
    }
}
