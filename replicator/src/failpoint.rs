//! Faults on purpose, for tests that drive the real sidecar. Only in builds with debug assertions:
//! a release build has no way to end here or to leave out a cure.
//!
//! - `TIDEMILL_TEST_STOP_AT=NAME` ends the process at the point of that name, as SIGKILL would: no
//!   destructor runs and no peer gets a message. The name goes to stderr, so that a test can
//!   assert that its fault fired.
//! - `TIDEMILL_TEST_NO_CURE=1` leaves out the cure of an app that died without a goodbye, so that a
//!   test can show that it would see what the cure prevents.

/// Ends the process if the test chose `point`.
#[cfg(debug_assertions)]
pub(crate) fn reached(point: &str) {
    if std::env::var("TIDEMILL_TEST_STOP_AT").is_ok_and(|wanted| wanted == point) {
        eprintln!("stopped at the fail point {point}");
        std::process::abort();
    }
}

/// Nothing, in a release build.
#[cfg(not(debug_assertions))]
pub(crate) fn reached(_point: &str) {}

/// Whether the cure is left out.
#[cfg(debug_assertions)]
pub(crate) fn cure_is_off() -> bool {
    std::env::var("TIDEMILL_TEST_NO_CURE").is_ok_and(|value| value == "1")
}

/// Never, in a release build.
#[cfg(not(debug_assertions))]
pub(crate) fn cure_is_off() -> bool {
    false
}
