//! End-to-end tests: real processes, a real S3 server, SIGKILL.
//!
//! One test binary on purpose: `cargo test` gives each binary a process of its own, and the S3
//! server is shared by a process. Each test has its own bucket, its own folder and its own
//! machines, so that all of them run at once. `support` is the harness; the modules beside it are
//! the tests, one file a promise.

mod harness;
mod s3_provider;
#[expect(dead_code, reason = "the fault tests will use what the first tests do not")]
mod support;
