//! What authors write against: the program, the workflow's context, the step's handle.
//!
//! Nothing here touches the log or the clock: these futures put their requests into the run's cell,
//! and the engine carries them out.

mod app;
mod ctx;
pub(crate) mod near;
mod outside_types;
pub(crate) mod result;
pub(crate) mod retry;
mod run_handle;
mod select;
pub(crate) mod step;
mod workflow_ref;

pub use app::App;
pub(crate) use app::{GRACE, GRACE_MAX};
pub(crate) use app::{Workflow, WorkflowFuture};
pub use ctx::Ctx;
pub(crate) use ctx::payload;
pub(crate) use outside_types::OutsideTypes;
pub use result::{BoxError, Result, StepError};
pub use retry::Retry;
pub(crate) use run_handle::Caller;
pub use run_handle::{RunHandle, SendSignal, Start};
pub use step::Step;
pub use workflow_ref::{ByFunction, ByName, SpawnRef, WorkflowNames, WorkflowRef};
