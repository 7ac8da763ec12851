//! A run with only some of its operations, for text and for JSON.

use tidemill_model::{OpId, RunStatus, RunView};

use crate::error::{Error, ErrorKind, Result};

/// Keeps only one operation of the run.
///
/// # Errors
/// `NotFound` if the run has none of this number.
pub fn only_operation(run: &mut RunView, op: OpId) -> Result<()> {
    if run.operations.iter().any(|it| it.op == op) {
        run.operations.retain(|it| it.op == op);
        return Ok(());
    }
    let (id, ids) = (&run.id, run.operations.first().zip(run.operations.last()));
    let message = match ids {
        None => format!("run `{id}` has no operations"),
        Some((first, last)) => format!(
            "run `{id}` has no operation {op} to show: it has {} from {} to {}; what ctx.now() and \
             ctx.set_status() recorded is in `tidemill events {id}`",
            run.operations.len(),
            first.op,
            last.op
        ),
    };
    Err(Error::new(ErrorKind::NotFound, message))
}

/// Keeps only the operations that failed, those with an attempt that failed or was cut off, and the
/// children that have such operations.
pub fn only_failed(run: &mut RunView) {
    for op in &mut run.operations {
        if let Some(child) = &mut op.child_run {
            only_failed(child);
        }
    }
    run.operations.retain(|op| {
        op.status == "failed"
            || op.attempts.iter().any(|it| matches!(&*it.state, "failed" | "cut_off"))
            || op.child_run.as_ref().is_some_and(|child| has_failed(child))
    });
}

/// Whether a run ended badly or cannot go on, or something that was kept of it failed.
fn has_failed(run: &RunView) -> bool {
    matches!(run.status, RunStatus::Failed | RunStatus::Blocked | RunStatus::Cancelled)
        || !run.operations.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{file, run_id};

    fn shown(of: impl Fn(&mut RunView)) -> Vec<String> {
        let (_dir, path) = file();
        let connection = tidemill_eventlog::open_any(&path).unwrap();
        let mut view = crate::show(&connection, &run_id("sweep"), None).unwrap();
        of(&mut view);
        view.operations.iter().map(|op| format!("{} {}", op.op, op.name)).collect()
    }

    #[test]
    fn what_failed_is_left_with_the_children_that_have_some_of_it() {
        assert_eq!(shown(only_failed), ["1 trial", "2 publish"]);
    }

    #[test]
    fn one_operation_is_left_and_another_number_is_an_error() {
        let op = |n| OpId::new(n).unwrap();
        assert_eq!(shown(|view| only_operation(view, op(2)).unwrap()), ["2 publish"]);
        shown(|view| {
            let error = only_operation(view, op(9)).unwrap_err().to_string();
            assert!(error.contains("it has 3 from 1 to 3"), "{error}");
        });
    }
}
