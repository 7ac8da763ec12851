//! The pages of Tidemill.
//!
//! A page is a value that is read from a file's connection, with its JSON form, and a function that
//! makes HTML of it for a [`Site`]: a node that shows itself, or a source at an observer. This
//! crate owns what is shown and how; it opens no file, knows no bucket and serves no request.
//!
//! Invariants:
//! - whatever a run holds is text: it reaches a page through maud, which escapes it;
//! - a page has a bounded size, however long the run and however many the runs;
//! - a page works without its script, loads nothing from elsewhere, and has no script or style in
//!   itself;
//! - charts are computed without randomness: the same file gives the same page.

pub mod assets;
pub mod children;
pub mod compare;
pub mod curves;
mod export;
mod file;
pub mod fleet;
pub mod guard;
pub mod needs;
pub mod overview;
mod params;
pub mod payload;
pub mod promises;
pub mod run;
pub mod runs;
mod shell;
mod site;
pub mod sql;
#[cfg(test)]
mod testing;
pub mod timeline;
mod view;
pub mod waits;
pub mod words;

pub use file::{File, FileContent};
pub use params::Params;
pub use shell::{Tab, error_page, page, plain};
pub use site::{ObserverLinks, Past, Shown, Site, Viewer, path, with_query};
pub use view::{Page, View, segments};
