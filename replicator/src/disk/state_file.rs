//! The state of a node on this disk, `workflow.db.node.json`.
//!
//! The sidecar writes it before each act that it must not forget, and completes an interrupted
//! take-over or cure from it. Its reader and its writer hold the node lock.
//!
//! Crash: the old state or the new one, whole. A damaged file is an error and never "no state":
//! without it a resume could be mistaken for a first start.

use tidemill_eventlog::{Beside, FileLock};
use tidemill_model::{Invalid, NodeState};

use crate::disk::files::{self, FileError};

/// The state could not be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateError {
    /// The file system refused.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file has no state that this version can read.
    #[error("the state file path={} is unreadable: {source}", path.display())]
    Unreadable {
        /// The file.
        path: std::path::PathBuf,
        /// What is wrong with it.
        source: Invalid,
    },
}

/// Reads the state; `None` on a disk that never had this node.
///
/// # Errors
/// [`StateError`].
pub(crate) fn read(beside: &Beside) -> Result<Option<NodeState>, StateError> {
    let path = beside.node_state();
    let Some(bytes) = files::read_if_there(&path)? else { return Ok(None) };
    match NodeState::parse(&bytes) {
        Ok(state) => Ok(Some(state)),
        Err(source) => Err(StateError::Unreadable { path, source }),
    }
}

/// Replaces the state. Costs two syncs.
///
/// # Errors
/// [`StateError::File`]; the old state is still there, or the new one.
///
/// # Crash safety
/// The old state or the new one; after the return, the new one.
pub(crate) fn write(
    beside: &Beside,
    _node_lock: &FileLock,
    state: &NodeState,
) -> Result<(), StateError> {
    let path = beside.node_state();
    let mut bytes = serde_json::to_vec_pretty(state)
        .map_err(|e| FileError::new("write", &path, std::io::Error::other(e)))?;
    bytes.push(b'\n');
    Ok(files::replace(&path, &bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidemill_model::Stage;

    #[test]
    fn a_state_comes_back_and_keeps_what_it_does_not_know() {
        let dir = tempfile::tempdir().unwrap();
        let beside = Beside::new(&dir.path().join("workflow.db"));
        let lock = FileLock::take(&beside.node_lock()).unwrap();
        assert_eq!(read(&beside).unwrap(), None);
        let mut state = crate::testing::state(Stage::Claimed);
        state.unknown.insert("newer".to_owned(), serde_json::json!([1]));
        write(&beside, &lock, &state).unwrap();
        assert_eq!(read(&beside).unwrap(), Some(state));
    }

    #[test]
    fn a_damaged_state_is_not_taken_for_none() {
        let dir = tempfile::tempdir().unwrap();
        let beside = Beside::new(&dir.path().join("workflow.db"));
        for damaged in ["", "{", "{\"v\":2}"] {
            std::fs::write(beside.node_state(), damaged).unwrap();
            let error = read(&beside).unwrap_err().to_string();
            assert!(error.contains("is unreadable"), "{error}");
        }
    }
}
