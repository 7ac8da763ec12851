//! The pages in a real browser: what a person sees, clicks and types, and what a hostile run or a
//! foreign page cannot do.

mod acts;
mod browser_hears;
mod fleet;
mod hostile;
mod looks;
mod moments;
mod numbers;
mod promises;
mod questions;
mod run;
mod runs;
mod sign_in;
mod world;
