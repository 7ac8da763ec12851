//! Which of what a child measured is the best. Pure.

use crate::curves::branches::Point;
use crate::curves::build::{Extremes, branches};
use crate::curves::metric::places;
use crate::curves::numbers::OpNumbers;

/// Parts of names of metrics of which less is better.
const LESS: [&str; 11] =
    ["loss", "error", "err", "mse", "mae", "rmse", "perplexity", "ppl", "latency", "time", "cost"];

/// Those that are too short to be looked for within a word.
const LESS_WORDS: [&str; 2] = ["wer", "cer"];

/// Whether less of a metric is better, by its name.
pub(crate) fn less_is_better(path: &str) -> bool {
    let lower = path.to_ascii_lowercase();
    lower.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| {
        LESS_WORDS.contains(&word)
            || LESS.iter().any(|less| word == *less || (less.len() > 3 && word.ends_with(less)))
    })
}

/// The points of a number of a step that count, in the order of the axis.
pub(super) fn line(op: &OpNumbers, path: usize, axis: Option<usize>) -> Vec<Point> {
    let current = branches(op, path, &places(op, axis)).current;
    current.into_iter().flat_map(|stretch| stretch.points).collect()
}

/// The best point of a number of a child, over all of its steps; the first one, if there are
/// several. `None` if it was not measured.
pub(super) fn best(
    ops: &[OpNumbers],
    path: usize,
    axis: Option<usize>,
    less: bool,
) -> Option<Point> {
    let measured = ops.iter().filter(|op| op.values.contains_key(&path));
    let points: Vec<Point> = measured.flat_map(|op| line(op, path, axis)).collect();
    let extremes = Extremes::of(points.iter().copied());
    let best = if less { extremes.least } else { extremes.greatest };
    (!points.is_empty()).then_some(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_whether_less_is_better() {
        for path in ["loss", "val_loss", "valLoss", "eval.wer", "word/err", "time_ms", "RMSE"] {
            assert!(less_is_better(path), "{path}");
        }
        for path in ["accuracy", "f1", "power", "answer", "lossless", "bleu", "certainty"] {
            assert!(!less_is_better(path), "{path}");
        }
    }
}
