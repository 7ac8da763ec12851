//! What the names of numbers say: which of them are one metric, in training and held out, and
//! which one counts the steps. Pure.

use super::numbers::{Numbers, OpNumbers};

/// Names that a training loop gives to its progress, the finest first: where a loop has several,
/// the finest tells its points apart.
const AXES: [&str; 7] = ["step", "global_step", "epoch", "iteration", "iter", "batch", "round"];

const TRAIN: [&str; 3] = ["train", "training", "tr"];

const HELD_OUT: [&str; 8] =
    ["val", "valid", "validation", "test", "eval", "dev", "heldout", "held_out"];

/// What a path says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Metric {
    /// The metric without the words for training and held-out data: `loss` of `val_loss`.
    pub(crate) base: String,
    /// Whether it is measured on data that was not trained on.
    pub(crate) held_out: bool,
}

/// What a path such as `val.loss`, `train/loss` or `loss_test` says.
pub(crate) fn metric(path: &str) -> Metric {
    // The one name with a separator in it.
    let lower =
        path.to_ascii_lowercase().replace("held_out", "heldout").replace("held-out", "heldout");
    let original = if lower.len() == path.len() { path } else { lower.as_str() };
    let (mut base, mut held_out, mut between) = (String::new(), false, None);
    let mut at = 0;
    for piece in lower.split_inclusive(is_separator) {
        let word = piece.trim_end_matches(is_separator);
        let end = at + word.len();
        if HELD_OUT.contains(&word) {
            held_out = true;
        } else if !TRAIN.contains(&word) {
            if !base.is_empty() {
                base.extend(between);
            }
            base.push_str(original.get(at..end).unwrap_or(word));
            between = None;
        }
        at += piece.len();
        between = coarser(between, piece.chars().next_back().filter(|last| is_separator(*last)));
    }
    // All of the name says on which data: `{"train": 1, "val": 2}`.
    if base.is_empty() {
        base.push_str("value");
    }
    Metric { base, held_out }
}

fn is_separator(c: char) -> bool {
    matches!(c, '_' | '-' | '/' | '.')
}

/// What stands between two words when those between them are left out: the coarser of both, so
/// that `metrics.val_loss` is of `metrics.loss`.
fn coarser(a: Option<char>, b: Option<char>) -> Option<char> {
    let rank = |c: Option<char>| c.and_then(|c| "_-/.".find(c));
    if rank(a) >= rank(b) { a } else { b }
}

/// The number that counts the steps: the first of the known names that most checkpoints have and
/// that never falls within an attempt. `None` if there is none: then points are counted.
pub(crate) fn axis(numbers: &Numbers, ops: &[&OpNumbers]) -> Option<usize> {
    let checkpoints: u64 = ops.iter().map(|op| u64::from(op.checkpoints)).sum();
    if numbers.paths.len() < 2 {
        // A number with nothing else is what there is to see.
        return None;
    }
    AXES.iter().find_map(|name| {
        let mut named: Vec<(usize, &String)> =
            numbers.paths.iter().enumerate().filter(|(_, path)| is_named(path, name)).collect();
        named.sort_by_key(|(_, path)| path.len());
        let counts = |id: usize| {
            let values =
                ops.iter().filter_map(|op| op.values.get(&id)).map(Vec::len).sum::<usize>();
            u64::try_from(values).is_ok_and(|values| values * 2 > checkpoints)
                && ops.iter().all(|op| never_falls(op, id))
        };
        named.into_iter().map(|(id, _)| id).find(|id| counts(*id))
    })
}

fn is_named(path: &str, name: &str) -> bool {
    path.rsplit(['.', '/']).next().is_some_and(|last| last.eq_ignore_ascii_case(name))
}

fn never_falls(op: &OpNumbers, id: usize) -> bool {
    let values = op.values.get(&id).map(Vec::as_slice).unwrap_or_default();
    let attempts = |at: u32| op.attempts.partition_point(|attempt| attempt.0 <= at);
    values
        .windows(2)
        .all(|pair| pair[0].1 <= pair[1].1 || attempts(pair[0].0) != attempts(pair[1].0))
}

/// The place of each checkpoint of a step on the axis. One that does not say it is where the one
/// before it is, or the next one of its attempt. Without an axis it is the number of the checkpoint
/// in its step, from 1.
pub(crate) fn places(op: &OpNumbers, axis: Option<usize>) -> Vec<f64> {
    let counted = || (1..=op.checkpoints).map(f64::from).collect();
    let Some(values) = axis.and_then(|axis| op.values.get(&axis)) else { return counted() };
    let mut places = Vec::with_capacity(values.len());
    let mut values = values.iter().peekable();
    let mut attempts = op.attempts.iter().skip(1).map(|attempt| attempt.0).peekable();
    let mut last: Option<f64> = None;
    for index in 0..op.checkpoints {
        if attempts.next_if_eq(&index).is_some() {
            // Not from the attempt before, unless this one says nothing.
            let end = attempts.peek().copied().unwrap_or(u32::MAX);
            last = values.peek().filter(|next| next.0 < end).map(|next| next.1).or(last);
        }
        if let Some(value) = values.next_if(|next| next.0 == index) {
            last = Some(value.1);
        }
        let place = last.or(values.peek().map(|next| next.1));
        places.push(place.unwrap_or_default());
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn training_and_held_out_are_one_metric() {
        let cases = [
            ("loss", "loss", false),
            ("train_loss", "loss", false),
            ("train.loss", "loss", false),
            ("val_loss", "loss", true),
            ("loss/test", "loss", true),
            ("Validation/Loss", "Loss", true),
            ("metrics.val_loss", "metrics.loss", true),
            ("metrics.loss", "metrics.loss", false),
            ("held_out_accuracy", "accuracy", true),
            ("heldout-accuracy", "accuracy", true),
            ("top_5_eval_acc", "top_5_acc", true),
            ("tr.f1", "f1", false),
            ("train", "value", false),
            ("val", "value", true),
            ("strain", "strain", false),
            ("latest", "latest", false),
            ("", "value", false),
            ("..", "value", false),
            ("İval_é", "İval_é", false),
        ];
        for (path, base, held_out) in cases {
            assert_eq!(metric(path), Metric { base: base.to_owned(), held_out }, "{path}");
        }
    }

    fn op(attempts: &[(u32, u32)], checkpoints: u32, values: &[&[(u32, f64)]]) -> OpNumbers {
        let values = values.iter().map(|values| values.to_vec()).enumerate().collect();
        OpNumbers { op: 1, name: "train".into(), attempts: attempts.to_vec(), checkpoints, values }
    }

    fn numbers(paths: &[&str]) -> Numbers {
        let mut numbers = Numbers::default();
        numbers.paths = paths.iter().map(|path| (*path).to_owned()).collect();
        numbers
    }

    #[test]
    fn the_axis_never_falls_within_an_attempt() {
        let batch: &[(u32, f64)] = &[(0, 1.0), (1, 2.0), (2, 1.0)];
        let epoch: &[(u32, f64)] = &[(0, 1.0), (1, 1.0), (2, 2.0)];
        let names = numbers(&["batch", "progress.Epoch", "loss"]);
        assert_eq!(axis(&names, &[&op(&[(0, 1)], 3, &[batch, epoch, batch])]), Some(1));
        // Another attempt may begin before the end of the one before.
        assert_eq!(
            axis(&numbers(&["batch", "x"]), &[&op(&[(0, 1), (2, 2)], 3, &[batch])]),
            Some(0)
        );
        assert_eq!(axis(&numbers(&["batch", "x"]), &[&op(&[(0, 1)], 3, &[batch])]), None);
        assert_eq!(
            axis(&numbers(&["epoch"]), &[&op(&[(0, 1)], 3, &[epoch])]),
            None,
            "nothing else"
        );
        let rare: &[(u32, f64)] = &[(0, 1.0)];
        assert_eq!(axis(&numbers(&["epoch", "x"]), &[&op(&[(0, 1)], 3, &[rare])]), None);
    }

    #[test]
    fn a_checkpoint_without_a_place_has_the_one_before() {
        let epochs: &[(u32, f64)] = &[(1, 5.0), (3, 6.0), (5, 2.0)];
        let op = op(&[(0, 1), (4, 2)], 7, &[epochs]);
        assert_eq!(places(&op, Some(0)), [5.0, 5.0, 5.0, 6.0, 2.0, 2.0, 2.0]);
        assert_eq!(places(&op, None), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
        assert_eq!(places(&op, Some(9)), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
    }
}
