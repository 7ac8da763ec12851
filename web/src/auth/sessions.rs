//! The sessions of people who signed in: in memory only, so that a restart ends them.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tidemill_eventlog::host::boot_now;
use tidemill_model::BootTime;

use super::random;

/// How long a session lasts from its beginning: a working day.
pub(crate) const LASTS: Duration = Duration::from_secs(12 * 3_600);

/// Sessions at a time; a further one ends the oldest.
const SESSIONS_MAX: usize = 1_000;

/// What a reader may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Look and act.
    Full,
    /// Look.
    ReadOnly,
}

/// A session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) role: Role,
    /// What the forms of its pages carry.
    pub(crate) form_token: String,
    until: BootTime,
}

/// The sessions, by their ids.
#[derive(Debug, Default)]
pub(crate) struct Sessions(Mutex<HashMap<String, Session>>);

impl Sessions {
    /// Begins a session; its id and the session.
    pub(crate) fn begin(&self, role: Role) -> (String, Session) {
        let until = boot_now().saturating_add(LASTS);
        let session = Session { role, form_token: random(), until };
        let id = random();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, session| session.until > boot_now());
        if all.len() >= SESSIONS_MAX
            && let Some(oldest) =
                all.iter().min_by_key(|(_, it)| it.until).map(|(id, _)| id.clone())
        {
            all.remove(&oldest);
        }
        all.insert(id.clone(), session.clone());
        (id, session)
    }

    /// The session with this id, unless it has ended.
    pub(crate) fn find(&self, id: &str) -> Option<Session> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(id).filter(|session| session.until > boot_now()).cloned()
    }

    /// How many have not ended.
    pub(crate) fn count(&self) -> usize {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.values().filter(|session| session.until > boot_now()).count()
    }

    /// Ends a session.
    pub(crate) fn end(&self, id: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_found_by_its_id_until_it_ends() {
        let sessions = Sessions::default();
        let (id, session) = sessions.begin(Role::ReadOnly);
        assert_eq!(sessions.find(&id), Some(session.clone()));
        assert_ne!(id, session.form_token);
        assert_eq!(sessions.count(), 1);
        sessions.end(&id);
        assert_eq!((sessions.find(&id), sessions.count()), (None, 0));
    }

    #[test]
    fn there_are_only_so_many() {
        let sessions = Sessions::default();
        let (first, _) = sessions.begin(Role::Full);
        for _ in 0..SESSIONS_MAX {
            sessions.begin(Role::Full);
        }
        assert_eq!(sessions.find(&first), None, "the oldest has ended");
        assert_eq!(sessions.0.lock().unwrap().len(), SESSIONS_MAX);
    }
}
