//! The node from outside: its HTTP API, its command line, its sidecar's socket. Real processes of
//! the example program, real sockets, every error with its message.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

mod api;
mod cli;
mod contract;
mod forks;
mod operations;
mod pages;
mod promise_pages;
mod sidecar;
mod sign_in;
mod support;
