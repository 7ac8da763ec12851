//! The ledger: step bodies record what they did in a file outside every machine, one JSON line
//! each.
//!
//! A line is appended with one `write` to a file opened with `O_APPEND`, so that lines of several
//! processes never mix, and a line is there or not, whenever its writer is killed.

use std::fs::OpenOptions;
use std::io::Write;

use serde_json::json;
use tidemill::{Result, Step};

/// Names the ledger's file; without it nothing is written down.
const VARIABLE: &str = "TIDEMILL_TEST_LEDGER";

/// Writes down that the body of `step` did `what`.
pub(crate) fn note(step: &Step, what: &str) -> Result<()> {
    let Some(path) = std::env::var_os(VARIABLE) else { return Ok(()) };
    let line = json!({
        "run": step.run_id(),
        "op": step.op(),
        "name": step.name(),
        "attempt": step.attempt(),
        "epoch": step.epoch().unwrap_or(0),
        "key": step.idempotency_key(),
        "pid": std::process::id(),
        "what": what,
    });
    let mut file = OpenOptions::new().append(true).open(path)?;
    file.write_all(format!("{line}\n").as_bytes())?;
    Ok(())
}
