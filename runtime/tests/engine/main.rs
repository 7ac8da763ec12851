//! The runtime as authors use it, without a sidecar.

mod basics;
mod blocked;
mod common;
mod steps;
