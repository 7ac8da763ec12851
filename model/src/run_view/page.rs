//! A page of a run's operations: bounded by their number and by their bytes.

use std::ops::Bound;

use serde::{Deserialize, Serialize};

use super::OperationView;
use crate::limits::PAGE_BYTES_MAX;
use crate::position::OpId;
use crate::run_state::RunState;

/// How much of an operation's payloads is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payloads {
    /// All.
    Whole,
    /// Of what is larger than [`PAYLOAD_LISTED_BYTES_MAX`](crate::limits::PAYLOAD_LISTED_BYTES_MAX)
    /// the size and the head.
    Heads,
}

/// Which operations of a run are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageRequest {
    /// Those after this one; from the first if `None`.
    pub after: Option<OpId>,
    /// How many at most; all, of whatever size, if `None`.
    pub limit: Option<usize>,
    /// How much of each.
    pub payloads: Payloads,
}

impl PageRequest {
    /// All operations, all of each.
    pub const WHOLE: PageRequest =
        PageRequest { after: None, limit: None, payloads: Payloads::Whole };
}

/// A page of a run's operations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct OperationPage {
    /// In the order of their ids.
    pub operations: Vec<OperationView>,
    /// The `after` of the next page; `None` at the end.
    pub next: Option<OpId>,
}

impl OperationPage {
    /// A page of the operations of a run: at least one if there is any, and no more than its bound
    /// of bytes but for the last of them.
    pub fn of(state: &RunState, request: PageRequest) -> OperationPage {
        let from = request.after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut rest = state.ops.range((from, Bound::Unbounded));
        let mut page = OperationPage { operations: Vec::new(), next: None };
        let mut bytes = 0;
        while request
            .limit
            .is_none_or(|limit| page.operations.len() < limit && bytes < PAGE_BYTES_MAX)
        {
            let Some((&id, op)) = rest.next() else { return page };
            let view = match request.payloads {
                Payloads::Whole => OperationView::whole(id, op),
                Payloads::Heads => OperationView::listed(&state.id, id, op),
            };
            bytes += view.bytes();
            page.operations.push(view);
        }
        if rest.next().is_some() {
            page.next = page.operations.last().map(|last| last.op);
        }
        page
    }
}
