//! Which operations of a run are shown, and what is said of the others.

use std::collections::BTreeMap;

use tidemill_model::{OpId, OperationView};

/// What of a run is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fold {
    /// Every operation.
    All,
    /// The first and the last ones of a long run, and those that a person looks for.
    Long,
    /// One operation with its input and what it recorded last, all of it whole.
    Operation(OpId),
}

/// A run with more operations than this is folded.
const OPERATIONS_MAX: usize = 30;

/// How many of the first ones are shown then.
const FIRST: usize = 3;

/// How many of the last ones.
const LAST: usize = 8;

/// How many others are shown that are open, failed or held, or have a child that is: half of them
/// from the beginning, half from the end.
const STRIKING_MAX: usize = 20;

/// A line of the tree.
pub(super) enum Shown<'a> {
    /// An operation.
    Operation(&'a OperationView),
    /// Operations that are left out, in a sentence.
    Folded(String),
}

impl Fold {
    /// The lines for the operations of a run.
    pub(super) fn lines<'a>(&self, operations: &'a [OperationView]) -> Vec<Shown<'a>> {
        if *self != Fold::Long || operations.len() <= OPERATIONS_MAX {
            return operations.iter().map(Shown::Operation).collect();
        }
        let striking = striking(operations);
        let is_shown = |place: usize| {
            place < FIRST
                || place + LAST >= operations.len()
                || striking.binary_search(&place).is_ok()
        };
        let (mut lines, mut folded) = (Vec::new(), Vec::new());
        for (place, op) in operations.iter().enumerate() {
            if !is_shown(place) {
                folded.push(op);
                continue;
            }
            if let Some(said) = summary(&std::mem::take(&mut folded)) {
                lines.push(Shown::Folded(said));
            }
            lines.push(Shown::Operation(op));
        }
        lines
    }
}

/// The places of the operations that a person looks for, at most [`STRIKING_MAX`].
fn striking(operations: &[OperationView]) -> Vec<usize> {
    let between = FIRST..operations.len().saturating_sub(LAST);
    let found: Vec<usize> = between.filter(|place| is_striking(&operations[*place])).collect();
    if found.len() <= STRIKING_MAX {
        return found;
    }
    let half = STRIKING_MAX / 2;
    [&found[..half], &found[found.len() - half..]].concat()
}

fn is_striking(op: &OperationView) -> bool {
    matches!(&*op.status, "open" | "failed") || op.held
}

/// What is left out, such as `… 2 to 1990: 1989 completed; --all shows them`.
fn summary(folded: &[&OperationView]) -> Option<String> {
    let (first, last) = (folded.first()?.op, folded.last()?.op);
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for op in folded {
        *counts.entry(&op.status).or_default() += 1;
    }
    let counts: Vec<String> =
        counts.iter().map(|(status, count)| format!("{count} {status}")).collect();
    Some(format!("… {first} to {last}: {}; --all shows them", counts.join(", ")))
}
