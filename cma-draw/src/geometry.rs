//! Rectangles and axes, in pixels.

/// A rectangle in pixels. y grows downwards.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rect {
    /// The left edge.
    pub x: f64,
    /// The upper edge.
    pub y: f64,
    /// The width, not negative.
    pub width: f64,
    /// The height, not negative.
    pub height: f64,
}

impl Rect {
    pub(crate) fn new(x: f64, y: f64, width: f64, height: f64) -> Self {
        Rect { x, y, width: width.max(0.0), height: height.max(0.0) }
    }

    /// The right edge.
    pub fn right(&self) -> f64 {
        self.x + self.width
    }

    /// The lower edge.
    pub fn bottom(&self) -> f64 {
        self.y + self.height
    }

    /// The area in square pixels.
    pub fn area(&self) -> f64 {
        self.width * self.height
    }
}

/// An axis: the values from `start` on, `span` of them, on the pixels from `from` to `to`, which
/// may be less.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    pub(crate) start: u64,
    pub(crate) span: u64,
    pub(crate) from: f64,
    pub(crate) to: f64,
}

impl Scale {
    /// The place of `value` in pixels. One outside the axis is at its end.
    pub(crate) fn place(&self, value: u64) -> f64 {
        let inside = value.saturating_sub(self.start).min(self.span);
        let share = inside as f64 / self.span.max(1) as f64;
        self.from + share * (self.to - self.from)
    }

    /// The smallest of `steps`, which ascend, that takes as many pixels as its labels need.
    pub(crate) fn step(
        &self,
        needed: impl Fn(u64) -> f64,
        mut steps: impl Iterator<Item = u64>,
    ) -> u64 {
        let pixels = (self.to - self.from).abs() / self.span.max(1) as f64;
        steps.find(|step| pixels * *step as f64 >= needed(*step)).unwrap_or(u64::MAX)
    }

    /// The multiples of `step` on the axis.
    pub(crate) fn ticks(&self, step: u64) -> impl Iterator<Item = u64> {
        let end = self.start.saturating_add(self.span);
        (self.start.div_ceil(step)..=end / step).map(move |n| n * step)
    }
}

/// 1, 2 and 5 times each power of ten.
pub(crate) fn decimal_steps() -> impl Iterator<Item = u64> {
    (0..19).flat_map(|power| [1, 2, 5].map(|digit| digit * 10_u64.pow(power)))
}

/// Steps of bytes: 1, 2, 5, 10 and so on of each unit, KiB or more, and the half of the next.
pub(crate) fn byte_steps() -> impl Iterator<Item = u64> {
    let digits = [1, 2, 5, 10, 20, 50, 100, 200, 512];
    [10, 20, 30, 40, 50].into_iter().flat_map(move |shift| digits.map(|digit| digit << shift))
}

/// Steps of microseconds: the decimal ones up to 5 s, then those of minutes and hours.
pub(crate) fn time_steps() -> impl Iterator<Item = u64> {
    const SECOND: u64 = 1_000_000;
    let short = decimal_steps().take_while(|step| *step <= 5 * SECOND);
    let long = [10, 20, 60, 120, 300, 600, 1200, 3600, 7200, 18_000, 36_000, 86_400];
    let days = decimal_steps().skip(1).map(|days| days.saturating_mul(86_400 * SECOND));
    short.chain(long.map(|seconds| seconds * SECOND)).chain(days)
}
