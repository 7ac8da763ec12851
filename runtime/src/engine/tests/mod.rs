//! The engine against generated workflows, failing commits, crashes.

mod crashes;
mod faults;
mod group;
mod newer;
mod prefixes;
mod program;
