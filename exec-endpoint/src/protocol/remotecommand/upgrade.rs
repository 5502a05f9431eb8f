//! Whether a request may become a WebSocket, and the answer that makes it one (RFC 6455, 4.2).

use http_body_util::{BodyExt as _, Empty};
use hyper::header::{
    CONNECTION, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::{Method, Response, StatusCode, Version as HttpVersion};
use hyper_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::endpoint::Body;

/// The header of the answer that names the session.
pub const SESSION: HeaderName = HeaderName::from_static("kubex-session");

/// The version of Kubernetes' remotecommand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// `v4.channel.k8s.io`: the status is an object.
    V4,
    /// `v5.channel.k8s.io`: a channel can be closed.
    V5,
}

impl Version {
    fn name(self) -> &'static str {
        match self {
            Self::V4 => "v4.channel.k8s.io",
            Self::V5 => "v5.channel.k8s.io",
        }
    }
}

/// What a request wants to become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upgrade {
    /// A WebSocket.
    WebSocket {
        /// The better of the versions that are offered.
        version: Version,
        /// The proof that this is the answer to this request.
        accept: String,
    },
    /// What kubectl tries when it was refused a WebSocket: gets the same verdict.
    Spdy,
}

/// A request that cannot become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoUpgrade {
    /// Not a GET.
    #[error("a session is opened with GET and Upgrade: websocket")]
    Method,
    /// HTTP/2 has no upgrade.
    #[error("a session needs HTTP/1.1: do not offer h2 for it")]
    Http2,
    /// It does not ask for it.
    #[error(
        "Upgrade request required: a session needs the headers Connection: Upgrade and Upgrade: websocket"
    )]
    NotAsked,
    /// It is not the protocol's last version.
    #[error("Sec-WebSocket-Version must be 13")]
    OldVersion,
    /// No key, or not 16 bytes in base64.
    #[error("Sec-WebSocket-Key must be 16 bytes in base64")]
    Key,
    /// None that is spoken here.
    #[error("Sec-WebSocket-Protocol must offer v5.channel.k8s.io or v4.channel.k8s.io")]
    Subprotocol,
}

impl NoUpgrade {
    /// The status of its answer, and Kubernetes' reason.
    pub fn status(self) -> (StatusCode, &'static str) {
        match self {
            Self::Method => (StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed"),
            _ => (StatusCode::BAD_REQUEST, "BadRequest"),
        }
    }
}

/// Reads what a request wants to become. Pure.
///
/// # Errors
/// [`NoUpgrade`]: the sentence for the client.
pub fn read(method: &Method, http: HttpVersion, headers: &HeaderMap) -> Result<Upgrade, NoUpgrade> {
    if http == HttpVersion::HTTP_2 {
        return Err(NoUpgrade::Http2);
    }
    let asked = has(headers, &CONNECTION, "upgrade");
    if asked && has(headers, &UPGRADE, "SPDY/3.1") {
        return Ok(Upgrade::Spdy);
    }
    if method != Method::GET {
        return Err(NoUpgrade::Method);
    }
    if !asked || !has(headers, &UPGRADE, "websocket") {
        return Err(NoUpgrade::NotAsked);
    }
    if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(NoUpgrade::OldVersion);
    }
    let key = headers.get(SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes).unwrap_or_default();
    if key.len() != 24 || !key.ends_with(b"==") || !key[..22].iter().all(|byte| is_base64(*byte)) {
        return Err(NoUpgrade::Key);
    }
    let offered = |version: Version| has(headers, &SEC_WEBSOCKET_PROTOCOL, version.name());
    let version = [Version::V5, Version::V4].into_iter().find(|&version| offered(version));
    let version = version.ok_or(NoUpgrade::Subprotocol)?;
    Ok(Upgrade::WebSocket { version, accept: derive_accept_key(key) })
}

/// The answer that makes it a WebSocket.
pub fn accepted(version: Version, accept: &str, session: &str) -> Response<Body> {
    let mut response = Response::new(Empty::new().map_err(|never| match never {}).boxed());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(version.name()));
    for (name, value) in [(SEC_WEBSOCKET_ACCEPT, accept), (SESSION, session)] {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    }
    response
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/'
}

/// Whether a header that lists words has this one.
fn has(headers: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    let words =
        headers.get_all(name).into_iter().flat_map(|value| value.as_bytes().split(|&byte| byte == b','));
    words.map(<[u8]>::trim_ascii).any(|one| one.eq_ignore_ascii_case(word.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: [(&str, &str); 5] = [
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "WebSocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-protocol", "v4.channel.k8s.io, v5.channel.k8s.io"),
    ];

    fn read_with(name: &str, value: Option<&str>) -> Result<Upgrade, NoUpgrade> {
        let mut headers = HeaderMap::new();
        for (key, good) in GOOD {
            if let Some(value) = if key == name { value } else { Some(good) } {
                headers.insert(HeaderName::from_static(key), HeaderValue::from_str(value).unwrap());
            }
        }
        read(&Method::GET, HttpVersion::HTTP_11, &headers)
    }

    #[test]
    fn the_better_version_is_chosen_and_the_key_answered_as_the_rfcs_example() {
        let accept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".to_owned();
        assert_eq!(
            read_with("", None),
            Ok(Upgrade::WebSocket { version: Version::V5, accept: accept.clone() })
        );
        let old = read_with("sec-websocket-protocol", Some("v4.channel.k8s.io"));
        assert_eq!(old, Ok(Upgrade::WebSocket { version: Version::V4, accept }));
    }

    #[test]
    fn every_missing_or_wrong_header_is_told() {
        for (name, error) in [
            ("connection", NoUpgrade::NotAsked),
            ("upgrade", NoUpgrade::NotAsked),
            ("sec-websocket-version", NoUpgrade::OldVersion),
            ("sec-websocket-key", NoUpgrade::Key),
            ("sec-websocket-protocol", NoUpgrade::Subprotocol),
        ] {
            assert_eq!(read_with(name, None), Err(error));
            assert_eq!(read_with(name, Some("other")), Err(error));
        }
        assert_eq!(read_with("upgrade", Some("SPDY/3.1")), Ok(Upgrade::Spdy));
        let none = HeaderMap::new();
        assert_eq!(read(&Method::POST, HttpVersion::HTTP_11, &none), Err(NoUpgrade::Method));
        assert_eq!(read(&Method::GET, HttpVersion::HTTP_2, &none), Err(NoUpgrade::Http2));
    }
}
