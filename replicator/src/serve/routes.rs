//! Passes the supervisor's effects to their owners, and the owners' answers back, without I/O.
//!
//! ```text
//!            input                     effect
//!   Post ───────────► Supervisor ───────────────► Owners
//!     ▲                                             │ litestream, barriers, app, file, epoch
//!     └──────────── answers, at once or later ──────┘
//! ```
//!
//! Effects are performed in the order in which the supervisor gives them, each before the next
//! input is taken; inputs are taken in the order in which they were posted.

use tidemill_model::BootTime;

use crate::supervise::{
    AppEffect, BarriersEffect, Effect, EpochEffect, EpochEnding, FileEffect, LitestreamEffect,
    Post, Supervisor,
};

/// The owners, which perform effects. Each answers through the post, at once or when it is done.
pub(super) trait Owners {
    /// Why the sidecar cannot continue.
    type Error;

    /// Performs an effect on Litestream's process.
    fn litestream(&mut self, effect: LitestreamEffect, post: &mut Post);

    /// Performs an effect on the barriers.
    fn barriers(&mut self, effect: BarriersEffect, post: &mut Post);

    /// Performs an effect on the app or on CMD.
    fn app(&mut self, effect: AppEffect, post: &mut Post);

    /// Performs an effect on the file.
    fn file(&mut self, effect: FileEffect, post: &mut Post) -> Result<(), Self::Error>;

    /// Performs an effect on the epoch's records.
    fn epoch(&mut self, effect: EpochEffect, post: &mut Post);
}

/// The supervisor and its post.
#[derive(Debug)]
pub(super) struct Routes {
    pub(super) supervisor: Supervisor,
    pub(super) post: Post,
    ending: Option<EpochEnding>,
}

impl Routes {
    /// Routes for a supervisor that has not begun.
    pub(super) fn new(supervisor: Supervisor) -> Routes {
        Routes { supervisor, post: Post::default(), ending: None }
    }

    /// Delivers inputs until none waits; `Some` once the supervisor ends the node.
    pub(super) fn deliver<O: Owners>(
        &mut self,
        owners: &mut O,
        now: impl Fn() -> BootTime,
    ) -> Result<Option<EpochEnding>, O::Error> {
        while let Some(input) = self.post.take() {
            for effect in self.supervisor.handle(input, now()) {
                self.perform(effect, owners)?;
            }
        }
        Ok(self.ending)
    }

    fn perform<O: Owners>(&mut self, effect: Effect, owners: &mut O) -> Result<(), O::Error> {
        let post = &mut self.post;
        match effect {
            Effect::Litestream(effect) => owners.litestream(effect, post),
            Effect::Barriers(effect) => owners.barriers(effect, post),
            Effect::App(effect) => owners.app(effect, post),
            Effect::File(effect) => owners.file(effect, post)?,
            Effect::Epoch(effect) => owners.epoch(effect, post),
            Effect::Exit(ending) => self.ending = Some(ending),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
