//! What was granted, and what the audit is told when it ends: on every path, for it is told on drop.

use crate::gate::{Closing, Granted};

/// A session's audit line.
#[derive(Debug)]
pub struct Ledger {
    granted: Option<Granted>,
    /// What it is told.
    pub closing: Closing,
}

impl Ledger {
    /// Of what was granted; told as given up if nothing else is said.
    pub fn new(granted: Granted) -> Self {
        let closing = Closing { reason: "the endpoint gave it up".to_owned(), ..Closing::default() };
        Self { granted: Some(granted), closing }
    }

    /// It ended without having begun.
    pub fn end(mut self, reason: impl Into<String>) {
        self.closing.reason = reason.into();
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        if let Some(granted) = self.granted.take() {
            granted.close(&self.closing);
        }
    }
}
