//! What the parts of Tidemill say to each other and what they store, without any I/O.
//!
//! This crate owns the names ([`RunId`], [`NodeId`], [`Fleet`]), the positions ([`Seq`], [`Txid`],
//! [`Epoch`], [`OpId`]), the [`Event`]s of a run's log and their fold into a [`RunState`], the
//! documents that live in the bucket and beside the database, the object keys, and the messages
//! on the sidecar's socket.
//!
//! Invariants:
//! - no I/O, no clock, no randomness, no async: whatever is needed is an argument;
//! - each type has one canonical text, shared by `Display`, `FromStr`, serde and the object keys;
//! - a document keeps the fields it does not know, and refuses a version it does not know;
//! - nothing here panics on what came from outside: parsing returns [`Invalid`] or [`EventError`].

mod activity;
mod api_error;
mod attempts;
mod bucket_docs;
mod error;
mod error_kind;
mod event;
mod event_data;
mod failure;
mod fold;
mod fork;
mod json;
mod keys;
mod lease;
pub mod limits;
pub mod log_order;
mod name;
mod node_state;
#[cfg(feature = "schema")]
pub mod openapi;
mod operation;
mod position;
mod promise;
mod prune;
mod retention;
mod run_figures;
mod run_state;
mod run_status;
mod run_view;
#[cfg(feature = "schema")]
mod schema;
mod signal;
mod socket;
pub mod terminal;
mod time;
mod token;

pub use activity::{Activity, NextAttempt};
pub use api_error::{ApiErrorKind, ApiErrorView};
pub use attempts::{Attempt, AttemptState, StepRecorder, crashes, failures};
pub use bucket_docs::{Base, BreakDoc, EpochDoc, GivenUp, LocalHead, Versions};
pub use error::Error;
pub use error_kind::ErrorKind;
pub use event::{Columns, EncodedEvent, Event, EventClass, EventError, EventKind};
pub use event_data::{
    BlockReason, BlockReasonKind, Durability, ForkOrigin, ForkSignals, Forked, NodeStarted, Parent,
    ProcessEnd, Requester, RunCreated, Seed, WaitsFor,
};
pub use failure::{Failure, FailureKind};
pub use fold::{CancelAsked, Operations, RunHead};
pub use fork::{
    Cut as ForkCut, Fork, ForkAs, ForkChild, ForkChoices, ForkFromRequest, ForkLog, ForkOutlook,
    ForkPoint, ForkRequest, ForkSource, ForkTie, ForkedOp, ForkedOps, MadeFork, MadeRun, RunTerms,
    cannot_fork,
};
pub use json::{Floats, Json};
pub use keys::{BreakName, FleetUrl, Level, LtxName, NodeKeys};
pub use lease::{Covered, LeaseDoc, LeaseStatus, SidecarState, Ttl, unix_ms};
pub use name::{ChildIdTooLong, Fleet, Invalid, NodeId, OpName, RunId};
pub use node_state::{Failures, LastGood, NodeState, Stage, Uncured};
pub use operation::{CheckpointRecord, Held, Op, OpKind, OpStatus};
pub use position::{Epoch, LogSum, OpId, Seq, Txid};
pub use promise::{
    AnswerNote, AnswerRefusal, Approval, ApprovalAnswer, ApprovalEnd, ApprovalRule, GivenAnswer,
    PromiseAnswer, PromiseId, PromiseRecord, PromiseTerms, TOKENS_MAX, TokenGrant, Verdict,
};
pub use prune::{ComparedSeqs, PruneReport, PruneRequest, Stays, StaysCount};
pub use retention::{
    BadRetention, KEPT_AT_LEAST, Keep, KeepRule, Retention, RetentionJudge, age_of,
};
pub use run_figures::{OldestBlocked, RunFigures};
pub use run_state::{FoldError, RunState};
pub use run_status::RunStatus;
pub use run_view::{
    AttemptView, CancelView, Cut, Cuts, EventPage, EventView, ForkedView, OperationPage,
    OperationView, PageRequest, Payloads, PromiseAsked, PromisePage, PromiseView, RunCounts,
    RunPage, RunSummary, RunView, SignalView, Word, took_ms,
};
pub use signal::{KeptSignal, Signal, Signals};
pub use socket::{
    AttachHello, AttachRequest, BarrierReply, BarrierRequest, DetachRequest, FiguresRequest,
    GateState, LeaseLine, SidecarStatus, SocketError, SocketErrorKind,
};
pub use time::{BootId, BootTime, FolderId, MachineId, Timestamp};
pub use token::{ETag, InstanceId, Nonce, SessionId};

/// The version that every JSON document of this release carries as `v`.
pub const DOCUMENT_VERSION: u32 = 1;
