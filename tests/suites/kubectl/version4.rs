//! `v4.channel.k8s.io`, which kubectl does not offer, with another client: no half-close of stdin, all else as in the fifth version.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use kube_executor_tests::endpoint::{Client, POD, Stand};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use crate::stage::{NAMESPACE, idle};

/// How long the endpoint may take to say something.
const PATIENCE: Duration = Duration::from_secs(20);

type Socket = WebSocketStream<TlsStream<TcpStream>>;

async fn open(client: &Client, port: u16, query: &str) -> Socket {
    let certificates = |path| -> Vec<_> {
        CertificateDer::pem_file_iter(path)
            .expect("certificates")
            .map(|one| one.expect("a certificate"))
            .collect()
    };
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates(client.trusted()));
    let key = PrivateKeyDer::from_pem_file(&client.pair().key).expect("a key");
    let config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_client_auth_cert(certificates(&client.pair().certificate), key)
        .expect("a certificate with its key");
    let tcp = TcpStream::connect(("127.0.0.1", port)).await.expect("connect");
    let name = ServerName::try_from("localhost").expect("a name");
    let tls = TlsConnector::from(Arc::new(config)).connect(name, tcp).await.expect("a handshake");
    let url = format!(
        "wss://localhost:{port}/api/v1/namespaces/{NAMESPACE}/pods/{POD}/exec?container=peer&{query}"
    );
    let mut request = url.into_client_request().expect("a request");
    let offered = "v4.channel.k8s.io".parse().expect("a header's value");
    request.headers_mut().insert("sec-websocket-protocol", offered);
    let (socket, response) = tokio_tungstenite::client_async(request, tls).await.expect("an upgrade");
    assert_eq!(response.headers()["sec-websocket-protocol"], "v4.channel.k8s.io");
    socket
}

async fn say(socket: &mut Socket, channel: u8, text: &[u8]) {
    socket.send(Message::binary([&[channel], text].concat())).await.expect("say something");
}

/// What was said on stdout and stderr until the status, and the status, behind which there is nothing but the close.
async fn rest(socket: &mut Socket) -> (String, String, Value) {
    let (mut stdout, mut stderr, mut status) = (Vec::new(), Vec::new(), None);
    loop {
        match tokio::time::timeout(PATIENCE, socket.next()).await.expect("a message in time") {
            Some(Ok(Message::Binary(bytes))) => {
                assert!(status.is_none(), "the status is last");
                match bytes.split_first() {
                    Some((1, text)) => stdout.extend_from_slice(text),
                    Some((2, text)) => stderr.extend_from_slice(text),
                    Some((3, text)) => status = Some(serde_json::from_slice(text).expect("a status")),
                    other => panic!("no such channel: {other:?}"),
                }
            }
            Some(Ok(Message::Close(_))) | None => break,
            Some(Ok(_)) => {}
            Some(Err(error)) => panic!("the connection was cut: {error}"),
        }
    }
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (text(stdout), text(stderr), status.expect("a status"))
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_and_the_status_are_as_in_the_fifth_version() {
    let stand = Stand::start([idle("etcd-0-peer")]).await;
    let (client, port) = (stand.endpoint.client("alice", "ops"), stand.endpoint.files().port());
    let query = "command=sh&command=-c&command=read+a%3B+echo+got+$a%3B+echo+err+%3E%262%3B+exit+7&stdin=true&stdout=true&stderr=true";
    let mut socket = open(&client, port, query).await;
    say(&mut socket, 0, b"in\n").await;
    let (stdout, stderr, status) = rest(&mut socket).await;
    assert_eq!((stdout.as_str(), stderr.as_str()), ("got in\n", "err\n"));
    assert_eq!(
        (&status["reason"], &status["details"]["causes"][0]["message"]),
        (&"NonZeroExitCode".into(), &"7".into())
    );
    stand.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fifth_version_s_close_of_stdin_means_nothing_in_the_fourth() {
    let stand = Stand::start([idle("etcd-0-peer")]).await;
    let (client, port) = (stand.endpoint.client("alice", "ops"), stand.endpoint.files().port());
    let query = "command=sh&command=-c&command=read+a%3B+read+b%3B+echo+$a+$b&stdin=true&stdout=true";
    let mut socket = open(&client, port, query).await;
    say(&mut socket, 0, b"one\n").await;
    say(&mut socket, 255, &[0]).await;
    say(&mut socket, 0, b"two\n").await;
    let (stdout, _, status) = rest(&mut socket).await;
    assert_eq!((stdout.as_str(), &status["status"]), ("one two\n", &"Success".into()));
    stand.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_is_resized_in_the_fourth_version_too() {
    let stand = Stand::start([idle("etcd-0-peer")]).await;
    let (client, port) = (stand.endpoint.client("alice", "ops"), stand.endpoint.files().port());
    let query = "command=sh&command=-c&command=stty+size%3B+exit+0&stdin=true&stdout=true&tty=true";
    let mut socket = open(&client, port, query).await;
    say(&mut socket, 4, br#"{"Width":97,"Height":31}"#).await;
    let (stdout, _, status) = rest(&mut socket).await;
    assert_eq!((stdout.trim(), &status["status"]), ("31 97", &"Success".into()));
    stand.end().await;
}
