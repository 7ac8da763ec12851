//! The workflow's handle: everything that a workflow does to the world goes through it. The
//! methods that start operations are in `ops`, each in the file of its operation.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tidemill_model::limits::PAYLOAD_BYTES_MAX;
use tidemill_model::{Failure, Json, OpId, OpName, RunId};
use uuid::Uuid;

use super::result::failed;
use crate::engine::call_site::CallSite;
use crate::engine::cell::{Asked, RunCell};
use crate::ops::{Operation, bad_name};

/// The context of a run, given to its workflow.
///
/// A workflow must be deterministic: called again and given the same results, it must make the same
/// calls in the same order. It may branch, loop and wait on several operations at once, but it
/// takes time and randomness from here, and does its input and output in steps. Each call takes the
/// next operation id at once; the operation starts when its future is first polled. Clones share
/// one context.
#[derive(Clone)]
pub struct Ctx {
    cell: Arc<RunCell>,
    /// Whether it is the context of a clean-up, which a cancel leaves alone.
    shielded: bool,
}

impl Ctx {
    pub(crate) fn new(cell: Arc<RunCell>) -> Ctx {
        Ctx { cell, shielded: false }
    }

    /// The same context for a clean-up.
    pub(crate) fn shielded(&self) -> Ctx {
        Ctx { shielded: true, ..self.clone() }
    }

    pub(crate) fn cell(&self) -> &Arc<RunCell> {
        &self.cell
    }

    /// The id of this run. In the history that a fork has of another run, it is that run's id.
    pub fn run_id(&self) -> &RunId {
        self.cell.identity().run_now()
    }

    /// Who started this run, as the `by` of its start says; a child has its parent's. `None` if nobody
    /// said.
    pub fn started_by(&self) -> Option<&str> {
        self.cell.identity().started_by()
    }

    /// A random UUID (version 4), the same in every replay.
    ///
    /// ```
    /// # use tidemill::{Ctx, Result};
    /// async fn order(ctx: Ctx, _: ()) -> Result<String> {
    ///     Ok(ctx.uuid().to_string())
    /// }
    /// # let _ = tidemill::App::new("doc").workflow("order", order);
    /// ```
    pub fn uuid(&self) -> Uuid {
        let bits = self.bits("ctx.uuid()", b"uuid");
        uuid::Builder::from_random_bytes(bits.to_be_bytes()).into_uuid()
    }

    /// 64 random bits, the same in every replay.
    ///
    /// ```
    /// # use tidemill::{Ctx, Result};
    /// async fn pick(ctx: Ctx, names: Vec<String>) -> Result<String> {
    ///     let index = usize::try_from(ctx.random())? % names.len().max(1);
    ///     names.into_iter().nth(index).ok_or_else(|| "no names".into())
    /// }
    /// # let _ = tidemill::App::new("doc").workflow("pick", pick);
    /// ```
    pub fn random(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.bits("ctx.random()", b"random").to_be_bytes();
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }

    /// Derives an operation's random bits from the run's seed, so that a replay gets them again
    /// without an event. A call that blocks the run gets fresh random bits, which nothing observes.
    fn bits(&self, what: &str, purpose: &[u8]) -> u128 {
        let Some(op) = self.cell.allot(|| what.to_owned()) else { return Uuid::new_v4().as_u128() };
        let mut hash = xxhash_rust::xxh3::Xxh3::new();
        hash.update(&self.cell.identity().seed_now().to_bytes());
        hash.update(&op.get().to_be_bytes());
        hash.update(purpose);
        hash.digest128()
    }

    /// Allots an operation id and returns the operation's future. `what` names the call in
    /// messages; `ask` returns what the operation asks of the engine when it starts, or why that
    /// cannot be recorded.
    #[track_caller]
    pub(crate) fn operation<T: DeserializeOwned>(
        &self,
        what: &str,
        name: &str,
        ask: impl FnOnce(OpId, OpName) -> Result<Asked, Failure>,
    ) -> Operation<T> {
        let at = CallSite::of_caller();
        let op = self.cell.allot(|| match OpName::new(name) {
            Ok(name) => format!("{what} `{name}`"),
            Err(_) => what.to_owned(),
        });
        let name = OpName::new(name).unwrap_or_else(|invalid| {
            self.cell.refuse(bad_name(what, op, &invalid), at);
            OpName::new("?").expect("a question mark is a name")
        });
        let shielded = self.shielded;
        let asked = op.map(|op| {
            let mut asked = ask(op, name.clone())?;
            asked.shielded = shielded;
            if let Some(body) = &mut asked.body {
                body.shielded = shielded;
            }
            Ok((op, asked))
        });
        Operation::new(&self.cell, (name, at), asked)
    }
}

/// Encodes a payload as JSON and holds it to the size limit.
pub(crate) fn payload<T: Serialize + ?Sized>(what: &str, value: &T) -> Result<Json, Failure> {
    let json = Json::of(value).map_err(|e| failed(format!("its {what} has no JSON: {e}")))?;
    let bytes = json.as_str().len();
    if bytes > PAYLOAD_BYTES_MAX {
        return Err(failed(format!(
            "its {what} has bytes={bytes}, over the limit payload={PAYLOAD_BYTES_MAX}: keep large \
             data in your own storage and pass its key"
        )));
    }
    Ok(json)
}

impl fmt::Debug for Ctx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ctx").field("run", self.cell.run()).finish_non_exhaustive()
    }
}
