//! Workflow code that takes the process with it: not a step's body, the workflow itself.

use std::hint::black_box;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidemill::{BoxError, Ctx, Result};

use crate::misbehaving::redeployed;

/// How the process ends.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum How {
    Abort,
    Overflow,
    Exit,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Deadly {
    how: How,
    /// After a timer of this length; 0 for before the first act.
    #[serde(default)]
    after_millis: u64,
}

/// Ends the process every time; the later deployment has the fix.
pub(crate) async fn deadly(ctx: Ctx, deadly: Deadly) -> Result<u32> {
    if deadly.after_millis > 0 {
        ctx.sleep(Duration::from_millis(deadly.after_millis)).await?;
    }
    if !redeployed() {
        match deadly.how {
            How::Abort => std::process::abort(),
            How::Overflow => drop(deeper(&[0; 64])),
            How::Exit => std::process::exit(3),
        }
    }
    Ok(ctx.run("survived", async || Ok::<u32, BoxError>(7)).await?)
}

#[expect(unconditional_recursion, reason = "that is how it ends")]
fn deeper(frame: &[u8; 64]) -> [u8; 64] {
    let next = black_box(*frame);
    let ended = deeper(&next);
    black_box(ended)
}
