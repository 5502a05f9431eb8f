//! One request on a connection of its own, over plain HTTP/1.1.

use std::net::SocketAddr;

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Posts JSON. The answer's body may still be coming when this returns.
///
/// # Errors
/// No connection, or it ended before the head of an answer.
pub async fn post(
    server: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
    json: Vec<u8>,
) -> anyhow::Result<Response<Incoming>> {
    let stream = TcpStream::connect(server).await.with_context(|| format!("connect to {server}"))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // Ends with the answer's body.
    tokio::spawn(connection);
    let mut request = Request::post(path)
        .header("Host", server.to_string())
        .header("Content-Type", "application/json")
        .header("Accept", "application/json");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::from(json)))?;
    sender.send_request(request).await.with_context(|| format!("post to http://{server}{path}"))
}

/// The whole body as text.
///
/// # Errors
/// The connection ended early.
pub async fn text(response: Response<Incoming>) -> anyhow::Result<String> {
    let body = response.into_body().collect().await.context("read the body of an answer")?;
    Ok(String::from_utf8_lossy(&body.to_bytes()).into_owned())
}
