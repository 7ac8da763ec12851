//! The time: an act that records its own answer, which a replay takes from the log.

use tidemill_model::{Event, Timestamp};

use crate::author::Ctx;
use crate::engine::call_site::CallSite;

impl Ctx {
    /// The current time. The log records it, so that a replay gets the same.
    ///
    /// ```
    /// # use tidemill::{Ctx, Result};
    /// async fn stamp(ctx: Ctx, _: ()) -> Result<String> {
    ///     Ok(ctx.now().to_string())
    /// }
    /// # let _ = tidemill::App::new("doc").workflow("stamp", stamp);
    /// ```
    #[track_caller]
    pub fn now(&self) -> Timestamp {
        let called_at = CallSite::of_caller();
        let cell = self.cell();
        let Some(op) = cell.allot(|| "ctx.now()".to_owned()) else { return cell.wall() };
        let at = cell.logged_time(op).unwrap_or_else(|| cell.wall());
        cell.note(Event::Now { op, at }, called_at);
        at
    }
}
