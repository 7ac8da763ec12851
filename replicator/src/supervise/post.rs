//! The queue of inputs that the owners send to the supervisor.

use std::collections::VecDeque;

use super::Input;

/// The inputs that wait for the supervisor, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Post(VecDeque<Input>);

impl Post {
    /// Adds an input behind all others.
    pub(crate) fn tell(&mut self, input: Input) {
        self.0.push_back(input);
    }

    /// Takes the oldest input; `None` if none waits.
    pub(crate) fn take(&mut self) -> Option<Input> {
        self.0.pop_front()
    }
}
