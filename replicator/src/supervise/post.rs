//! What its owners tell the supervisor, in the order in which they tell it.

use std::collections::VecDeque;

use super::Input;

/// What waits for the supervisor.
#[derive(Debug, Default)]
pub(crate) struct Post(VecDeque<Input>);

impl Post {
    /// Tells the supervisor, after everything that it was told before.
    pub(crate) fn tell(&mut self, input: Input) {
        self.0.push_back(input);
    }

    /// Takes what was told first.
    pub(crate) fn take(&mut self) -> Option<Input> {
        self.0.pop_front()
    }
}
