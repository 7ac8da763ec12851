//! The `process` row of the file: how earlier processes ended, and that this one writes now.
//!
//! A step during which the process dies again and again is poison. Only deaths within one boot
//! under one owner count: after a reboot, a take-over or a clean end the count starts again.
//!
//! An attempt that was cut off says how its process ended. A process that closed the file was
//! stopped. A process that did not close it has crashed, if it wrote to this disk: the lock of the
//! file is free, and a reboot ends every process. On another disk the file shows only a moment of
//! that process's life, so its end is lost. (A clone of a whole machine cannot be told from the
//! same disk; its attempts count as crashed.)
//!
//! The row also has the position from which floats in the log are exact. Versions before this field
//! read numbers with a fraction up to 2 units in the last place wrong, and recorded what they had
//! read. They drop the field when they write the row. So the first process of a version that reads
//! floats exactly finds the field missing, after an upgrade and after each downgrade and return.

use rusqlite::Connection;
use tidemill_eventlog::{Process, host};
use tidemill_model::{BootId, ProcessEnd, Seq};

use crate::engine::Environment;
use crate::error::Error;

/// What a process knows about itself and the processes before it.
#[derive(Debug)]
pub(crate) struct Processes {
    /// The row that the file has while this process writes.
    this: Process,
    /// Whether this is the first process that writes in this epoch.
    pub(super) first_of_epoch: bool,
    /// The position from which only versions that read floats exactly have written the log.
    pub(crate) floats_exact_from: Seq,
    /// The newest event before this process; every later one is its own.
    pub(crate) head_before: Seq,
}

impl Processes {
    /// Notes, in the caller's transaction, that this process writes now.
    pub(super) fn begin(
        connection: &Connection,
        environment: &Environment,
        head: Seq,
    ) -> Result<Processes, Error> {
        let before = Process::read(connection)?;
        let processes = Processes::after(before, environment, host::boot_id()?, head);
        processes.this.write(connection)?;
        Ok(processes)
    }

    fn after(
        before: Option<Process>,
        environment: &Environment,
        boot: BootId,
        head: Seq,
    ) -> Processes {
        let (epoch, instance) = (environment.epoch, environment.instance.clone());
        let first_of_epoch = before.as_ref().is_none_or(|was| was.epoch != epoch);
        let exact_from = before.as_ref().and_then(|was| was.floats_exact_from);
        let exact_from = exact_from.unwrap_or_else(|| head.next());
        let mut this = Process {
            boot,
            epoch,
            instance,
            clean: false,
            counts_after: head,
            floats_exact_from: Some(exact_from),
            ends: Vec::new(),
        };
        if let Some(was) = before {
            if !was.clean && was.boot == this.boot && was.epoch == epoch {
                this.counts_after = was.counts_after;
            }
            let how = how_it_ended(&was, &this);
            this.ends = Process::ends_with(was.ends, head, how);
        } else if head != Seq::ZERO {
            this.ends = Process::ends_with(Vec::new(), head, ProcessEnd::Lost);
        }
        Processes { this, first_of_epoch, floats_exact_from: exact_from, head_before: head }
    }

    /// Notes that this process ended cleanly.
    pub(super) fn end(&self, connection: &Connection) -> Result<(), Error> {
        let clean = Process { clean: true, counts_after: Seq::ZERO, ..self.this.clone() };
        clean.write(connection)
    }

    /// Crashes up to this position do not count as poison.
    pub(crate) fn counts_after(&self) -> Seq {
        self.this.counts_after
    }

    /// How the process ended that ran the attempt which began at `seq`. An attempt of this very
    /// process can end without its body only by a bug, and counts as crashed.
    pub(crate) fn end_of(&self, seq: Seq) -> ProcessEnd {
        self.this.end_of(seq, None).unwrap_or(ProcessEnd::Crash)
    }
}

/// The position from which floats in this log are exact; `None` if the file does not record one.
pub(super) fn floats_exact_from(connection: &Connection) -> Result<Option<Seq>, Error> {
    Ok(Process::read(connection)?.and_then(|process| process.floats_exact_from))
}

fn how_it_ended(was: &Process, now: &Process) -> ProcessEnd {
    let same_disk = match (&was.instance, &now.instance) {
        (Some(was), Some(now)) => was == now,
        // Without a sidecar a file stays on its disk. A row of a version that did not record the
        // disk is from this one if the epoch or the boot is the same.
        (None, _) | (_, None) => {
            was.epoch.is_none() || was.epoch == now.epoch || was.boot == now.boot
        }
    };
    match (was.clean, same_disk) {
        (true, _) => ProcessEnd::Stop,
        (false, true) => ProcessEnd::Crash,
        (false, false) => ProcessEnd::Lost,
    }
}

#[cfg(test)]
mod tests;
