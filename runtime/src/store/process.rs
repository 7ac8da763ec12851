//! What a process finds out about those that wrote the file before it, and notes of itself.
//!
//! A step during which the process dies again and again is poison. What counts are deaths within
//! one boot under one owner: after a reboot, a take-over or a clean end the count starts again.
//!
//! An attempt that was cut off says how its process ended. A process that closed the file has
//! stopped. One that did not is dead, if this is the disk that it wrote to: the lock of the file is
//! free, and a reboot ends every process. On another disk the file is as of some moment of that
//! process's life, and what became of it is not known. (A clone of a whole machine has the same
//! disk by all that can be seen; its attempts count as crashed.)
//!
//! The row also says from where on floats in the log are exact. Versions before this field read
//! numbers with a fraction up to 2 units in the last place wrong, and what they passed on lies in
//! the log. They drop the field when they write the row, so the first process of a version that
//! reads floats exactly finds it missing, after an upgrade and after each time back and forth.

use rusqlite::Connection;
use tidemill_eventlog::{Process, host};
use tidemill_model::{BootId, ProcessEnd, Seq};

use crate::engine::Environment;
use crate::error::Error;

/// What a process knows of itself and of those before it.
#[derive(Debug)]
pub(crate) struct Processes {
    /// As the file has it while this process writes.
    this: Process,
    /// No process wrote in this epoch before.
    pub(super) first_of_epoch: bool,
    /// From here on the log was written by versions that read floats exactly.
    pub(crate) floats_exact_from: Seq,
    /// What comes after this is written by this process.
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

    /// No crash counts that was logged up to here.
    pub(crate) fn counts_after(&self) -> Seq {
        self.this.counts_after
    }

    /// How the process ended that had the attempt which began at `seq`. In this process nothing
    /// but a fault of ours ends an attempt without its body.
    pub(crate) fn end_of(&self, seq: Seq) -> ProcessEnd {
        self.this.end_of(seq, None).unwrap_or(ProcessEnd::Crash)
    }
}

/// From where on floats in this log are exact; none if nowhere.
pub(super) fn floats_exact_from(connection: &Connection) -> Result<Option<Seq>, Error> {
    Ok(Process::read(connection)?.and_then(|process| process.floats_exact_from))
}

fn how_it_ended(was: &Process, now: &Process) -> ProcessEnd {
    let same_disk = match (&was.instance, &now.instance) {
        (Some(was), Some(now)) => was == now,
        // Without a sidecar a file stays where it is; what a version wrote that did not note the
        // disk, is known by the epoch or the boot.
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
