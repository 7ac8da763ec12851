//! The middle of some values, and how far they are from each other.

use serde::Serialize;

/// Where some values lie.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) min: f64,
    /// A quarter of the values are below.
    pub(crate) lower: f64,
    pub(crate) median: f64,
    /// A quarter of the values are above.
    pub(crate) upper: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// Of at least one value.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Spread {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let at = |quarters| quantile(&values, quarters);
        Spread { min: at(0), lower: at(1), median: at(2), upper: at(3), max: at(4) }
    }
}

/// So many quarters up through values in order, straight between two of them.
fn quantile(values: &[f64], quarters: usize) -> f64 {
    let position = (values.len() - 1) * quarters;
    let (below, rest) = (values[position / 4], [0.0, 0.25, 0.5, 0.75][position % 4]);
    let above = values.get(position / 4 + 1).copied().unwrap_or(below);
    below + (above - below) * rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_an_even_number_lies_between_two() {
        let spread = |lower, median, upper| Spread { min: 1.0, lower, median, upper, max: 4.0 };
        assert_eq!(Spread::of([4.0, 1.0, 3.0, 2.0]), spread(1.75, 2.5, 3.25));
        assert_eq!(Spread::of([4.0, 1.0, 2.0]), spread(1.5, 2.0, 3.0));
        let one = Spread { min: 7.0, lower: 7.0, median: 7.0, upper: 7.0, max: 7.0 };
        assert_eq!(Spread::of([7.0]), one);
    }
}
