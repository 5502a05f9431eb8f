//! Descriptors on the reactor: pidfds, eventfds, terminals, pipes.
#![expect(unsafe_code, reason = "AsyncFd::register asks its caller to vouch for the descriptor")]

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Watches a descriptor for being readable.
///
/// # Errors
/// One that epoll cannot watch (a regular file).
pub fn readable(descriptor: Arc<OwnedFd>) -> io::Result<AsyncFd<Arc<OwnedFd>>> {
    // SAFETY: an Arc<OwnedFd> keeps the same open descriptor for as long as it lives, and AsyncFd owns this one.
    Ok(unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) }?)
}
