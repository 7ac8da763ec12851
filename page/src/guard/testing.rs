//! What the tests of the guard share.

use http::{HeaderMap, Uri};
use tidemill_model::BootTime;

use super::{Guard, Random, Sender, SignedIn, Token, Tokens};

/// The token of a reader who may look and act.
pub(super) const FULL: &str = "0123456789abcdef-full";
/// The token of a reader who may only look.
pub(super) const LOOK: &str = "0123456789abcdef-look";

/// The moment `seconds` after the boot.
pub(super) fn at(seconds: u64) -> BootTime {
    BootTime::from_nanos(seconds * 1_000_000_000)
}

/// The random bytes of the `n`th call.
pub(super) fn random(n: u64) -> Random {
    Random::of(u128::from(n).to_be_bytes())
}

/// A guard with a token of each role.
pub(super) fn guard() -> Guard {
    let token = |text| Some(Token::new("TOKEN", text).unwrap());
    let tokens = Tokens::new(token(FULL), token(LOOK)).unwrap();
    Guard::new(tokens, "It wants a token.", random(7))
}

pub(super) fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
}

/// The headers that a browser sends after signing in with this token; each call begins another
/// session.
pub(super) fn signed_in(guard: &Guard, token: &str) -> HeaderMap {
    let host = "observer.example:7421";
    let mut sent = headers(&[("host", host), ("origin", &format!("https://{host}"))]);
    let (uri, form) = (Uri::from_static("/sign-in"), format!("token={token}"));
    let n = guard.sessions(|all| u64::try_from(all.count(at(0))).unwrap());
    let fresh = (random(100 + n), random(200 + n));
    let signed_in = guard.sign_in(&Sender::of(&uri, &sent), &form, fresh, at(0)).unwrap();
    let SignedIn::Onward { cookie, .. } = signed_in else { panic!("{token} signs in") };
    let (pair, _) = cookie.split_once(';').unwrap();
    sent.insert("cookie", format!("other=1; {pair}").parse().unwrap());
    sent
}
