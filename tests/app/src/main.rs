//! The app that the end-to-end tests run, kill and redeploy.
//!
//! - [`ledger`] where step bodies record what they did, outside every machine
//! - [`steady`] workflows that must complete whatever happens to their machine
//! - [`carried`] workflows whose runs an older version began
//! - [`misbehaving`] workflows that must be stopped with a message that says what to do
//! - [`hostile`] workflows whose text is not fit for a terminal or a page
//! - [`learning`] a search over numbers, with numbers in its checkpoints
//! - [`deadly`] workflows that end the process
//! - [`selfish`] workflows that hold their thread
//! - [`ordering`] orders that are cancelled
//! - [`approving`] an expense that people approve with tokens
//! - [`leaving`] a run that starts others which outlive it
//! - [`reviewing`] a review that takes signals
//! - [`buying`] baskets of which one item is declined
//! - [`own_main`] the same app without `App::main`
//! - [`attached`] a process that is no app, but attaches like one
//!
//! `TIDEMILL_TEST_CODE=2` makes this process a later deployment of the same app: one workflow is
//! gone from it and another was changed under its runs.

mod approving;
mod attached;
mod buying;
mod carried;
mod deadly;
mod hostile;
mod learning;
mod leaving;
mod ledger;
mod misbehaving;
mod ordering;
mod own_main;
mod reviewing;
mod selfish;
mod steady;

use std::process::ExitCode;

use tidemill::App;

fn main() -> ExitCode {
    if let Some(code) = attached::instead_of_an_app() {
        return code;
    }
    let app = App::new("tidemill-test-app")
        .version(env!("CARGO_PKG_VERSION"))
        .workflow("chain", steady::chain)
        .workflow("train", steady::train)
        .workflow("fan", steady::fan)
        .workflow("nap", steady::nap)
        .workflow("flaky", steady::flaky)
        .workflow("delegates", steady::delegates)
        .workflow("voyage", steady::voyage)
        .workflow("review", reviewing::review)
        .workflow("expense", approving::expense)
        .workflow("number", approving::number)
        .workflow("foreign_wait", misbehaving::foreign_wait)
        .workflow("panics", misbehaving::panics)
        .workflow("wants_file", misbehaving::wants_file)
        .workflow("gives_up", misbehaving::gives_up)
        .workflow("spawns", misbehaving::spawns)
        .workflow("joins", misbehaving::joins)
        .workflow("half_broken", misbehaving::half_broken)
        .workflow("runaway", misbehaving::runaway)
        .workflow("poison", misbehaving::poison)
        .workflow("asks", misbehaving::asks)
        .workflow("stalls", misbehaving::stalls)
        .workflow("floats", carried::floats)
        .workflow("keep", carried::keep)
        .workflow("backs_off", carried::backs_off)
        .workflow("mistypes", carried::mistypes)
        .workflow("off_turn", carried::off_turn)
        .workflow("deadly", deadly::deadly)
        .workflow("hostile", hostile::hostile)
        .workflow("hostile_panics", hostile::panics)
        .workflow("hostile_misnames", hostile::misnames)
        .workflow(hostile::CHILD, hostile::child)
        .workflow("hostile_everywhere", hostile::everywhere)
        .workflow("hostile_keys", hostile::keys)
        .workflow("tune", learning::tune)
        .workflow("learn", learning::learn)
        .workflow("hog", selfish::hog)
        .workflow("slow_turn", selfish::slow_turn)
        .workflow("order", ordering::order)
        .workflow("basket", ordering::basket)
        .workflow("listens", ordering::listens)
        .workflow("spoils", ordering::spoils)
        .workflow("buy", buying::buy)
        .workflow("sends_off", leaving::sends_off)
        .workflow("errand", leaving::errand)
        .workflow("changed", misbehaving::changed);
    let app =
        if misbehaving::redeployed() { app } else { app.workflow("retired", misbehaving::retired) };
    if own_main::is_wanted() { own_main::main(app) } else { app.main() }
}
