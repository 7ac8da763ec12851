//! A hyperparameter sweep that outlives its machine: trains a classifier of handwritten digits on
//! a grid of learning rates and augmentations, one durable child workflow per trial.

mod augment;
mod digits;
mod logreg;
mod rng;
mod sweep;

use std::process::ExitCode;

use tidemill::App;

fn main() -> ExitCode {
    App::new("sweep")
        .version(env!("CARGO_PKG_VERSION"))
        .workflow("sweep", sweep::sweep)
        .workflow("trial", sweep::trial)
        .main()
}
