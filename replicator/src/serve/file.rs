//! The keeper of the node's file while no app has it: takes the app's lock, writes the WAL back,
//! and moves the file aside.

use std::sync::Arc;
use std::time::Duration;

use tidemill_eventlog::{FileLock, LockError, head, host, open_log_reader};
use tidemill_model::BootTime;

use crate::context::Context;
use crate::disk::checkpoint::{self, BothLocks};
use crate::disk::{open_by, whole_log};
use crate::error::{Error, ErrorKind};
use crate::failpoint;
use crate::node_record::NodeRecord;
use crate::problems::Topic;
use crate::start::ask_bucket::{self, Remains};
use crate::start::move_away::{Displaced, move_away};
use crate::supervise::{AppLockTry, FileEffect, Input, Post};
use crate::tasks::{Tasks, blocking};

/// How long an app that lost its stream may take to attach again before the log says so and CMD is
/// killed. A working app takes a second, and past its deadline it may not act anyway.
pub(super) const ATTACH_BOUND: Duration = Duration::from_secs(30);
/// How long the app's lock may be held by an app that is not attached before the status says so.
const SHOWN_AFTER: Duration = Duration::from_secs(2);

/// The file and the lock that guards it.
pub(super) struct FileKeeper {
    context: Arc<Context>,
    record: Arc<NodeRecord>,
    app_lock: Option<Arc<FileLock>>,
    held: Option<HeldElsewhere>,
    /// Whether the whole log was verified and no app has had the file since.
    proven: bool,
    /// What the bucket still has of the node, after the lease was lost; `None` until it was listed.
    remains: Option<Remains>,
    tasks: Tasks<FileDone>,
}

/// Another process that holds the app's lock.
struct HeldElsewhere {
    since: BootTime,
    shown: bool,
    said: bool,
}

/// The result of a task.
pub(super) enum FileDone {
    /// The attempt to take the app's lock.
    AppLock(Result<FileLock, LockError>),
    /// The WAL was written back.
    Checkpointed(Result<(), Error>),
    /// What the bucket has.
    Bucket(Remains),
}

impl FileKeeper {
    pub(super) fn new(
        context: &Arc<Context>,
        record: &Arc<NodeRecord>,
        proven: bool,
    ) -> FileKeeper {
        FileKeeper {
            context: Arc::clone(context),
            record: Arc::clone(record),
            app_lock: None,
            held: None,
            proven,
            remains: None,
            tasks: Tasks::new(),
        }
    }

    /// What happens next.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(super) async fn next(&mut self) -> FileDone {
        self.tasks.next().await
    }

    pub(super) fn perform(&mut self, effect: FileEffect, post: &mut Post) -> Result<(), Error> {
        match effect {
            FileEffect::TryAppLock => {
                let path = self.context.beside().app_lock();
                self.tasks.spawn(async move {
                    FileDone::AppLock(blocking(move || FileLock::take(&path)).await)
                });
            }
            FileEffect::ReturnAppLock => self.app_lock = None,
            FileEffect::Checkpoint => self.checkpoint()?,
            FileEffect::AskBucket { patiently } => self.ask_bucket(patiently),
            FileEffect::MoveAway => self.move_away(post),
        }
        Ok(())
    }

    pub(super) fn finished(&mut self, done: FileDone, post: &mut Post) -> Result<(), Error> {
        match done {
            FileDone::AppLock(result) => self.app_lock_tried(result, post),
            FileDone::Checkpointed(result) => self.checkpointed(result, post),
            FileDone::Bucket(remains) => {
                self.remains = Some(remains);
                post.tell(Input::BucketHolds(remains.holds));
                Ok(())
            }
        }
    }

    fn app_lock_tried(
        &mut self,
        result: Result<FileLock, LockError>,
        post: &mut Post,
    ) -> Result<(), Error> {
        let lock = match result {
            Ok(lock) => {
                self.app_lock = Some(Arc::new(lock));
                self.lock_settled();
                AppLockTry::Taken
            }
            Err(LockError::Held { .. }) => {
                self.lock_held();
                AppLockTry::Busy
            }
            Err(error) => return Err(error.into()),
        };
        post.tell(Input::AppLock(lock));
        Ok(())
    }

    /// Reports an app that holds the lock without attaching: a working app attaches again within a
    /// second, and until it does nothing is shipped.
    fn lock_held(&mut self) {
        let now = host::boot_now();
        let new = HeldElsewhere { since: now, shown: false, said: false };
        let held = self.held.get_or_insert(new);
        let waited = now.since(held.since);
        let show = waited >= SHOWN_AFTER && !std::mem::replace(&mut held.shown, true);
        let say = waited >= ATTACH_BOUND && !std::mem::replace(&mut held.said, true);
        if !show && !say {
            return;
        }
        // An app's child may have inherited the lock, which the lock itself does not show.
        let holder = open_by::named(&open_by::having_open(&self.context.beside().app_lock()));
        let text = format!(
            "{holder} has the file open and is not attached: nothing is shipped until it attaches \
             or ends"
        );
        if say {
            tracing::warn!("{text}");
        }
        self.context.say(Topic::File, text);
    }

    /// The app's lock is free, or its holder is attached.
    pub(super) fn lock_settled(&mut self) {
        if self.held.take().is_some() {
            self.context.clear(Topic::File);
        }
    }

    fn checkpoint(&mut self) -> Result<(), Error> {
        let missing = || Error::new(ErrorKind::Internal, "a checkpoint without the app's lock");
        let app_lock = Arc::clone(self.app_lock.as_ref().ok_or_else(missing)?);
        let context = Arc::clone(&self.context);
        let proven = std::mem::take(&mut self.proven);
        self.tasks.spawn(async move {
            let work = move || {
                let locks = BothLocks::new(context.beside(), &context.node_lock, &app_lock);
                checkpoint::truncate_wal(context.beside(), &locks)?;
                // The next upload is a full copy, on which everything later builds.
                if !proven {
                    whole_log::read(context.beside().db())?;
                }
                Ok(())
            };
            FileDone::Checkpointed(blocking(work).await)
        });
        Ok(())
    }

    fn checkpointed(&mut self, result: Result<(), Error>, post: &mut Post) -> Result<(), Error> {
        let busy = match result {
            Ok(()) => {
                self.context.clear(Topic::File);
                false
            }
            Err(e) if e.kind() == ErrorKind::Unavailable => {
                if self.context.say(Topic::File, e.to_string()) {
                    tracing::warn!(error = %e, "cannot empty the WAL yet");
                }
                true
            }
            // Shipping from it would take back what was covered.
            Err(e) if e.kind() == ErrorKind::Corrupt => {
                tracing::error!(file = %self.context.beside().db().display(), "{e}");
                post.tell(Input::FileUnfit);
                return Ok(());
            }
            Err(e) => return Err(e),
        };
        if self.record.is_in_cure() && !busy {
            failpoint::reached("cure_truncated");
        }
        post.tell(Input::Checkpointed { busy });
        Ok(())
    }

    fn ask_bucket(&mut self, patiently: bool) {
        let (context, state) = (Arc::clone(&self.context), self.record.state());
        self.tasks.spawn(async move {
            FileDone::Bucket(match patiently {
                true => ask_bucket::ask(&context, &state).await,
                false => ask_bucket::ask_briefly(&context, &state).await,
            })
        });
    }

    fn move_away(&mut self, post: &mut Post) {
        if let Some(app_lock) = &self.app_lock {
            let lost = self.unshipped_events();
            let epoch = Some(self.record.epoch());
            if let Err(error) = move_away(&self.context, app_lock, epoch, Displaced::Now, lost) {
                tracing::error!(%error, "cannot move the file aside: the next start will");
            }
        }
        post.tell(Input::MovedAway);
    }

    /// How many events of the local file may be missing in the bucket; `None` if that is not known.
    fn unshipped_events(&self) -> Option<u64> {
        let file = open_log_reader(self.context.beside().db());
        let newest = file.and_then(|file| head(&file)).ok()?;
        Some(self.remains?.lacks(newest.seq))
    }

    /// Aborts the running tasks.
    pub(super) async fn close(mut self) {
        self.tasks.close().await;
    }
}

#[cfg(test)]
mod tests {

    use super::*;

    struct Fixture {
        dir: tempfile::TempDir,
        context: Arc<Context>,
        file: FileKeeper,
        post: Post,
    }

    impl Fixture {
        async fn new() -> Fixture {
            let dir = tempfile::tempdir().unwrap();
            let (context, record) = NodeRecord::in_test(dir.path(), |_| {}).await;
            let file = FileKeeper::new(&context, &record, false);
            Fixture { dir, context, file, post: Post::default() }
        }

        fn perform(&mut self, effect: FileEffect) {
            self.file.perform(effect, &mut self.post).unwrap();
        }

        /// Takes the next result and returns the supervisor's input for it.
        async fn next(&mut self) -> Option<Input> {
            let done = self.file.next().await;
            self.finish(done).unwrap()
        }

        fn finish(&mut self, done: FileDone) -> Result<Option<Input>, Error> {
            self.file.finished(done, &mut self.post)?;
            Ok(self.post.take())
        }

        fn problem(&self) -> Option<String> {
            self.context.status().problems.of(Topic::File).map(str::to_owned)
        }
    }

    #[tokio::test]
    async fn the_file_is_emptied_and_moved_only_under_the_apps_lock() {
        let mut fixture = Fixture::new().await;
        let without = fixture.file.perform(FileEffect::Checkpoint, &mut fixture.post);
        assert_eq!(without.unwrap_err().kind(), ErrorKind::Internal);
        fixture.perform(FileEffect::MoveAway);
        assert_eq!(fixture.post.take(), Some(Input::MovedAway), "the next start moves it");
        assert!(fixture.context.beside().db().exists());
        fixture.perform(FileEffect::TryAppLock);
        assert_eq!(fixture.next().await, Some(Input::AppLock(AppLockTry::Taken)));
        fixture.perform(FileEffect::Checkpoint);
        assert_eq!(fixture.next().await, Some(Input::Checkpointed { busy: false }));
        fixture.perform(FileEffect::MoveAway);
        assert_eq!(fixture.post.take(), Some(Input::MovedAway));
        assert!(!fixture.context.beside().db().exists());
        let moved = fixture.dir.path().join("workflow.db.diverged-e3").join("workflow.db");
        assert!(moved.exists(), "{}", moved.display());
    }

    #[tokio::test]
    async fn a_lock_that_another_has_is_busy_and_one_that_was_returned_is_free() {
        let mut fixture = Fixture::new().await;
        let held = FileLock::take(&fixture.context.beside().app_lock()).unwrap();
        fixture.perform(FileEffect::TryAppLock);
        assert_eq!(fixture.next().await, Some(Input::AppLock(AppLockTry::Busy)));
        drop(held);
        fixture.perform(FileEffect::TryAppLock);
        assert_eq!(fixture.next().await, Some(Input::AppLock(AppLockTry::Taken)));
        fixture.perform(FileEffect::ReturnAppLock);
        assert!(FileLock::take(&fixture.context.beside().app_lock()).is_ok());
    }

    #[tokio::test]
    async fn what_keeps_a_checkpoint_from_its_end_decides_what_follows() {
        let mut fixture = Fixture::new().await;
        let failed = |kind| FileDone::Checkpointed(Err(Error::new(kind, "held by a reader")));
        let busy = fixture.finish(failed(ErrorKind::Unavailable)).unwrap();
        assert_eq!(busy, Some(Input::Checkpointed { busy: true }));
        assert_eq!(fixture.problem().as_deref(), Some("held by a reader"));
        let done = fixture.finish(FileDone::Checkpointed(Ok(()))).unwrap();
        assert_eq!((done, fixture.problem()), (Some(Input::Checkpointed { busy: false }), None));
        let damaged = fixture.finish(failed(ErrorKind::Corrupt)).unwrap();
        assert_eq!(damaged, Some(Input::FileUnfit));
        assert!(fixture.finish(failed(ErrorKind::Internal)).is_err());
    }
}
