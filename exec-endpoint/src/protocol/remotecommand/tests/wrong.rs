use futures_util::SinkExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_tungstenite::tungstenite::protocol::Message;

use super::stand::{Stand, exec_path};

const UPGRADE: &str = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                       sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

#[tokio::test]
async fn every_wrong_request_is_answered_with_a_status() {
    let stand = Stand::new().await;
    let good = exec_path(&["true"], "");
    let offer = format!("{UPGRADE}sec-websocket-protocol: v5.channel.k8s.io\r\n");
    let spdy = "connection: upgrade\r\nupgrade: SPDY/3.1\r\ncontent-length: 0\r\n";
    let other = format!("{UPGRADE}connection: close\r\nsec-websocket-protocol: channel.k8s.io\r\n");
    let cases = [
        ("GET", good.replace("etcd-0-peer", "nobody"), offer.as_str(), 404, "no task"),
        ("GET", good.replace("exec?", "what?"), "", 404, "there is no"),
        ("GET", good.replace("etcd-0-peer", "%zz"), "", 400, "percent"),
        ("GET", good.replace("command=", "x="), offer.as_str(), 400, "no command"),
        ("GET", good.clone(), "", 400, "Upgrade request required"),
        ("POST", good.clone(), "", 405, "GET"),
        ("GET", good.clone(), other.as_str(), 400, "v5.channel.k8s.io"),
        ("POST", good.clone(), spdy, 400, "use WebSocket"),
        ("GET", "/kubex/v1/tasks/etcd-0-peer/signal?signal=1".into(), "", 405, "POST"),
        ("POST", "/kubex/v1/tasks/etcd-0-peer/signal?signal=x".into(), "", 400, "no signal"),
        ("DELETE", "/kubex/v1/tasks".into(), "", 405, "GET"),
        ("GET", "/kubex/".into(), "", 404, "there is no"),
    ];
    for (method, path, headers, code, sentence) in cases {
        let closing =
            if headers.is_empty() { String::new() } else { format!("connection: close\r\n{headers}") };
        let (status, body) = stand.plain(method, &path, &closing).await;
        let message = body["message"].as_str().unwrap_or_default();
        assert!(status == code && message.contains(sentence), "{method} {path}: {status} {body}");
        assert_eq!((&body["kind"], &body["code"]), (&"Status".into(), &code.into()));
    }
    assert_eq!(stand.endpoint.registry.living(), 0);
}

#[tokio::test]
async fn tasks_are_listed_with_what_they_use() {
    let stand = Stand::new().await;
    let (status, body) = stand.plain("GET", "/kubex/v1/tasks", "").await;
    assert_eq!((status, &body[0]["name"]), (200, &"etcd-0".into()));
    assert_eq!(body[0]["tasks"][0]["usage"]["processes"], 3);
}

/// Frames as they lie on the wire, masked with zeros.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first, 0x80 | 126];
    bytes.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes
}

#[tokio::test]
async fn wrong_frames_end_the_session_with_a_status_and_a_code_and_nothing_hangs() {
    let stand = Stand::new().await;
    let too_long = [&[0x82, 0xff][..], &(2_u64 << 20).to_be_bytes(), &[0; 4]].concat();
    let cases = [
        (vec![0x82, 1, 0, 0, 0, 0, 0], 1002_u16),
        (frame(0xc2, b"x"), 1002),
        (frame(0x83, b"x"), 1002),
        (frame(0x80, b"x"), 1002),
        (frame(0x09, b"x"), 1002),
        (frame(0x88, b"x"), 1002),
        (too_long, 1009),
    ];
    for (bytes, code) in cases {
        let mut client = stand.exec(&["@silent"], "stdin=true").await;
        client.stream.get_mut().write_all(&bytes).await.unwrap();
        let outcome = client.outcome().await;
        assert_eq!(
            (outcome.reason(), outcome.close.as_ref().unwrap().0),
            ("ProtocolError", code),
            "{bytes:02x?}"
        );
    }
    stand.empty().await;
    assert_eq!(stand.executor.seen.lock().unwrap().given_up, 7);
}

#[tokio::test]
async fn messages_without_sense_are_ignored_and_text_is_read_as_what_it_says() {
    let stand = Stand::new().await;
    let mut client = stand.exec(&["cat"], "stdin=true").await;
    for (channel, payload) in
        [(1, &b"x"[..]), (3, b"{}"), (4, b"nonsense"), (4, b""), (99, b"x"), (255, b"\x01"), (255, b"")]
    {
        client.send(channel, payload).await;
    }
    client.stream.send(Message::binary(vec![])).await.unwrap();
    client.stream.send(Message::Ping(b"p".to_vec().into())).await.unwrap();
    client.stream.send(Message::text("\0as text")).await.unwrap();
    client.send(255, &[0]).await;
    let outcome = client.outcome().await;
    assert_eq!((outcome.text(), outcome.code()), ("as text", Some(0)));
}

#[tokio::test]
async fn the_fourth_version_has_no_half_close() {
    let stand = Stand::new().await;
    let mut client = stand.open(&exec_path(&["head", "-c2"], "stdin=true"), super::stand::V4).await;
    client.send(255, &[0]).await;
    client.send(0, b"ok").await;
    assert_eq!(client.outcome().await.text(), "ok");
}

#[tokio::test]
async fn a_client_that_closes_is_answered_and_its_process_killed() {
    let stand = Stand::new().await;
    let mut client = stand.exec(&["sleep", "1000"], "stdin=true").await;
    client.stream.close(None).await.unwrap();
    let outcome = client.outcome().await;
    assert!(outcome.status.is_none() && outcome.close.is_some());
    stand.empty().await;
}

#[tokio::test]
async fn a_connection_that_ends_amid_anything_is_no_session_any_more() {
    let stand = Stand::new().await;
    let path = exec_path(&["sleep", "1000"], "stdin=true&tty=true");
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: x\r\n{UPGRADE}sec-websocket-protocol: v5.channel.k8s.io\r\n\r\n"
    );
    for extra in [&[][..], &[0x82], &[0x82, 0xfe, 0], &[0x82, 0x85, 1, 2, 3, 4, 5]] {
        let mut stream = tokio::net::TcpStream::connect(stand.address).await.unwrap();
        stream.write_all(&[request.as_bytes(), extra].concat()).await.unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer[9..], b"101");
    }
    stand.empty().await;
}
