//! A run of a source, as whoever makes a fork of it elsewhere needs it: `tidemill fork`.
//!
//! Nothing is written to the source. A file that is made has its name only once all of it is verified,
//! as one that `tidemill restore` makes.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use serde::Serialize;
use tidemill_eventlog::{Checkpoints, Meta, OwnCopy, Process, head, query};
use tidemill_model::limits::FORK_SOURCE_BYTES_MAX;
use tidemill_model::{
    EventView, ForkOrigin, ForkOutlook, ForkSource, MadeFork, RunId, RunStatus, RunTerms, Seq,
    Timestamp,
};

use crate::error::{Error, ErrorKind, Result};
use crate::restore_to::{OwnName, folder_of, place, refuse_taken};
use crate::snapshot::{Access, Origin, Snapshot};

/// A run with its history at a moment.
#[derive(Debug, Clone)]
pub struct RunThen {
    /// Its history.
    pub source: ForkSource,
    /// Its status then.
    pub status: RunStatus,
}

/// A file that was made of a fork.
#[derive(Debug, Clone, Serialize)]
pub struct ForkedFile {
    /// The file.
    pub path: PathBuf,
    /// The fork in it.
    pub id: RunId,
    /// The node that the file is, and where the run was.
    #[serde(flatten)]
    pub copy: OwnCopy,
    /// What the fork has of the other run.
    pub outlook: ForkOutlook,
}

impl Snapshot {
    /// The history of a run up to an event, or all of it.
    ///
    /// # Errors
    /// `NotFound` if the run is not there at that moment; `Invalid` if its history is larger than a
    /// node takes; `Corrupt` if an event is not what its columns say.
    pub fn run_then(&self, run: &RunId, until: Option<Seq>) -> Result<RunThen> {
        let file = self.connection();
        let Some(state) = query::run_state(file, run, until)? else {
            return Err(self.not_there(run, until)?);
        };
        let (origin, until) = self.fork_origin(until)?;
        let events = events(file, run, until)?;
        let started = events.iter().filter_map(|event| {
            let starts = ["child_started", "spawn_started"].contains(&event.kind.as_str());
            let started: StartedRun = event.data.as_ref().filter(|_| starts)?.decode().ok()?;
            Some((started.run, event.op?))
        });
        let mut given = std::collections::BTreeMap::new();
        for (run, op) in started {
            let terms = query::terms(file, &run, op)?;
            given.extend((terms != RunTerms::default()).then_some((run, terms)));
        }
        let exact_from = Process::read(file)?.and_then(|process| process.floats_exact_from);
        let source = ForkSource { run: run.clone(), origin, exact_from, given, events };
        Ok(RunThen { source, status: state.status })
    }

    /// Where a fork comes from, and the newest event of that moment.
    fn fork_origin(&self, until: Option<Seq>) -> Result<(ForkOrigin, Seq)> {
        let (file, meta) = (self.connection(), Meta::read(self.connection())?);
        let newest = head(file)?;
        let seq = until.unwrap_or(newest.seq);
        let at = match until {
            Some(seq) => time_of(file, seq)?,
            None => newest.ts,
        };
        let source = match self.origin() {
            Origin::File { path } => path.display().to_string(),
            Origin::Node { address } => address.clone(),
            Origin::Bucket { node, epoch, txid, .. } => format!("{node}@e{epoch}:{txid}"),
        };
        let origin = ForkOrigin {
            source: head_of(&source, ForkOrigin::SOURCE_BYTES_MAX),
            node: meta.node.or(meta.copy.map(|copy| copy.name)),
            epoch: meta.epoch,
            seq,
            at: at.ok_or_else(|| Error::corrupt("the log has no events"))?,
            taken: None,
        };
        Ok((origin, seq))
    }

    fn not_there(&self, run: &RunId, until: Option<Seq>) -> Result<Error> {
        let then = until.map_or_else(String::new, |until| format!(" up to event {until}"));
        let later = until.is_some() && query::run(self.connection(), run)?.is_some();
        let why = match (later, self.origin()) {
            (true, _) => "it was created later",
            (false, Origin::Bucket { .. }) => {
                "it was created later, or has left by retention: `tidemill timeline` lists other \
                 moments, and `tidemill runs` the runs of one"
            }
            (false, _) => "`tidemill runs` lists them",
        };
        let message = format!("there is no run `{run}` in {}{then}: {why}", self.origin());
        Ok(Error::new(ErrorKind::NotFound, message))
    }
}

/// The run of a `child_started` or a `spawn_started`.
#[derive(serde::Deserialize)]
struct StartedRun {
    #[serde(alias = "child")]
    run: RunId,
}

/// The beginning of a text, of at most so many bytes.
fn head_of(text: &str, bytes_max: usize) -> String {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

fn time_of(file: &Connection, seq: Seq) -> Result<Option<Timestamp>> {
    let before = Seq::new(seq.get().saturating_sub(1)).unwrap_or(Seq::ZERO);
    let row = query::events(file, None, before, 1)?.into_iter().next();
    Ok(row.map(|row| row.ts))
}

fn events(file: &Connection, run: &RunId, until: Seq) -> Result<Vec<EventView>> {
    let (mut events, mut bytes) = (Vec::new(), 0_usize);
    query::walk_events(file, Some(run), Seq::ZERO, u32::MAX, |row| {
        if row.seq > until || bytes > FORK_SOURCE_BYTES_MAX {
            return Ok(ControlFlow::Break(()));
        }
        bytes = bytes.saturating_add(row.data.as_ref().map_or(0, String::len));
        events.push(row.into_view());
        Ok(ControlFlow::Continue(()))
    })?;
    if bytes > FORK_SOURCE_BYTES_MAX {
        return Err(too_large(run));
    }
    Ok(events)
}

/// The error for a run whose history no node takes.
pub fn too_large(run: &RunId) -> Error {
    let megabytes = FORK_SOURCE_BYTES_MAX / (1024 * 1024);
    Error::invalid(format!(
        "the history of run `{run}` has more than {megabytes} MiB, which is more than is sent to a node: \
         make a copy of the node with `tidemill restore --as`, and fork the run there"
    ))
}

impl Access {
    /// Writes a fork to the new file `to`, which is a node of its own.
    ///
    /// # Errors
    /// `Conflict` if `to` exists, or a WAL beside it; `Invalid` if the name is that of the run's node;
    /// else what SQLite or the file system say.
    pub fn fork_to(
        &self,
        to: &Path,
        own: OwnName,
        origin: &ForkOrigin,
        fork: MadeFork,
    ) -> Result<ForkedFile> {
        refuse_taken(to)?;
        let OwnName { name, id } = own;
        if origin.node.as_ref() == Some(&name) {
            let why = format!("`{name}` is the node of the run: the file needs a name of its own");
            return Err(Error::invalid(why));
        }
        let parent = folder_of(to);
        if !parent.is_dir() {
            let message = format!("there is no folder {}: make it first", parent.display());
            return Err(Error::new(ErrorKind::NotFound, message));
        }
        let folder = tempfile::Builder::new()
            .prefix(tidemill_bucket::RESTORE_DIR_PREFIX)
            .tempdir_in(parent)
            .map_err(|e| Error::io("make a folder in", parent, e))?;
        let file = folder.path().join("workflow.db");
        let ForkOrigin { node, epoch, seq, .. } = origin.clone();
        let copy = OwnCopy { name, id, node, epoch, seq, at: self.now };
        tidemill_eventlog::create(&file)?;
        let connection = tidemill_eventlog::open_writer(&file, Checkpoints::Own)?;
        tidemill_eventlog::begin_with_fork(&connection, &copy, &fork, self.now)?;
        tidemill_eventlog::verify(&connection)?;
        // Everything has to be in the file: only that gets its name.
        if !tidemill_eventlog::checkpoint_truncate(&connection)? {
            let message = format!("{} is in use", file.display());
            return Err(Error::new(ErrorKind::Unavailable, message));
        }
        let failed = |(_, e)| tidemill_eventlog::sqlite("close the file of the fork", e);
        connection.close().map_err(failed)?;
        place(&file, to)?;
        let MadeFork { run, outlook, .. } = fork;
        Ok(ForkedFile { path: to.to_owned(), id: run.id, copy, outlook })
    }
}

#[cfg(test)]
mod tests;
