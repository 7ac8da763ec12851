//! The custom status: what a run says it is doing, an act whose value no replay compares.

use serde::Serialize;
use tidemill_model::{Event, Json};

use crate::author::Ctx;
use crate::engine::call_site::CallSite;

/// The longest custom status as JSON: 4 KiB, because lists show it.
const CUSTOM_STATUS_BYTES_MAX: usize = 4 * 1024;

impl Ctx {
    /// Sets what the run is doing, for people: `tidemill runs` and `show`, HTTP and the view `runs`
    /// show the newest value as `custom_status`. It becomes durable in the same commit as the run's
    /// next step or wait.
    ///
    /// The value is JSON of up to 4 KiB; a text that says so replaces a value that is larger or has
    /// no JSON. The text may be edited while runs are unfinished: a replay compares that the call
    /// is made, not its value.
    ///
    /// ```
    /// use tidemill::{Ctx, Result};
    ///
    /// async fn index(ctx: Ctx, pages: Vec<String>) -> Result<()> {
    ///     for (done, page) in pages.iter().enumerate() {
    ///         ctx.set_status(format!("{done} of {} pages", pages.len()));
    ///         let page = page.clone();
    ///         ctx.run("index", async move || -> Result<usize> { Ok(page.len()) }).await?;
    ///     }
    ///     Ok(())
    /// }
    /// # let _ = tidemill::App::new("doc").workflow("index", index);
    /// ```
    #[track_caller]
    pub fn set_status(&self, status: impl Serialize) {
        let at = CallSite::of_caller();
        if let Some(op) = self.cell().allot(|| "ctx.set_status()".to_owned()) {
            self.cell().note(Event::StatusSet { op, value: within_limit(&status) }, at);
        }
    }
}

fn within_limit(status: &impl Serialize) -> Json {
    let problem = match Json::of(status) {
        Ok(json) if json.as_str().len() <= CUSTOM_STATUS_BYTES_MAX => return json,
        Ok(json) => format!(
            "the status has bytes={}, over the limit custom_status={CUSTOM_STATUS_BYTES_MAX}",
            json.as_str().len()
        ),
        Err(error) => format!("the status has no JSON: {error}"),
    };
    Json::of(&problem).expect("a text has JSON")
}
