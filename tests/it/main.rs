//! End-to-end tests: real processes, a real S3 server, SIGKILL.
//!
//! One test binary on purpose: `cargo test` gives each binary a process of its own, and the S3
//! server is shared by a process. Each test has its own bucket, its own folder and its own
//! machines, so that all of them run at once. `support` is the harness; the modules beside it are
//! the tests, one file a promise.

mod app_process;
mod asks;
mod attempts;
mod author_cli;
mod blocked;
mod bucket_kills;
mod bulk;
mod cancel;
mod chaos;
mod command_errors;
mod command_line;
mod credentials;
mod damaged_point;
mod deadly;
mod dev;
mod disks;
mod earlier_version;
mod edited_by_hand;
mod emptied_bucket;
mod exclusive;
mod forget;
mod fork_from_bucket;
mod forks;
mod frozen;
mod ghost;
mod group_commit;
mod harness;
mod heartbeat;
mod holes;
mod hostile_text;
mod http_errors;
mod idle;
mod kills;
mod leave_within;
mod log_reader_gone;
mod logs;
mod long_run;
mod looking;
mod lost_in_a_cure;
mod lost_state;
mod metrics;
mod node_tokens;
mod observe;
mod observe_document;
mod observe_metrics;
mod observer;
mod older_file;
mod outage;
mod own_copy;
mod own_main;
mod pacing;
mod pages;
mod probe;
mod promises;
mod reboot;
mod replay;
mod retention;
mod s3_provider;
mod signals;
mod silence;
mod slow_store;
mod snapshot_cache;
mod socket;
mod stops;
mod support;
mod systemd;
mod takeover;
mod unreadable;
mod versions;
mod wrong_answers;
mod wrong_replica;
