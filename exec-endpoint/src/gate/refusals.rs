//! kubectl asks again over SPDY when its WebSocket is refused: both are one audit line.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use super::Asked;

/// How soon after a refusal the same question is the same.
const SOON: Duration = Duration::from_secs(5);
/// How many refusals are remembered.
const MOST: usize = 1024;

/// The latest refusals that have a line and no retry yet.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    recent: VecDeque<(Instant, [u8; 32])>,
}

impl Refusals {
    /// Whether a refused question is the retry of one that has its line. One line stands for one retry: a third one has a line
    /// again, so nobody hides behind it.
    pub(super) fn is_retry(&mut self, asked: &Asked<'_>, now: Instant) -> bool {
        self.recent.retain(|(at, _)| now.duration_since(*at) <= SOON);
        if self.recent.is_empty() {
            return false;
        }
        let question = digest(asked);
        let place = self.recent.iter().position(|(_, recent)| *recent == question);
        place.is_some_and(|place| self.recent.remove(place).is_some())
    }

    /// Its line is written.
    pub(super) fn told(&mut self, asked: &Asked<'_>, now: Instant) {
        if self.recent.len() == MOST {
            self.recent.pop_front();
        }
        self.recent.push_back((now, digest(asked)));
    }
}

/// All that the line would show but its time, and the port, which differs with each connection. Each part has its length before it.
fn digest(asked: &Asked<'_>) -> [u8; 32] {
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    part(asked.who.user.as_bytes());
    part(&[u8::try_from(asked.who.groups.len()).unwrap_or(u8::MAX)]);
    asked.who.groups.iter().for_each(|group| part(group.as_bytes()));
    match asked.peer.ip() {
        IpAddr::V4(address) => part(&address.octets()),
        IpAddr::V6(address) => part(&address.octets()),
    }
    part(asked.protocol.as_bytes());
    part(&(asked.verbs.len() as u64).to_le_bytes());
    asked.verbs.iter().for_each(|verb| part(verb.to_string().as_bytes()));
    if let Some(target) = asked.target {
        [target.framework, target.pod, target.task].iter().for_each(|name| part(name.as_bytes()));
    }
    part(&(asked.command.len() as u64).to_le_bytes());
    asked.command.iter().for_each(|argument| part(argument.as_bytes()));
    hash.finalize().into()
}
