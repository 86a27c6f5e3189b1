//! A value over time as a line, whose length is bounded by the width of the picture.

use crate::geometry::Scale;

/// A value over time, by columns of a pixel.
pub(crate) struct Curve {
    /// The columns with changes.
    columns: Vec<Column>,
    before: u64,
    from: f64,
    to: f64,
}

/// The values of a column of pixels.
struct Column {
    x: f64,
    least: u64,
    most: u64,
    last: u64,
}

impl Curve {
    pub(crate) fn new(
        values: impl Iterator<Item = (f64, u64)>,
        before: u64,
        time: &Scale,
    ) -> Curve {
        let mut columns: Vec<Column> = Vec::new();
        let mut last = before;
        for (x, value) in values {
            if value == last {
                continue;
            }
            let x = x.floor().max(time.from);
            match columns.last_mut() {
                Some(column) if (column.x - x).abs() < 0.5 => {
                    column.least = column.least.min(value);
                    column.most = column.most.max(value);
                    column.last = value;
                }
                _ => {
                    let (least, most) = (last.min(value), last.max(value));
                    columns.push(Column { x, least, most, last: value });
                }
            }
            last = value;
        }
        Curve { columns, before, from: time.from, to: time.to }
    }

    /// Through the least and the most of each column.
    pub(crate) fn points(&self, bytes: &Scale) -> Vec<(f64, f64)> {
        let mut points = vec![(self.from, bytes.place(self.before))];
        let mut last = self.before;
        for column in &self.columns {
            for value in [last, column.least, column.most, column.last] {
                let point = (column.x, bytes.place(value));
                if points.last() != Some(&point) {
                    points.push(point);
                }
            }
            last = column.last;
        }
        points.push((self.to, bytes.place(last)));
        points
    }

    /// Through the last value of each column.
    fn steps(&self, bytes: &Scale) -> Vec<(f64, f64)> {
        let mut points = vec![(self.from, bytes.place(self.before))];
        let mut last = self.before;
        for column in &self.columns {
            points.push((column.x, bytes.place(last)));
            points.push((column.x, bytes.place(column.last)));
            last = column.last;
        }
        points.push((self.to, bytes.place(last)));
        points
    }
}

/// The corners of the area between two curves.
pub(crate) fn between(above: &Curve, below: &Curve, bytes: &Scale) -> Vec<(f64, f64)> {
    let mut points = above.steps(bytes);
    points.extend(below.steps(bytes).into_iter().rev());
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_and_the_most_of_a_column_are_on_its_curve() {
        let scale = Scale { start: 0, span: 100, from: 0.0, to: 100.0 };
        let values = [(3.1, 50), (3.2, 90), (3.4, 10), (3.6, 40)].into_iter();
        let curve = Curve::new(values, 30, &scale);
        let expected =
            [(0.0, 30.0), (3.0, 30.0), (3.0, 10.0), (3.0, 90.0), (3.0, 40.0), (100.0, 40.0)];
        assert_eq!(curve.points(&scale), expected);
        assert_eq!(curve.steps(&scale), [(0.0, 30.0), (3.0, 30.0), (3.0, 40.0), (100.0, 40.0)]);
    }
}
