use hyper::HeaderMap;
use hyper::header::HeaderValue;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::spec::{GrpcProbe, ProbeTls, ProbeTrust};

const SERVING: &[u8] = b"\0\0\0\0\x02\x08\x01";
const NOT_SERVING: &[u8] = b"\0\0\0\0\x02\x08\x02";

fn with_trailers(body: &'static [u8], status: &'static str) -> Response<Body> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static(status));
    let body = Full::new(Bytes::from_static(body)).with_trailers(std::future::ready(Some(Ok(trailers))));
    let mut response = Response::new(body.boxed());
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc+proto"));
    response
}

fn trailers_only(status: &'static str, message: &'static str) -> Response<Body> {
    let mut response = answer(200, "");
    let headers = response.headers_mut();
    headers.insert("content-type", HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", HeaderValue::from_static(status));
    headers.insert("grpc-message", HeaderValue::from_static(message));
    response
}

fn probe(server: &Server, service: &str) -> Probe {
    Probe::Grpc(GrpcProbe { address: server.address, service: service.to_owned(), tls: None })
}

type Reply = fn() -> Response<Body>;

async fn check_of(response: Reply) -> Outcome {
    let server = Server::plain(Version::Http2, handler(move |_| std::future::ready(response()))).await;
    check_once(&probe(&server, "")).await
}

#[tokio::test]
async fn serving_is_a_success() {
    assert_eq!(check_of(|| with_trailers(SERVING, "0")).await, Outcome::Success(Observed::Nothing));
}

#[tokio::test]
async fn the_request_asks_for_the_service() {
    let server = Server::plain(
        Version::Http2,
        handler(async |request: Request<Incoming>| {
            assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
            assert_eq!(request.method(), hyper::Method::POST);
            assert_eq!(request.headers()["content-type"], "application/grpc");
            assert_eq!(request.headers()["te"], "trailers");
            let body = request.into_body().collect().await.expect("a body").to_bytes();
            with_trailers(if body == b"\0\0\0\0\x06\x0a\x04etcd"[..] { SERVING } else { NOT_SERVING }, "0")
        }),
    )
    .await;
    assert_eq!(check_once(&probe(&server, "etcd")).await, Outcome::Success(Observed::Nothing));

    let message = failure(check_once(&probe(&server, "other")).await);
    let port = server.address.port;
    assert_eq!(message, format!("gRPC check of 127.0.0.1:{port} (service \"other\"): not serving"));
}

#[tokio::test]
async fn a_server_without_the_health_protocol_is_a_failure_that_says_so() {
    let message = failure(check_of(|| trailers_only("12", "unknown service grpc.health.v1.Health%21")).await);
    let end = ": gRPC status 12 (unimplemented: the server does not have the gRPC health protocol): \
               unknown service grpc.health.v1.Health!";
    assert!(message.ends_with(end), "{message}");
}

#[tokio::test]
async fn a_bad_answer_is_a_failure_that_says_what_is_wrong() {
    let cases: [(Reply, &str); 8] = [
        (|| with_trailers(NOT_SERVING, "0"), "not serving"),
        (|| with_trailers(b"\0\0\0\0\0", "0"), "does not know how it is"),
        (|| with_trailers(b"\0\0\0\0\x02\x08\x03", "0"), "service unknown"),
        (|| with_trailers(b"\0\0", "0"), "cannot be read"),
        (|| with_trailers(SERVING, "14"), "gRPC status 14 (unavailable)"),
        (|| answer(404, "no such page"), "HTTP status 404: not a gRPC server"),
        (|| answer(200, "hello"), "not a gRPC server"),
        (|| trailers_only("5", ""), "not found"),
    ];
    for (response, words) in cases {
        let message = failure(check_of(response).await);
        assert!(message.contains(words), "{message:?} lacks {words:?}");
    }
}

#[tokio::test]
async fn a_server_that_speaks_something_else_is_a_failure() {
    let (listener, address) = listen(V4).await.expect("IPv4 loopback");
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("accept");
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.expect("write");
        // The client hangs up, with or without an error.
        let _ = stream.read_to_end(&mut Vec::new()).await;
    });
    let probe = Probe::Grpc(GrpcProbe { address, service: String::new(), tls: None });
    let message = failure(check_once(&probe).await);
    assert!(message.contains(": no gRPC answer: http2 error"), "{message}");
    server.await.expect("served");
}

#[tokio::test]
async fn a_server_that_never_answers_is_a_failure_after_the_timeout() {
    let server = Server::plain(Version::Http2, handler(|_| std::future::pending())).await;
    let timeout = Some(Duration::from_millis(50));
    let outcome =
        check(&probe(&server, ""), &surroundings(NoCommands), timeout, &mut TlsCache::default()).await;
    assert!(failure(outcome).ends_with(": timed out after 50ms"));
}

#[tokio::test]
async fn an_endless_answer_is_cut_off() {
    static LONG: [u8; 1 << 20] = [0; 1 << 20];
    let message = failure(check_of(|| with_trailers(&LONG, "0")).await);
    assert!(message.ends_with("too long for a health answer"), "{message}");
}

#[tokio::test]
async fn over_tls_http_2_is_agreed_on() {
    let authority = Authority::new();
    let serving = handler(async |_| with_trailers(SERVING, "0"));
    for protocols in [&[&b"h2"[..]][..], &[]] {
        let acceptor = authority.acceptor(&["127.0.0.1"], None, protocols);
        let server = Server::at(V4, Version::Http2, Some(acceptor), Arc::clone(&serving)).await;
        let server = server.expect("IPv4 loopback");
        let trust = ProbeTrust::Authority { file: authority.ca(), name: None };
        let tls = Some(ProbeTls { trust, client: None });
        let probe = Probe::Grpc(GrpcProbe { address: server.address, service: String::new(), tls });
        assert_eq!(check_once(&probe).await, Outcome::Success(Observed::Nothing));
    }
}

#[tokio::test]
async fn nothing_of_a_check_is_left_running() {
    let server = Server::plain(Version::Http2, handler(|_| std::future::pending())).await;
    let alive = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = alive();
    for _ in 0..10 {
        let timeout = Some(Duration::from_millis(20));
        let around = surroundings(NoCommands);
        failure(check(&probe(&server, ""), &around, timeout, &mut TlsCache::default()).await);
    }
    // What is left then are the server's own tasks, which end when they see that the client is gone.
    let settled = async {
        while alive() > before {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, settled).await.expect("all tasks of the checks have ended");
}
