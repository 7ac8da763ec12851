//! The sessions of people who signed in. They are kept in memory only, so a restart ends them.

use std::collections::HashMap;
use std::time::Duration;

use tidemill_model::BootTime;

use super::Role;

/// How long a session lasts: a working day.
pub const LASTS: Duration = Duration::from_secs(12 * 3_600);

/// The most sessions at a time; one more ends the oldest.
const SESSIONS_MAX: usize = 1_000;

/// A text that nobody can guess. `Debug` does not print it.
#[derive(Clone, PartialEq, Eq)]
pub struct Random(String);

impl std::fmt::Debug for Random {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Random(…)")
    }
}

impl Random {
    /// Encodes random bytes as a secret.
    pub fn of(bytes: [u8; 16]) -> Random {
        Random(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// The secret's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    pub(super) role: Role,
    /// The token in every form on the session's pages.
    pub(super) form_token: Random,
    until: BootTime,
}

/// The sessions, by their ids.
#[derive(Debug, Default)]
pub(super) struct Sessions(HashMap<String, Session>);

impl Sessions {
    /// Begins a session.
    pub(super) fn begin(&mut self, role: Role, id: &Random, form_token: Random, now: BootTime) {
        self.0.retain(|_, session| session.until > now);
        if self.0.len() >= SESSIONS_MAX
            && let Some(oldest) =
                self.0.iter().min_by_key(|(_, it)| it.until).map(|(id, _)| id.clone())
        {
            self.0.remove(&oldest);
        }
        let until = now.saturating_add(LASTS);
        self.0.insert(id.as_str().to_owned(), Session { role, form_token, until });
    }

    /// The session with this id, unless it has ended.
    pub(super) fn find(&self, id: &str, now: BootTime) -> Option<Session> {
        self.0.get(id).filter(|session| session.until > now).cloned()
    }

    /// How many sessions have not ended.
    pub(super) fn count(&self, now: BootTime) -> usize {
        self.0.values().filter(|session| session.until > now).count()
    }

    /// Ends a session.
    pub(super) fn end(&mut self, id: &str) {
        self.0.remove(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::testing::{at, random};

    #[test]
    fn a_session_is_found_by_its_id_until_it_ends() {
        let mut sessions = Sessions::default();
        sessions.begin(Role::ReadOnly, &random(1), random(2), at(0));
        let id = random(1);
        let found = sessions.find(id.as_str(), at(0)).unwrap();
        assert_eq!((found.role, found.form_token), (Role::ReadOnly, random(2)));
        assert_eq!(sessions.find(random(2).as_str(), at(0)), None);
        assert!(sessions.find(id.as_str(), at(LASTS.as_secs() - 1)).is_some());
        assert_eq!(sessions.count(at(LASTS.as_secs() - 1)), 1);
        assert_eq!(sessions.find(id.as_str(), at(LASTS.as_secs())), None, "its day is over");
        assert_eq!(sessions.count(at(LASTS.as_secs())), 0);
        sessions.end(id.as_str());
        assert_eq!(sessions.find(id.as_str(), at(0)), None, "it signed out");
    }

    #[test]
    fn there_are_only_so_many() {
        let mut sessions = Sessions::default();
        for n in 0..=u64::try_from(SESSIONS_MAX).unwrap() {
            sessions.begin(Role::Full, &random(n), random(0), at(n));
        }
        assert_eq!(sessions.find(random(0).as_str(), at(0)), None, "the oldest has ended");
        assert!(sessions.find(random(1).as_str(), at(0)).is_some());
        assert_eq!(sessions.0.len(), SESSIONS_MAX);
        let later = u64::try_from(SESSIONS_MAX).unwrap() + LASTS.as_secs();
        sessions.begin(Role::Full, &random(0), random(0), at(later));
        assert_eq!(sessions.0.len(), 1, "those that ended leave");
    }
}
