//! Which exec endpoints are connected: statuses carry the address of the one that came last.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The connected exec endpoints, in the order in which they came.
#[derive(Debug, Default)]
pub struct Endpoints(Mutex<Vec<(u64, String)>>);

/// A connected exec endpoint; it has gone when this is dropped.
#[derive(Debug)]
pub struct Connected {
    endpoints: Arc<Endpoints>,
    number: u64,
}

impl Endpoints {
    /// An endpoint that serves at `url` has come.
    pub fn connect(self: Arc<Self>, url: String) -> Connected {
        let number = {
            let mut urls = self.urls();
            let number = urls.last().map_or(0, |(number, _)| number + 1);
            urls.push((number, url));
            number
        };
        Connected { endpoints: self, number }
    }

    /// The address of the one that came last and is still there.
    pub fn latest(&self) -> Option<String> {
        self.urls().last().map(|(_, url)| url.clone())
    }

    fn urls(&self) -> MutexGuard<'_, Vec<(u64, String)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.endpoints.urls().retain(|(number, _)| *number != self.number);
    }
}
