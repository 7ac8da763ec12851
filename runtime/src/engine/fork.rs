//! Forks a run: reads its log, or takes one that was sent, lets the model plan the new run, and creates
//! that in one commit.
//!
//! The run that is forked is only read. A reader's thread reads and plans, because a long history takes
//! a while; the writer appends what the plan says, or nothing.
//!
//! Crash: after the commit the fork is pending or parked in the file, and the next process loads it.

use std::sync::Arc;

use rusqlite::Connection;
use tidemill_eventlog::query;
use tidemill_model::{
    Event, ForkAs, ForkFromRequest, ForkLog, ForkOutlook, ForkRequest, MadeFork, RunId, Seed, Seq,
    cannot_fork,
};

use super::Engine;
use super::handle::Node;
use super::journal::Journal;
use super::start;
use crate::error::{Error, ErrorKind};
use crate::store::Log;
use crate::store::writer::{Creation, NewRun};

/// A fork that was made, now or before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForkedRun {
    /// Its id.
    pub id: RunId,
    /// Whether it existed before this request.
    pub existing: bool,
    /// The position of its `run_created` in the log.
    pub seq: Seq,
    /// What it has of the other run, and what it does again.
    pub outlook: ForkOutlook,
}

/// A fork that is planned and not made.
pub(super) struct Planned {
    new: NewRun,
    children: Vec<RunId>,
    outlook: ForkOutlook,
}

impl Engine {
    /// What a fork of a run would be.
    ///
    /// # Errors
    /// As [`Node::fork`](super::Node::fork).
    pub(super) async fn plan_fork(
        &self,
        run: &RunId,
        request: ForkRequest,
    ) -> Result<Planned, Error> {
        let who = self.fork_as(run, &request)?;
        let exact_from = self.floats_exact_from;
        let job = move |file: &Connection, log: Log| plan(file, log, &who, &request, exact_from);
        self.can_make(self.store.reads().with_log(run, job).await?)
    }

    /// What a fork of a run that is elsewhere would be. The history is as it was sent: it is decoded
    /// and folded on a reader's thread, because that takes a while.
    ///
    /// # Errors
    /// As [`Node::fork`](super::Node::fork).
    pub(super) async fn plan_fork_from(&self, asked: ForkFromRequest) -> Result<Planned, Error> {
        let who = self.fork_as(&asked.source.run, &asked.fork)?;
        let ForkFromRequest { source, fork, start } = asked;
        let made = self.store.reads().apart(move || source.make(&fork, &who, start)).await?;
        self.can_make(Planned::of(made))
    }

    /// As whom a run is forked.
    fn fork_as(&self, from: &RunId, request: &ForkRequest) -> Result<ForkAs, Error> {
        let requester = request.checked_requester()?;
        let id = match &request.id {
            Some(id) => RunId::chosen(id)?,
            None => start::generated_id(&self.clock)?,
        };
        Ok(ForkAs {
            from: from.clone(),
            id,
            seed: Seed::from_random(self.clock.random()?),
            app_version: self.app.version.clone(),
            requester,
        })
    }

    /// Refuses a fork whose workflow this program does not have, or whose new input it cannot read.
    fn can_make(&self, planned: Planned) -> Result<Planned, Error> {
        let created = planned.new.created();
        let workflow = start::known_workflow(&self.app, created.workflow.as_str())?;
        if planned.outlook.history <= 1 {
            start::check_input(workflow, &created.input)?;
        }
        Ok(planned)
    }

    /// Makes a planned fork, in a task of its own, so that a fork that was made is driven even if the
    /// caller drops this.
    async fn make_fork(self: &Arc<Self>, planned: Planned) -> Result<ForkedRun, Error> {
        let fork = Arc::clone(self).fork(planned);
        let forked = self.clock.apart(&self.runtime, fork).await;
        let forked = forked
            .map_err(|e| Error::caused(ErrorKind::Internal, "making the fork did not end", e))??;
        self.gate().opened().await?;
        Ok(forked)
    }

    /// Makes a planned fork, and loads it and the children that begin anew.
    pub(super) async fn fork(self: Arc<Self>, planned: Planned) -> Result<ForkedRun, Error> {
        let Planned { new, children, outlook } = planned;
        let id = new.id.clone();
        match self.store.create(new, None).await? {
            Creation::Created(seq) => {
                self.adopt_with_log(&id);
                children.iter().for_each(|child| self.adopt_with_log(child));
                Ok(ForkedRun { id, existing: false, seq, outlook })
            }
            Creation::Existing(seq, _) => Ok(ForkedRun { id, existing: true, seq, outlook }),
        }
    }
}

impl Node {
    /// Makes a new run that begins with the history of another one up to a place, in one commit; the
    /// other run stays as it is. Outputs that came after that place, of steps and children that began
    /// before it, are carried over, so that they are not paid again. If a fork of the chosen id exists
    /// and was made in the same way, this returns it.
    ///
    /// ```no_run
    /// # async fn example(node: tidemill::Node) -> tidemill::Result<()> {
    /// use tidemill::ForkRequest;
    ///
    /// let run = "order-7".parse()?;
    /// let outlook = node.fork_outlook(&run, ForkRequest::at("charge")).await?;
    /// println!("{} completed steps come after the cut", outlook.after.count);
    /// let fork = node.fork(&run, ForkRequest::at("charge").id("order-7-again")).await?;
    /// let retried = node.fork(&run, ForkRequest::retry()).await?;
    /// # drop((fork, retried));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `NotFound` if no run or no operation has this name; `Invalid` if the name is of several
    /// operations, the history is too long, or a choice is not as it has to be; `Conflict` if the run
    /// has no failure to retry, the operation has not ended, the log cannot be read, or a run of the
    /// chosen id is another one; `Unavailable` if nothing can be written now.
    ///
    /// # Cancel safety
    /// If the future is dropped while it waits, the fork may or may not be made.
    pub async fn fork(&self, run: &RunId, request: ForkRequest) -> Result<ForkedRun, Error> {
        let engine = self.open_engine()?;
        let planned = engine.plan_fork(run, request).await?;
        engine.make_fork(planned).await
    }

    /// As [`Node::fork`], of a run that is elsewhere.
    ///
    /// # Errors
    /// As there.
    pub(crate) async fn fork_from(&self, asked: ForkFromRequest) -> Result<ForkedRun, Error> {
        let engine = self.open_engine()?;
        let planned = engine.plan_fork_from(asked).await?;
        engine.make_fork(planned).await
    }

    /// What [`Node::fork_from`] would do.
    ///
    /// # Errors
    /// As there.
    pub(crate) async fn fork_from_outlook(
        &self,
        asked: ForkFromRequest,
    ) -> Result<ForkOutlook, Error> {
        Ok(self.open_engine()?.plan_fork_from(asked).await?.into_outlook())
    }

    /// What [`Node::fork`] would do: what is carried over, and what is done again. Nothing is written.
    ///
    /// # Errors
    /// As there.
    pub async fn fork_outlook(
        &self,
        run: &RunId,
        request: ForkRequest,
    ) -> Result<ForkOutlook, Error> {
        Ok(self.open_engine()?.plan_fork(run, request).await?.into_outlook())
    }
}

impl Planned {
    fn of(made: MadeFork) -> Planned {
        let MadeFork { run, children, outlook } = made;
        let ids = children.iter().map(|child| child.id.clone()).collect();
        let children = children.into_iter().map(|child| NewRun::made(child, Vec::new())).collect();
        Planned { new: NewRun::made(run, children), children: ids, outlook }
    }

    pub(super) fn into_outlook(self) -> ForkOutlook {
        self.outlook
    }
}

/// Plans a fork from the log of the run, without writing anything.
fn plan(
    file: &Connection,
    log: Log,
    who: &ForkAs,
    request: &ForkRequest,
    exact_from: Seq,
) -> Result<Planned, Error> {
    let from = &who.from;
    let log = log.map_err(|unreadable| cannot_fork(from, &unreadable.reason.to_string()))?;
    if log.is_empty() {
        return Err(Error::new(ErrorKind::NotFound, format!("there is no run `{from}`")));
    }
    Journal::of(&log).map_err(|reason| cannot_fork(from, &reason.to_string()))?;
    let events: Vec<(Seq, &Event)> = log.iter().map(|record| (record.seq, &record.event)).collect();
    let terms_of = |run: &RunId, op| query::terms(file, run, op);
    let made = ForkLog::of(&events)?.make(request, who, Some(exact_from), terms_of)?;
    Ok(Planned::of(made.checked()?))
}

#[cfg(test)]
impl Planned {
    /// Writes the fork as a process does that dies before it loads it.
    pub(super) async fn write(self, engine: &Engine) {
        engine.store.create(self.new, None).await.unwrap();
    }
}
