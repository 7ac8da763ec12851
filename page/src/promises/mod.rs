//! Promises: what waits for an answer from outside, one of them with the form that answers it.
//!
//! Whoever may act on a live node sees the form. Who holds a promise's own token sees that promise
//! and its form, and nothing else of the node ([`Holder`]).

mod form;
mod inbox;
mod rule;
mod schema;
mod shown;
#[cfg(test)]
mod tests;
mod view;

pub use form::{ANSWER_BYTES_MAX, Posted};
pub use inbox::{PromisesPage, PromisesParams};
pub use shown::{AnswerShown, Attempt, Given, Holder, PromiseShown};

/// What a form may ask of a promise, as the last part of its address.
pub const ANSWERS: [&str; 2] = ["resolve", "reject"];

/// The address of a promise.
pub(crate) fn address(site: &crate::Site, id: &tidemill_model::PromiseId) -> String {
    site.at(&["promises", &id.to_string()])
}
