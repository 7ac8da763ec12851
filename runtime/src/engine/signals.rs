//! Sends a run a signal, and lets its driver know.
//!
//! The writer records a signal in a commit of its own, whatever the run does: it is loaded, sleeps, is
//! blocked or paused, or has never begun. The driver is only told to look; what it has to deliver it
//! reads from the file. So an acknowledged signal is never lost between the two.
//!
//! Crash: a process that opens the file loads every run that keeps a signal (`recovery.rs`).

use std::sync::Arc;

use serde::Serialize;
use tidemill_model::{Event, Json, OpName, RunId, Seq, Signal};

use super::Engine;
use super::driver::{Driver, Next};
use super::inbox::Control;
use super::live::Live;
use crate::error::{Error, ErrorKind};
use crate::store::writer::SignalOutcome;

/// A signal to send: a name, a value, and options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignalRequest {
    /// The name by which the code waits for it, of 1 to 200 bytes.
    pub name: String,
    /// What is sent, of at most 1 MiB.
    pub value: Json,
    /// The sender's word for this one signal, of at most 200 bytes.
    pub key: Option<String>,
    /// Who sends it, in at most 200 bytes.
    pub by: Option<String>,
}

impl SignalRequest {
    /// A signal of this name and value.
    ///
    /// # Errors
    /// `Invalid` if the value has no JSON.
    pub fn new(name: &str, value: impl Serialize) -> Result<SignalRequest, Error> {
        let value = Json::of(&value)
            .map_err(|e| Error::invalid(format!("the signal's value has no JSON: {e}")))?;
        Ok(SignalRequest { name: name.to_owned(), value, key: None, by: None })
    }

    /// Makes sending it again harmless: a run takes one signal of each key.
    #[must_use]
    pub fn key(self, key: &str) -> SignalRequest {
        SignalRequest { key: Some(key.to_owned()), ..self }
    }

    /// Who sends it, for people.
    #[must_use]
    pub fn by(self, by: &str) -> SignalRequest {
        SignalRequest { by: Some(by.to_owned()), ..self }
    }

    /// The signal, before the writer gives it its number.
    ///
    /// # Errors
    /// `Invalid` says what is not as it has to be.
    pub(crate) fn checked(self) -> Result<Signal, Error> {
        let SignalRequest { name, value, key, by } = self;
        let name = OpName::new(&name).map_err(|invalid| {
            Error::invalid(format!("a signal has a bad name, `{}`: {}", invalid.text, invalid.rule))
        })?;
        Ok(Signal { number: 0, name, value, key, by }.checked()?)
    }
}

/// A signal that a run was sent, now or before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signalled {
    /// Which of the run's signals it is, from 1 in the order in which they arrived.
    pub number: u32,
    /// Whether the run had one of this key before.
    pub existing: bool,
    /// The position of its `signal_received` in the log.
    pub seq: Seq,
}

impl Engine {
    /// Records a signal, and lets the run's driver know.
    ///
    /// # Errors
    /// As [`Node::signal`](super::Node::signal).
    pub(super) async fn signal(
        self: &Arc<Self>,
        run: &RunId,
        signal: Signal,
    ) -> Result<Signalled, Error> {
        let workflow = self.store.reads().workflow(run).await?;
        let workflow = workflow.ok_or_else(|| no_such_run(run))?;
        self.check_signal(run, &workflow, &signal).await?;
        let SignalOutcome { number, existing, seq } =
            self.store.signal(run.clone(), signal).await?;
        if !existing {
            self.tell_news(run);
        }
        Ok(Signalled { number, existing, seq })
    }

    /// Refuses a value that no wait of its name can read which this program has, unless the run was sent
    /// that signal before: the sender learns that.
    pub(super) async fn check_signal(
        &self,
        run: &RunId,
        workflow: &OpName,
        signal: &Signal,
    ) -> Result<(), Error> {
        if let Some(key) = &signal.key
            && self.store.reads().has_signal(run, key).await?
        {
            return Ok(());
        }
        let Some(workflow) = self.app.workflows.get(workflow) else { return Ok(()) };
        workflow.outside.signals.check(&signal.name, &signal.value).map_err(|why| {
            Error::invalid(format!("signal `{}` cannot have this value: {why}", signal.name))
        })
    }

    /// Lets a run's driver look for what came from outside, and loads the run for that, when few enough
    /// others are being loaded. A node that closes tells nobody: the next process loads the run.
    pub(super) fn tell_news(self: &Arc<Self>, run: &RunId) {
        let tell = |engine: &Arc<Engine>, run: &RunId, place| {
            let this = Arc::clone(engine);
            let drive = move |run| this.drive(run, Next::Woken, place);
            let _ = engine.registry.control(run, Control::News, drive);
        };
        if self.registry.loaded(run).is_some() {
            return tell(self, run, None);
        }
        let (engine, run) = (Arc::clone(self), run.clone());
        self.spawn(async move {
            tokio::select! {
                biased;
                () = engine.closing.cancelled() => {}
                place = Arc::clone(&engine.loads).acquire_owned() => tell(&engine, &run, place.ok()),
            }
        });
    }
}

impl Driver {
    /// Takes in what came from outside since the driver last looked. The ends that came of it.
    pub(super) async fn look_for_news(&mut self, live: &mut Live) -> Result<Vec<Event>, Next> {
        self.look_for_signals(live).await?;
        self.look_for_answers(live).await
    }

    /// Takes in the signals that the run was sent since it last looked.
    async fn look_for_signals(&mut self, live: &mut Live) -> Result<(), Next> {
        let known = live.core.journal.head.signals.received();
        let found = self.engine.store.reads().signals_after(&self.run.id, known).await;
        let taken = match found {
            Ok(records) => {
                let mut records = records.iter();
                records.try_for_each(|record| live.keep_signal(record))
            }
            Err(error) => Err(error.to_string()),
        };
        if let Err(why) = taken {
            tracing::warn!(run = %self.run.id, why, "its signals cannot be read now");
            self.pause().await;
            return Err(Next::Rebuild(None));
        }
        Ok(())
    }
}

fn no_such_run(run: &RunId) -> Error {
    Error::new(ErrorKind::NotFound, format!("there is no run `{run}`"))
}
