//! The engine against generated workflows, failing commits, crashes.

mod attempts;
mod attempts_told;
mod cancel;
mod children;
mod crashes;
mod drops;
mod faults;
mod floats;
mod fork;
mod fork_from;
mod fork_promises;
mod group;
mod long_turns;
mod newer;
mod odd_logs;
mod place;
mod prefixes;
mod program;
mod promises;
mod refused;
mod retention;
mod signals;
mod stops;
mod timer_names;
mod unload;
mod virtual_time;
