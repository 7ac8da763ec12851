//! The testing kit, as authors use it.

#![expect(clippy::unwrap_used, reason = "a test ends where it meets what it did not expect")]

mod cancel;
mod crashes;
mod replays;
mod steps;
mod time;
