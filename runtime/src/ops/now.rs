//! The time: an act with the answer in it, which a replay takes from the log.

use tidemill_model::Timestamp;

use crate::author::Ctx;

impl Ctx {
    /// The time, recorded: a replay gets the same.
    ///
    /// ```
    /// # use tidemill::{Ctx, Result};
    /// async fn stamp(ctx: Ctx, _: ()) -> Result<String> {
    ///     Ok(ctx.now().to_string())
    /// }
    /// # let _ = tidemill::App::new("doc").workflow("stamp", stamp);
    /// ```
    pub fn now(&self) -> Timestamp {
        self.cell().now()
    }
}
