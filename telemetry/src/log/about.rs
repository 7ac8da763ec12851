//! Whom a line is about: the node and epoch of the process, and the run whose code the thread is in.

use std::cell::RefCell;
use std::sync::{PoisonError, RwLock};

use tidemill_model::{Epoch, NodeId, OpId, RunId};

/// The node of this process; one process has one.
static OWNER: RwLock<Option<Owner>> = RwLock::new(None);

#[derive(Debug, Clone)]
pub(super) struct Owner {
    pub(super) node: NodeId,
    pub(super) epoch: Option<Epoch>,
}

/// From now on the lines of this process name the node, and the epoch once that is known.
pub fn of_node(node: &NodeId, epoch: Option<Epoch>) {
    let owner = Owner { node: node.clone(), epoch };
    *OWNER.write().unwrap_or_else(PoisonError::into_inner) = Some(owner);
}

pub(super) fn owner() -> Option<Owner> {
    OWNER.read().unwrap_or_else(PoisonError::into_inner).clone()
}

thread_local! {
    static DOING: RefCell<Option<Doing>> = const { RefCell::new(None) };
}

/// Whose code a thread is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doing {
    /// The run.
    pub run: RunId,
    /// The operation, in the body of a step; `None` in the run's own code.
    pub op: Option<OpId>,
}

/// What this thread is doing; `None` outside the code of runs.
pub fn doing() -> Option<Doing> {
    // A destructor of another thread-local may log when this one is gone already.
    DOING.try_with(|doing| doing.borrow().clone()).ok().flatten()
}

/// Calls `work`; the lines that this thread logs meanwhile, and its panics, name the run. It costs
/// two writes to a thread-local.
pub fn while_doing<T>(what: Doing, work: impl FnOnce() -> T) -> T {
    struct Before(Option<Doing>);
    impl Drop for Before {
        fn drop(&mut self) {
            let before = self.0.take();
            let _ = DOING.try_with(|doing| drop(doing.replace(before)));
        }
    }
    let _before = Before(DOING.with(|doing| doing.replace(Some(what))));
    work()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_thread_does_ends_with_the_call_and_with_a_panic() {
        let of = |run: &str| Doing { run: RunId::new(run).unwrap(), op: None };
        assert_eq!(doing(), None);
        while_doing(of("outer"), || {
            let inner =
                std::panic::catch_unwind(|| while_doing(of("inner"), || panic!("on purpose")));
            assert!(inner.is_err());
            assert_eq!(doing(), Some(of("outer")));
        });
        assert_eq!(doing(), None);
    }
}
