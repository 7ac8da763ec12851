//! The engine against generated workflows, failing commits, crashes.

mod crashes;
mod drops;
mod faults;
mod floats;
mod group;
mod newer;
mod prefixes;
mod program;
