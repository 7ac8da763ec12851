//! Where a page stands: what its addresses begin with, which moment it shows, and who looks at it.
//! Pure.

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use tidemill_model::{Epoch, Seq, Timestamp, Txid};

/// What a segment of a path cannot hold as it is. `:` and `@` stay, so that a moment is readable.
const SEGMENT: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'/')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// A source as its pages know it.
#[derive(Debug, Clone)]
pub struct Site {
    /// What every address of the source begins with; empty on a node, `/s3/B/FLEET/n1@latest` at an
    /// observer.
    pub base: String,
    /// The name that the pages show for it, such as `n1`.
    pub name: String,
    /// Which moment they show.
    pub shown: Shown,
    /// The observer's own addresses; `None` on a node.
    pub observer: Option<ObserverLinks>,
    /// Who looks.
    pub viewer: Viewer,
    /// The time that ages are counted from.
    pub now: Timestamp,
}

/// The moment that a page shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    /// A node that answers, as it is now.
    Live,
    /// A point of a node's past.
    Past(Past),
}

/// A restored point of a node's past.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Past {
    /// How it was asked for: `latest`, a time, `e3:2a`.
    pub asked: String,
    /// The epoch.
    pub epoch: Epoch,
    /// The transaction.
    pub txid: Txid,
    /// By when it was in the bucket.
    pub at: Timestamp,
    /// Up to which event a barrier is known to have covered the log; `None` if it is not known.
    pub covered: Option<Seq>,
    /// Until when it shows all that the node did; `None` if it is not known, or not the newest point.
    pub whole_until: Option<Timestamp>,
    /// The restorable point before it, as an address takes it.
    pub earlier: Option<String>,
    /// The one after it.
    pub later: Option<String>,
    /// What the observer cannot know now, because the bucket does not answer.
    pub unknown: Option<String>,
}

/// What an observer adds to a source's own addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObserverLinks {
    /// The page of the node's timeline, if it has one.
    pub node: Option<String>,
    /// The source without its moment: an address is this, a moment, and the view.
    pub moments: Option<String>,
    /// The same node now, if it can be asked.
    pub live: Option<String>,
}

/// Who looks at a page, and what they may do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Viewer {
    /// What a form carries to show that it was made for this viewer's session. `None` without one.
    pub session: Option<String>,
    /// What a form that changes something carries. `None` for those who may only look.
    pub may_act: Option<String>,
}

impl Site {
    /// The address of a view of the source: its base and these segments.
    pub fn at(&self, segments: &[&str]) -> String {
        match self.base.clone() + &path(segments) {
            address if address.is_empty() => "/".to_owned(),
            address => address,
        }
    }

    /// The address of a run.
    pub fn run(&self, run: &str) -> String {
        self.at(&["runs", run])
    }

    /// The same view at another moment: what follows the base of an address stays.
    pub fn moved(&self, moment: &str, rest: &str) -> Option<String> {
        let moments = self.observer.as_ref()?.moments.as_ref()?;
        Some(format!("{moments}@{moment}{rest}"))
    }

    /// Whether the source is a node that answers now and the viewer may act on it.
    pub fn form_token(&self) -> Option<&str> {
        self.viewer.may_act.as_deref().filter(|_| self.shown == Shown::Live)
    }
}

/// The path of these segments: each with a `/` before it, and what a path cannot hold encoded.
pub fn path(segments: &[&str]) -> String {
    segments.iter().map(|segment| format!("/{}", utf8_percent_encode(segment, SEGMENT))).collect()
}

/// An address with parameters: those without a value are left out.
pub fn with_query(address: &str, parameters: &[(&str, Option<&str>)]) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (name, value) in parameters {
        if let Some(value) = value {
            query.append_pair(name, value);
        }
    }
    match query.finish() {
        query if query.is_empty() => address.to_owned(),
        query => format!("{address}?{query}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(base: &str) -> Site {
        Site {
            base: base.to_owned(),
            name: "n1".to_owned(),
            shown: Shown::Live,
            observer: None,
            viewer: Viewer::default(),
            now: Timestamp::from_micros(0).unwrap(),
        }
    }

    #[test]
    fn an_address_holds_any_name() {
        assert_eq!(site("").at(&[]), "/");
        assert_eq!(site("").run("r 1/2?<x>"), "/runs/r%201%2F2%3F%3Cx%3E");
        assert_eq!(site("/s3/b/f/n1@e3:2a").run("r.1"), "/s3/b/f/n1@e3:2a/runs/r.1");
    }

    #[test]
    fn parameters_without_a_value_are_left_out() {
        assert_eq!(with_query("/runs", &[("a", None), ("b", None)]), "/runs");
        assert_eq!(
            with_query("/runs", &[("a", Some("x&y=1 ")), ("b", None)]),
            "/runs?a=x%26y%3D1+"
        );
    }
}
