//! Who may look at the pages of a node or of an observer, and who may act.
//!
//! A program sends its token with each request. A person signs in with it once, and the browser
//! then has a random session id, which contains nothing and expires. Without tokens, on loopback,
//! everyone on the machine may look and act, except a web page of another origin.
//!
//! Pure: the request comes as a [`Sender`], the time and random bytes are arguments, and the answer
//! is a return value. The caller reads the clock, waits [`REFUSAL_TAKES`] before it refuses a
//! token, and sends the answer.

mod origin;
mod sender;
mod sessions;
mod sign_in;
#[cfg(test)]
mod testing;
mod token;
mod who;

pub use origin::{is_own_origin, names_this_machine};
pub use sender::Sender;
pub use sessions::{LASTS, Random, Session};
pub use sign_in::{FORM_BYTES_MAX, REFUSAL_TAKES, SIGN_IN, SIGN_OUT, SignedIn};
pub use token::{Role, Token, Tokens, is_same_secret};
pub use who::{Guard, Who};
