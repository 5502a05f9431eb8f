//! Signals to kubex itself while a session lives.

use std::io;

use hyper::Method;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Left;
use crate::client::{Client, task_path};
use crate::failure::Failure;
use crate::percent::Query;

/// Signals to kubex itself.
#[derive(Debug)]
pub(crate) struct Signals(Vec<(u8, Signal)>);

impl Signals {
    /// None: each does what it always does.
    pub(crate) fn none() -> Self {
        Self(Vec::new())
    }

    /// Those that are passed on.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn forwarded() -> Result<Self, Failure> {
        Self::of(&[(2, SignalKind::interrupt()), (15, SignalKind::terminate())])
    }

    /// Those that would leave the terminal raw.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn all() -> Result<Self, Failure> {
        Self::of(&[
            (1, SignalKind::hangup()),
            (2, SignalKind::interrupt()),
            (3, SignalKind::quit()),
            (15, SignalKind::terminate()),
        ])
    }

    fn of(kinds: &[(u8, SignalKind)]) -> Result<Self, Failure> {
        let listen = |&(number, kind)| signal(kind).map(|signal| (number, signal));
        let signals: io::Result<_> = kinds.iter().map(listen).collect();
        Ok(Self(signals.map_err(|source| Failure::Local { verb: "listen for signals", source })?))
    }

    async fn next(&mut self) -> u8 {
        std::future::poll_fn(|context| {
            for (number, signal) in &mut self.0 {
                if signal.poll_recv(context).is_ready() {
                    return std::task::Poll::Ready(*number);
                }
            }
            std::task::Poll::Pending
        })
        .await
    }
}

/// Forwards the first signal if it can be; any other ends the session.
pub(crate) async fn interrupted(
    client: &Client,
    mut signals: Signals,
    forward: Option<(String, String)>,
) -> Left {
    let first = signals.next().await;
    let Some((task, session)) = forward else {
        return Left::Signal(first);
    };
    let query = Query::default().with("session", session).with("signal", first.to_string());
    let forwarding = async {
        let path = task_path(&task, "signal", query.text());
        let forwarded = match client.connect().await {
            Ok(mut connection) => connection.ask(Method::POST, &path).await.map(drop),
            Err(failure) => Err(failure),
        };
        if let Err(failure) = forwarded {
            crate::output::say(&format!(
                "kubex: signal {first} could not be forwarded; another one ends kubex\n"
            ));
            failure.tell();
        }
        std::future::pending().await
    };
    tokio::select! {
        left = forwarding => left,
        second = signals.next() => Left::Signal(second),
    }
}
