//! What can fail, with the step that did.

use std::io;

/// A failed step of a pod instance's network.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The kernel refused something.
    #[error("{step}: {source}")]
    Step {
        /// What was done, with links, addresses and paths.
        step: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// A cluster's name cannot be that of a file.
    #[error("name a network namespace after cluster {0:?}: not 1 to 200 letters, digits, '-', '_' or '.'")]
    Cluster(String),
    /// The thread that did it ended without a result.
    #[error("wait for the network thread: it ended without a result")]
    Thread,
}

/// Names the step that an error belongs to.
pub(super) trait At<T> {
    fn at(self, step: impl FnOnce() -> String) -> Result<T, NetworkError>;
}

impl<T, E: Into<io::Error>> At<T> for Result<T, E> {
    fn at(self, step: impl FnOnce() -> String) -> Result<T, NetworkError> {
        self.map_err(|source| NetworkError::Step { step: step(), source: source.into() })
    }
}
