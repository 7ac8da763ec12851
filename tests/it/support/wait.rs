//! Waiting for a condition with a bound: the only place in these tests that looks at a clock.

use std::time::{Duration, Instant};

/// Long enough for anything that should happen at once, on a machine that is busy building.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// Calls `probe` until it gives a value; panics with `what` when `bound` has passed.
#[track_caller]
#[expect(clippy::disallowed_methods, reason = "this is the bounded wait that all others use")]
pub(crate) fn until<T>(what: &str, bound: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(start.elapsed() < bound, "waited {bound:?} for {what}");
        pause(Duration::from_millis(10));
    }
}

/// [`until`] whose caller says what is wrong: `None` when `bound` has passed.
#[expect(clippy::disallowed_methods, reason = "a bounded wait with another message")]
pub(crate) fn until_or<T>(bound: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    while start.elapsed() < bound {
        if let Some(value) = probe() {
            return Some(value);
        }
        pause(Duration::from_millis(10));
    }
    None
}

/// [`until`] for a condition without a value.
#[track_caller]
pub(crate) fn until_true(what: &str, bound: Duration, mut condition: impl FnMut() -> bool) {
    until(what, bound, || condition().then_some(()));
}

/// Asserts that `condition` stays true for the whole of `span`.
#[track_caller]
#[expect(clippy::disallowed_methods, reason = "a bounded watch, beside the bounded wait")]
pub(crate) fn holds_for(what: &str, span: Duration, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while start.elapsed() < span {
        assert!(condition(), "after {:?} no longer: {what}", start.elapsed());
        pause(Duration::from_millis(10));
    }
}

/// Measures what a test reports, never what it asserts.
#[expect(clippy::disallowed_methods, reason = "figures for a person, not a condition")]
pub(crate) fn timed<T>(act: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let value = act();
    (value, start.elapsed())
}

/// One poll's pause, and the moment at which a random kill falls.
#[expect(clippy::disallowed_methods, reason = "the pause inside the bounded wait")]
pub(crate) fn pause(length: Duration) {
    std::thread::sleep(length);
}
