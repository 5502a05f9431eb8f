//! One subscription: the SUBSCRIBE, then events until the stream ends.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::StatusCode;
use hyper::body::Incoming;
use mesos::executor::{Event, Subscribed};
use mesos::recordio::{Decoder, RecordError};
use serde::de::IgnoredAny;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::{error, warn};

use super::Text;
use super::connection::{AgentAddress, Complaint, ConnectError, Connection, Wants};

/// What a subscription may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Time from the connection to the first event.
    pub(super) opening: Duration,
    /// Time without a byte.
    pub(super) silence: Duration,
    /// Bytes of one record.
    pub(super) record: usize,
}

/// The first event that counts.
#[derive(Debug)]
pub(super) enum Opening {
    /// The agent took the subscription.
    Subscribed(Box<Subscribed>),
    /// It did not: everything is to end.
    Shutdown,
}

/// Why there is no subscription.
#[derive(Debug, thiserror::Error)]
pub(super) enum SubscribeError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("post a SUBSCRIBE")]
    Http(#[from] hyper::Error),
    #[error(transparent)]
    Complaint(#[from] Complaint),
    #[error("wait for SUBSCRIBED")]
    Ended(#[from] StreamEnd),
    #[error("subscribe: no SUBSCRIBED in {0:?}")]
    Timeout(Duration),
}

/// Why a stream of events cannot be read further.
#[derive(Debug, thiserror::Error)]
pub(super) enum StreamEnd {
    #[error("the agent closed the stream of events")]
    Closed,
    #[error("the stream of events broke")]
    Broken(#[source] hyper::Error),
    #[error("the stream of events was silent for {0:?}")]
    Silent(Duration),
    #[error("the stream of events has a malformed record")]
    Framing(#[from] RecordError),
    #[error("the stream of events has a record of {length} bytes that is not json")]
    NotJson { length: usize },
}

impl StreamEnd {
    /// Whether the stream ended by itself; otherwise it is this side that gives it up.
    pub(super) fn by_agent(&self) -> bool {
        matches!(self, Self::Closed | Self::Broken(_))
    }
}

/// A stream of events. Dropped, its connection is closed.
#[derive(Debug)]
pub(super) struct Stream {
    body: Incoming,
    decoder: Decoder,
    heard: Instant,
    silence: Duration,
    _connection: Connection,
}

/// Subscribes with `call`, and waits until the agent has said yes or no.
pub(super) async fn subscribe(
    address: Arc<AgentAddress>,
    call: Bytes,
    limits: Limits,
) -> Result<(Box<Stream>, Opening), SubscribeError> {
    let attempt = timeout(limits.opening, open(&address, call, limits)).await;
    attempt.unwrap_or(Err(SubscribeError::Timeout(limits.opening)))
}

async fn open(
    address: &AgentAddress,
    call: Bytes,
    limits: Limits,
) -> Result<(Box<Stream>, Opening), SubscribeError> {
    let mut connection = address.connect().await?;
    let response = connection.post(call, Wants::Events).await?;
    if response.status() != StatusCode::OK {
        return Err(Complaint::read(response).await.into());
    }
    let mut stream = Box::new(Stream {
        body: response.into_body(),
        decoder: Decoder::new(limits.record),
        heard: Instant::now(),
        silence: limits.silence,
        _connection: connection,
    });
    loop {
        match stream.next().await?.0 {
            Event::Subscribed(subscribed) => return Ok((stream, Opening::Subscribed(subscribed))),
            Event::Shutdown => return Ok((stream, Opening::Shutdown)),
            Event::Error(message) => error!(message, "error from the agent"),
            other => warn!(event = ?std::mem::discriminant(&other), "event before SUBSCRIBED ignored"),
        }
    }
}

impl Stream {
    /// The next event. A record that is JSON but no proper event is logged and passed over. Nothing is lost when this
    /// future is dropped before it is ready.
    ///
    /// # Errors
    /// [`StreamEnd`]; the stream is of no further use.
    pub(super) async fn next(&mut self) -> Result<(Event, Text), StreamEnd> {
        loop {
            while let Some(record) = self.decoder.next()? {
                let (record, text) = repair(&record);
                if let Some(event) = read(&record)? {
                    return Ok((event, text));
                }
            }
            let frame = timeout_at(self.heard + self.silence, self.body.frame()).await;
            match frame.map_err(|_| StreamEnd::Silent(self.silence))? {
                None => return Err(StreamEnd::Closed),
                Some(Err(error)) => return Err(StreamEnd::Broken(error)),
                Some(Ok(frame)) => {
                    self.heard = Instant::now();
                    if let Some(bytes) = frame.data_ref() {
                        self.decoder.extend(bytes);
                    }
                }
            }
        }
    }
}

/// A record as UTF-8. An agent passes on what its framework sent, UTF-8 or not; a string that is not is no reason to lose
/// the event around it.
fn repair(record: &[u8]) -> (Cow<'_, [u8]>, Text) {
    match String::from_utf8_lossy(record) {
        Cow::Borrowed(_) => (Cow::Borrowed(record), Text::AsSent),
        Cow::Owned(repaired) => (Cow::Owned(repaired.into_bytes()), Text::Repaired),
    }
}

fn read(record: &[u8]) -> Result<Option<Event>, StreamEnd> {
    if record.is_empty() {
        return Ok(None);
    }
    match Event::parse(record) {
        Ok(event) => Ok(Some(event)),
        Err(_) if serde_json::from_slice::<IgnoredAny>(record).is_err() => {
            Err(StreamEnd::NotJson { length: record.len() })
        }
        Err(reason) => {
            error!(reason, bytes = record.len(), "event ignored: it cannot be read");
            Ok(None)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_is_json_but_no_event_is_passed_over() {
        assert!(matches!(read(b""), Ok(None)));
        assert!(matches!(read(br#"{"type":"KILL"}"#), Ok(None)));
        assert!(matches!(read(b"[1,2]"), Ok(None)));
        assert!(matches!(read(br#"{"type":"LATER"}"#), Ok(Some(Event::Unknown(_)))));
    }

    #[test]
    fn what_is_not_utf_8_is_replaced_and_the_rest_of_the_event_is_kept() {
        let (record, text) = repair(b"{\"type\":\"ERROR\",\"error\":{\"message\":\"a\xffb\"}}");
        assert_eq!(text, Text::Repaired);
        assert!(matches!(read(&record), Ok(Some(Event::Error(message))) if message == "a\u{fffd}b"));
        assert_eq!(repair("\u{fffd}".as_bytes()).1, Text::AsSent);
    }

    #[test]
    fn a_record_that_is_not_json_ends_the_stream_and_it_is_this_side_that_ends_it() {
        let end = read(br#"{"type":"KI"#).unwrap_err();
        assert!(matches!(end, StreamEnd::NotJson { length: 11 }));
        assert!(!end.by_agent());
        assert!(StreamEnd::Closed.by_agent());
    }
}
