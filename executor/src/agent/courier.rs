//! All calls but SUBSCRIBE: one after the other, on one connection that is kept open.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::{Response, StatusCode};
use tokio::time::timeout;

use super::connection::{AgentAddress, Complaint, ConnectError, Connection, Wants};
use super::outbox::Failure;

/// Why a call was not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("post a call")]
    Http(#[from] hyper::Error),
    #[error("post a call: no answer in {0:?}")]
    Timeout(Duration),
    #[error(transparent)]
    Complaint(#[from] Complaint),
}

impl CallError {
    /// Whether the same call may be taken later.
    pub(super) fn failure(&self) -> Failure {
        match self {
            Self::Complaint(complaint) => judge(complaint.status),
            Self::Connect(_) | Self::Http(_) | Self::Timeout(_) => Failure::Retry,
        }
    }
}

/// 503 comes from an agent that still recovers, 404 from one that has no routes yet, 403 when it waits for a SUBSCRIBE.
fn judge(status: StatusCode) -> Failure {
    match status {
        StatusCode::UNAUTHORIZED
        | StatusCode::FORBIDDEN
        | StatusCode::NOT_FOUND
        | StatusCode::REQUEST_TIMEOUT
        | StatusCode::TOO_MANY_REQUESTS => Failure::Retry,
        status if status.is_client_error() || status == StatusCode::NOT_IMPLEMENTED => Failure::Refusal,
        _ => Failure::Retry,
    }
}

/// Connects, so that the first call need not.
pub(super) async fn warm(address: Arc<AgentAddress>, limit: Duration) -> Result<Connection, CallError> {
    Ok(timeout(limit, address.connect()).await.map_err(|_| CallError::Timeout(limit))??)
}

/// Posts one call and returns the connection for the next. One that was kept and turns out to be closed is replaced once:
/// a call may thus arrive twice.
pub(super) async fn deliver(
    address: Arc<AgentAddress>,
    kept: Option<Connection>,
    call: Bytes,
    limit: Duration,
) -> Result<Connection, CallError> {
    timeout(limit, attempt(&address, kept, call)).await.unwrap_or(Err(CallError::Timeout(limit)))
}

async fn attempt(
    address: &AgentAddress,
    kept: Option<Connection>,
    call: Bytes,
) -> Result<Connection, CallError> {
    if let Some(mut connection) = kept.filter(Connection::is_open)
        && let Ok(response) = connection.post(call.clone(), Wants::Nothing).await
    {
        return settle(connection, response).await;
    }
    let mut connection = address.connect().await?;
    let response = connection.post(call, Wants::Nothing).await?;
    settle(connection, response).await
}

async fn settle(connection: Connection, response: Response<Incoming>) -> Result<Connection, CallError> {
    if !response.status().is_success() {
        return Err(Complaint::read(response).await.into());
    }
    response.into_body().collect().await?;
    Ok(connection)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_wrong_with_the_call_itself_is_a_refusal() {
        for (status, expected) in [
            (400, Failure::Refusal),
            (405, Failure::Refusal),
            (413, Failure::Refusal),
            (415, Failure::Refusal),
            (501, Failure::Refusal),
            (307, Failure::Retry),
            (401, Failure::Retry),
            (403, Failure::Retry),
            (404, Failure::Retry),
            (500, Failure::Retry),
            (503, Failure::Retry),
        ] {
            assert_eq!(judge(StatusCode::from_u16(status).unwrap()), expected, "{status}");
        }
    }
}
