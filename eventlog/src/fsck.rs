//! `fsck`: everything that can be said about a file from the file alone.

use rusqlite::Connection;

use crate::append::Head;
use crate::error::Result;
use crate::meta::Meta;
use crate::{projection, verify};

/// SQLite stops listing after this many errors; the first few say where to look.
const INTEGRITY_FINDINGS_MAX: u32 = 20;

/// What is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// Which check found it.
    pub kind: FindingKind,
    /// The finding in words, for a person.
    pub what: String,
}

/// The checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// SQLite's own check of pages and indexes.
    Integrity,
    /// The running checksum, the order and the times of the log.
    Log,
    /// The projections against the events.
    Projection,
    /// What the file says about itself.
    Meta,
    /// A run with an event that this version cannot read or that does not fit: the run is blocked,
    /// the file is good.
    Unreadable,
}

/// The result of all checks.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Report {
    /// How many events were verified.
    pub events: u64,
    /// How many events retention removed: the checksums of the rows after them prove them.
    pub removed: u64,
    /// In how many stretches they were.
    pub gaps: u64,
    /// The last good row.
    pub head: Head,
    /// How many runs the file holds.
    pub runs: u64,
    /// What the file says about itself, if it can be read.
    pub meta: Option<Meta>,
    /// What is wrong; empty for a good file.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }

    /// Whether the file is what its writers wrote. Runs that this version cannot read do not speak
    /// against it: such a run is blocked, and the rest of the file is good.
    pub fn is_whole(&self) -> bool {
        self.findings.iter().all(|finding| match finding.kind {
            FindingKind::Unreadable => true,
            FindingKind::Integrity
            | FindingKind::Log
            | FindingKind::Projection
            | FindingKind::Meta => false,
        })
    }

    fn add(&mut self, kind: FindingKind, what: impl Into<String>) {
        self.findings.push(Finding { kind, what: what.into() });
    }
}

/// Runs every check; what one cannot read is a finding, and the others continue. It reads one
/// snapshot of the file, so a file that is being written can be checked too.
///
/// # Errors
/// Only if the file cannot be read at all, or not now.
pub fn fsck(connection: &Connection) -> Result<Report> {
    let failed = |e| crate::sqlite("read the file", e);
    let snapshot = connection.unchecked_transaction().map_err(failed)?;
    let mut report = Report {
        events: 0,
        removed: 0,
        gaps: 0,
        head: Head::default(),
        runs: 0,
        meta: None,
        findings: Vec::new(),
    };
    integrity(&snapshot, &mut report);
    match verify::scan(&snapshot) {
        Ok(scan) => {
            report.events = scan.rows;
            (report.removed, report.gaps) = (scan.removed, scan.gaps);
            report.head = scan.head;
            if let Some(bad) = scan.first_bad {
                report.add(FindingKind::Log, format!("seq={}: {}", bad.seq, bad.what));
            }
        }
        Err(e) => report.add(FindingKind::Log, e.to_string()),
    }
    projections(&snapshot, &mut report);
    match Meta::read(&snapshot) {
        Ok(meta) => report.meta = Some(meta),
        Err(e) => report.add(FindingKind::Meta, e.to_string()),
    }
    Ok(report)
}

fn integrity(connection: &Connection, report: &mut Report) {
    let sql = format!("PRAGMA integrity_check({INTEGRITY_FINDINGS_MAX})");
    let lines = connection.prepare(&sql).and_then(|mut statement| {
        statement
            .query_map([], |row| row.get::<_, String>(0))?
            .collect::<rusqlite::Result<Vec<_>>>()
    });
    match lines {
        Ok(lines) => {
            for line in lines.iter().filter(|line| *line != "ok") {
                report.add(FindingKind::Integrity, line);
            }
        }
        Err(e) => report.add(FindingKind::Integrity, e.to_string()),
    }
}

fn projections(connection: &Connection, report: &mut Report) {
    let both = projection::stored(connection)
        .and_then(|stored| Ok((stored, projection::rebuild(connection)?)));
    match both {
        Ok((stored, from_events)) => {
            report.runs = u64::try_from(stored.runs.len()).unwrap_or(u64::MAX);
            for (run, why) in &from_events.unreadable {
                report.add(FindingKind::Unreadable, format!("run {run}: {why}"));
            }
            for difference in projection::compare(&stored, &from_events) {
                report.add(FindingKind::Projection, difference);
            }
        }
        Err(e) => report.add(FindingKind::Projection, e.to_string()),
    }
}
