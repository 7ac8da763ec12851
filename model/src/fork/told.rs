//! What a fork does, in words.

use std::fmt::Write as _;

use super::{ForkOutlook, ForkedOps};
use crate::name::RunId;

/// How many operations a line names.
const NAMED_MAX: usize = 8;

impl ForkOutlook {
    /// What a fork has of the other run, and what it does again, for a person.
    pub fn told(&self, run: &RunId) -> String {
        let ForkOutlook { seq, history, carried, set, again, after, timers, cancelling } = self;
        let mut text =
            format!("history: {history} events of run {run}, those before event {seq}\n");
        for (what, ops) in [
            ("carried over, not done again", carried),
            ("done by hand", set),
            ("begins again", again),
            ("completed after the cut, so their effects may come again", after),
        ] {
            if ops.count > 0 {
                writeln!(text, "{what}: {}", named(ops)).expect("a string takes it");
            }
        }
        if let Some(first) = timers.iter().min() {
            let count = timers.len();
            writeln!(text, "timers that keep their time: {count}, the first at {first}")
                .expect("a string takes it");
        }
        if *cancelling {
            text.push_str("the code was asked to end before the cut: the fork is cancelling\n");
        }
        text
    }
}

fn named(ops: &ForkedOps) -> String {
    let named = ops.first.iter().take(NAMED_MAX).map(|op| format!("{} `{}`", op.op, op.name));
    let named = named.collect::<Vec<_>>().join(", ");
    match ops.count.saturating_sub(NAMED_MAX.min(ops.first.len())) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fork::ForkedOp;
    use crate::name::OpName;
    use crate::position::{OpId, Seq};

    #[test]
    fn a_person_is_told_what_is_carried_over_and_what_comes_again() {
        let ops = |count: u32| ForkedOps {
            count: usize::try_from(count).unwrap(),
            first: (1..=count)
                .map(|op| ForkedOp {
                    op: OpId::new(op).unwrap(),
                    name: OpName::new("pay").unwrap(),
                })
                .collect(),
        };
        let outlook = ForkOutlook {
            seq: Seq::new(41).unwrap(),
            history: 9,
            carried: ops(10),
            set: ops(0),
            again: ops(1),
            after: ops(0),
            timers: vec!["2026-11-24T10:00:00Z".parse().unwrap()],
            cancelling: true,
        };
        let expected = "history: 9 events of run r, those before event 41\n\
            carried over, not done again: 1 `pay`, 2 `pay`, 3 `pay`, 4 `pay`, 5 `pay`, 6 `pay`, \
            7 `pay`, 8 `pay` and 2 more\n\
            begins again: 1 `pay`\n\
            timers that keep their time: 1, the first at 2026-11-24T10:00:00.000000Z\n\
            the code was asked to end before the cut: the fork is cancelling\n";
        assert_eq!(outlook.told(&"r".parse().unwrap()), expected);
    }
}
