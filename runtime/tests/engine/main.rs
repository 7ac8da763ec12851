//! The runtime as authors use it, without a sidecar.

#![expect(clippy::unwrap_used, reason = "a test ends where it meets what it did not expect")]

mod basics;
mod blocked;
mod checks;
mod children;
mod common;
mod floats;
mod gate;
mod handles;
mod off_turn;
mod status;
mod steps;
