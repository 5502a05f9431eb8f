use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use hyper::body::Frame;
use nix::sys::resource::{UsageWho, getrusage};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// Takes one connection, reads a request's head, writes `reply`, and returns the head.
async fn raw_server(ip: IpAddr, reply: &'static [u8]) -> Option<(Address, tokio::task::JoinHandle<String>)> {
    let (listener, address) = listen(ip).await?;
    let task = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("accept");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.expect("a request"));
        }
        stream.write_all(reply).await.expect("write");
        String::from_utf8(head).expect("text")
    });
    Some((address, task))
}

#[tokio::test]
async fn the_request_on_the_wire() {
    for (ip, host) in [(V4, "127.0.0.1"), (V6, "[::1]")] {
        let reply = b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n";
        let Some((address, server)) = raw_server(ip, reply).await else {
            continue;
        };
        let mut probe = http_probe(address);
        probe.path = "/healthz?all=1".to_owned();
        probe.headers =
            [("X-Token", "t"), ("accept", "text/plain")].map(|(k, v)| (k.into(), v.into())).into();
        assert_eq!(check_once(&Probe::Http(probe)).await, Outcome::Success(Observed::StatusCode(204)));

        let head = server.await.expect("served");
        let mut lines: Vec<&str> = head.trim_end().split("\r\n").collect();
        assert_eq!(lines.remove(0), "GET /healthz?all=1 HTTP/1.1");
        lines.sort_unstable();
        let expected = [
            "accept: text/plain",
            "connection: close",
            &format!("host: {host}:{}", address.port),
            "user-agent: kube-executor",
            "x-token: t",
        ];
        assert_eq!(lines, expected);
    }
}

#[tokio::test]
async fn a_host_header_that_is_given_wins() {
    let (address, server) =
        raw_server(V4, b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.expect("IPv4 loopback");
    let mut probe = http_probe(address);
    probe.headers = [("Host".to_owned(), "example.test".to_owned())].into();
    assert_eq!(check_once(&Probe::Http(probe)).await, Outcome::Success(Observed::StatusCode(200)));
    assert!(server.await.expect("served").contains("\r\nhost: example.test\r\n"));
}

#[tokio::test]
async fn a_bad_status_is_a_failure_that_quotes_the_body() {
    let server = Server::plain(Version::Http1, handler(async |_| answer(503, "etcd: no leader\n"))).await;
    let message = format!(
        "HTTP check of http://127.0.0.1:{}/healthz: status 503: etcd: no leader",
        server.address.port
    );
    let expected = Outcome::Failure { message, observed: Observed::StatusCode(503) };
    assert_eq!(check_once(&Probe::Http(http_probe(server.address))).await, expected);
}

#[tokio::test]
async fn a_redirect_is_a_success_and_not_followed() {
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&requests);
    let server = Server::plain(
        Version::Http1,
        handler(move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
            let mut response = answer(302, "");
            response.headers_mut().insert("location", "/elsewhere".parse().expect("a header"));
            std::future::ready(response)
        }),
    )
    .await;
    let outcome = check_once(&Probe::Http(http_probe(server.address))).await;
    assert_eq!(outcome, Outcome::Success(Observed::StatusCode(302)));
    assert_eq!(requests.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn statuses_that_are_given_are_the_only_good_ones() {
    for (status, good) in [(404, true), (200, false)] {
        let server =
            Server::plain(Version::Http1, handler(move |_| std::future::ready(answer(status, "")))).await;
        let mut probe = http_probe(server.address);
        probe.statuses = vec![404];
        let outcome = check_once(&Probe::Http(probe)).await;
        assert_eq!(matches!(outcome, Outcome::Success(_)), good, "{outcome:?}");
    }
}

#[tokio::test]
async fn no_more_than_10_kib_of_a_huge_body_are_quoted() {
    let server = Server::plain(Version::Http1, handler(async |_| answer(500, vec![b'#'; 8 << 20]))).await;
    let message = failure(check_once(&Probe::Http(http_probe(server.address))).await);
    assert_eq!(message.matches('#').count(), 10 * 1024);
}

/// A body that begins and never ends.
struct Endless {
    beginning: Option<Bytes>,
}

impl hyper::body::Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.beginning.take().map_or(Poll::Pending, |data| Poll::Ready(Some(Ok(Frame::data(data)))))
    }
}

fn endless(status: u16) -> Response<Body> {
    let mut response = answer(status, "");
    *response.body_mut() = Endless { beginning: Some(Bytes::from_static(b"so far")) }.boxed();
    response
}

#[tokio::test]
async fn the_body_of_a_good_answer_is_not_read() {
    let server = Server::plain(Version::Http1, handler(async |_| endless(200))).await;
    let outcome = check_once(&Probe::Http(http_probe(server.address))).await;
    assert_eq!(outcome, Outcome::Success(Observed::StatusCode(200)));
}

#[tokio::test]
async fn a_body_that_never_ends_does_not_take_the_status_away() {
    let server = Server::plain(Version::Http1, handler(async |_| endless(500))).await;
    let probe = Probe::Http(http_probe(server.address));
    let timeout = Some(Duration::from_millis(500));
    let outcome = check(&probe, &surroundings(NoCommands), timeout, &mut TlsCache::default()).await;
    let Outcome::Failure { message, observed } = outcome else { panic!("{outcome:?}") };
    assert_eq!(observed, Observed::StatusCode(500));
    assert!(message.ends_with("status 500: so far"), "{message}");
}

#[tokio::test]
async fn a_server_that_never_answers_is_a_failure_after_the_timeout() {
    let server = Server::plain(Version::Http1, handler(|_| std::future::pending())).await;
    let probe = Probe::Http(http_probe(server.address));
    let timeout = Some(Duration::from_millis(50));
    let outcome = check(&probe, &surroundings(NoCommands), timeout, &mut TlsCache::default()).await;
    let message =
        format!("HTTP check of http://127.0.0.1:{}/healthz: timed out after 50ms", server.address.port);
    assert_eq!(outcome, Outcome::Failure { message, observed: Observed::Nothing });
}

#[tokio::test]
async fn what_is_wrong_with_an_answer_is_told() {
    let address = closed_port(V4).await.expect("IPv4 loopback");
    let message = failure(check_once(&Probe::Http(http_probe(address))).await);
    assert!(message.ends_with("/healthz: connection refused"), "{message}");

    for (reply, words) in [(&b""[..], "connection closed"), (b"SSH-2.0-OpenSSH\r\n\r\n", "invalid HTTP")] {
        let (address, server) = raw_server(V4, reply).await.expect("IPv4 loopback");
        let message = failure(check_once(&Probe::Http(http_probe(address))).await);
        assert!(message.contains(words), "{message}");
        server.await.expect("served");
    }
}

#[tokio::test]
async fn a_header_that_cannot_be_sent_is_a_failure_that_names_it() {
    let address = closed_port(V4).await.expect("IPv4 loopback");
    let mut probe = http_probe(address);
    probe.headers = [("X-Token".to_owned(), "a\nb".to_owned())].into();
    let message = failure(check_once(&Probe::Http(probe)).await);
    assert!(message.contains("header x-token"), "{message}");
}

/// Prints what a check costs; not a test of it, since the machine is shared.
#[test]
fn cpu_time_of_checks() {
    const CHECKS: u32 = 200;
    let authority = Authority::new();
    let acceptor = authority.acceptor(&["127.0.0.1"], None, &[]);
    // The server has a thread of its own, so that this one's time is the client's.
    let (ready, addresses) = std::sync::mpsc::channel();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let fine = handler(async |_| answer(200, "ok"));
            let plain = Server::plain(Version::Http1, Arc::clone(&fine)).await;
            let tls = Server::at(V4, Version::Http1, Some(acceptor), fine).await.expect("IPv4 loopback");
            ready.send([plain.address, tls.address]).expect("the test waits");
            stopped.await.expect("the test stops it");
        });
    });
    let [plain, tls] = addresses.recv().expect("the server is up");

    let https = crate::spec::ProbeTls {
        trust: crate::spec::ProbeTrust::Authority { file: authority.ca(), name: None },
        client: None,
    };
    let probes = [
        ("HTTP", Probe::Http(http_probe(plain))),
        ("HTTPS", Probe::Http(HttpProbe { tls: Some(https), ..http_probe(tls) })),
        ("TCP", Probe::Tcp(plain)),
    ];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    for (name, probe) in probes {
        let mut cache = TlsCache::default();
        let surroundings = surroundings(NoCommands);
        let before = cpu_time();
        runtime.block_on(async {
            for _ in 0..CHECKS {
                let outcome = check(&probe, &surroundings, Some(PATIENCE), &mut cache).await;
                assert!(matches!(outcome, Outcome::Success(_)), "{outcome:?}");
            }
        });
        eprintln!("{name} check: {:?} of CPU time each", (cpu_time() - before) / CHECKS);
    }
    stop.send(()).expect("the server runs");
    server.join().expect("the server ends");
}

fn cpu_time() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_THREAD).expect("getrusage");
    let micros = [usage.user_time(), usage.system_time()]
        .map(|time| u64::try_from(time.tv_sec() * 1_000_000 + time.tv_usec()).expect("not negative"));
    Duration::from_micros(micros.iter().sum())
}
