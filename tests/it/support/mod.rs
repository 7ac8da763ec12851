//! The harness: an S3 server, machines to destroy, and witnesses that outlive them.
//!
//! - [`server`] one S3 server a test process, [`bucket`] one bucket a test
//! - [`machine`] a disposable machine: a folder with a sidecar, Litestream and an app in it;
//!   [`proxy`] cuts one off from S3, [`liar`] answers in its Litestream's place
//! - [`app`] the test app without a machine: its own sidecar, or none
//! - [`ledger`] what step bodies did, written outside every machine; [`witness`] what must not
//!   happen again after a kill
//! - [`exposition`] what a node says to Prometheus
//! - [`timeline`] what the observer offers of a node's past
//! - [`observing`] a running observer, and [`browser`] a person who looks at its pages
//!   [`foreign_site`] is where else that person has been
//! - [`old_runs`] a file with runs that ended long ago
//! - [`sqlite`] compare two files; [`corrupt`] and [`ltx`] make replicas that lie
//!
//! Everything is blocking: a test reads as a list of things done to machines. Every wait has a
//! bound and a message ([`wait`]). What a test starts carries the process's [`scratch`] folder in
//! its environment or arguments, and a reaper kills by that mark whatever is left, even when the
//! test process itself is killed.

pub(crate) mod app;
pub(crate) mod browser;
pub(crate) mod bucket;
pub(crate) mod corrupt;
pub(crate) mod exposition;
pub(crate) mod foreign_site;
pub(crate) mod http;
pub(crate) mod ledger;
pub(crate) mod liar;
pub(crate) mod ltx;
pub(crate) mod machine;
pub(crate) mod observing;
pub(crate) mod old_runs;
pub(crate) mod process;
pub(crate) mod procfs;
pub(crate) mod proxy;
pub(crate) mod scratch;
pub(crate) mod server;
pub(crate) mod shim;
pub(crate) mod sqlite;
pub(crate) mod supervisor;
pub(crate) mod timeline;
pub(crate) mod tools;
pub(crate) mod unix_http;
pub(crate) mod wait;
pub(crate) mod witness;
