//! What of a source can be taken as a file: payloads, and one HTML file of a run.

use rusqlite::Connection;
use tidemill_eventlog::Result;
use tidemill_model::{Error, ErrorKind, OpId, RunId, Seq, Timestamp};

use crate::export;
use crate::params::Params;
use crate::run::{PayloadPart, RunPage, RunParams, payload};
use crate::site::Site;

/// A file of a source.
#[derive(Debug, Clone, PartialEq)]
pub enum File {
    /// `/runs/{id}/input.json` and the like: a payload of the run, or of one of its operations, as
    /// it was after the event at a place in the log.
    Payload(RunId, Option<OpId>, PayloadPart, Option<Seq>),
    /// `/runs/{id}/export.html`: the run in one file that loads nothing.
    Export(RunId, RunParams),
}

/// A file as it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileContent {
    /// What it is called; a run's id is in it, which may hold anything that an id may.
    pub name: String,
    /// Its media type.
    pub media_type: &'static str,
    /// Its content.
    pub content: String,
}

impl File {
    /// Reads an address: its segments behind the base of the source, decoded, and its query. `None`
    /// if it is no file.
    ///
    /// # Errors
    /// `Invalid` for a name or a parameter that is wrong.
    pub fn parse(segments: &[&str], query: &str) -> Result<Option<File>> {
        let run = |id: &str| RunId::new(id).map_err(Error::from);
        let seq = || Params::read(query, &["seq"])?.get("seq");
        Ok(match segments {
            ["runs", id, "export.html"] => Some(File::Export(run(id)?, RunParams::parse(query)?)),
            ["runs", id, file] => match PayloadPart::of_file(file) {
                Some(part) => Some(File::Payload(run(id)?, None, part, seq()?)),
                None => None,
            },
            ["runs", id, "operations", op, file] => match PayloadPart::of_file(file) {
                Some(part) => Some(File::Payload(run(id)?, Some(op.parse()?), part, seq()?)),
                None => None,
            },
            _ => None,
        })
    }

    /// Reads the file.
    ///
    /// # Errors
    /// `NotFound` for what does not exist; `Corrupt` if the file is damaged; otherwise what SQLite
    /// says.
    pub fn read(
        &self,
        connection: &Connection,
        site: &Site,
        now: Timestamp,
    ) -> Result<FileContent> {
        let missing = |what: &str| {
            Error::new(ErrorKind::NotFound, format!("there is no {what} at this moment"))
        };
        match self {
            File::Payload(run, op, part, seq) => {
                let op_name = op.map_or_else(String::new, |op| format!("-{op}"));
                let name = format!("{run}{op_name}-{}", part.file());
                let json = payload(connection, run, *op, (*part, *seq))?;
                let json = json.ok_or_else(|| missing(&name))?;
                let content = json.as_str().to_owned();
                Ok(FileContent { name, media_type: "application/json", content })
            }
            File::Export(run, params) => {
                let page = RunPage::read_rows(connection, run, params.clone(), now, export::ROWS)?;
                let page = page.ok_or_else(|| missing(run.as_str()))?;
                let content = export::run(connection, &page, site)?.into_string();
                let media_type = "text/html; charset=utf-8";
                Ok(FileContent { name: format!("{run}.html"), media_type, content })
            }
        }
    }
}
