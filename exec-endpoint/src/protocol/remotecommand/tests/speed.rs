//! Measured by hand, in release: `cargo test --release -p exec-endpoint -- --ignored --nocapture --test-threads 1 measure`.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio_rustls::rustls::pki_types::{PrivatePkcs8KeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned};

use super::stand::{Stand, caller, exec_path};
use crate::protocol::tasks;

const AMOUNT: usize = 100 << 20;

struct Tls {
    port: u16,
    client: Arc<ClientConfig>,
}

type Wire = StreamOwned<ClientConnection, TcpStream>;

/// An endpoint behind TLS on a thread of its own; it lives as long as the process.
fn serve() -> Tls {
    let key = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let certificate = key.cert.der().clone();
    let private = PrivatePkcs8KeyDer::from(key.signing_key.serialize_der());
    let server = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], private.into());
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let client = Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth());
    let (sender, port) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let stand = Stand::new().await;
            let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server.unwrap()));
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            sender.send(listener.local_addr().unwrap().port()).unwrap();
            while let Ok((stream, peer)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                let (acceptor, endpoint) = (acceptor.clone(), stand.endpoint.clone());
                tokio::spawn(async move {
                    let stream = acceptor.accept(stream).await.unwrap();
                    let service = service_fn(move |request| {
                        let answer = tasks::handle(endpoint.clone(), caller(peer), request);
                        async move { Ok::<_, std::convert::Infallible>(answer.await) }
                    });
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .with_upgrades()
                        .await;
                });
            }
        });
    });
    Tls { port: port.recv().unwrap(), client }
}

impl Tls {
    fn connect(&self) -> Wire {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_nodelay(true).unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let mut wire = StreamOwned::new(ClientConnection::new(self.client.clone(), name).unwrap(), stream);
        while wire.conn.is_handshaking() {
            wire.conn.complete_io(&mut wire.sock).unwrap();
        }
        wire
    }

    fn open(&self, mut wire: Wire, command: &[&str], query: &str) -> Wire {
        let path = exec_path(command, query);
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
             sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-protocol: v5.channel.k8s.io\r\n\r\n"
        );
        wire.write_all(request.as_bytes()).unwrap();
        let (mut head, mut byte) = (vec![], [0]);
        while !head.ends_with(b"\r\n\r\n") {
            wire.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        assert!(head.starts_with(b"HTTP/1.1 101"));
        wire
    }
}

fn rate(started: Instant) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let bytes = AMOUNT as f64;
    bytes / 1e6 / started.elapsed().as_secs_f64()
}

#[test]
#[ignore = "a measurement"]
#[expect(clippy::print_stdout, reason = "a measurement")]
fn measure() {
    let tls = serve();
    for _ in 0..5 {
        let started = Instant::now();
        let mut wire = tls.open(tls.connect(), &["head", "-c", &AMOUNT.to_string(), "/dev/zero"], "");
        let (mut buffer, mut all) = (vec![0; 256 << 10], 0);
        while all < AMOUNT {
            all += wire.read(&mut buffer).unwrap();
        }
        println!("output: {:.0} MB/s", rate(started));
    }
    for _ in 0..5 {
        let mut wire = tls.open(tls.connect(), &["sh", "-c", "cat >/dev/null; echo"], "stdin=true");
        let mut frame = vec![0x82, 0x80 | 127];
        frame.extend(((64_u64 << 10) + 1).to_be_bytes());
        frame.extend([1, 2, 3, 4]);
        frame.push(1);
        frame.resize(frame.len() + (64 << 10), 7);
        let started = Instant::now();
        for _ in 0..AMOUNT / (64 << 10) {
            wire.write_all(&frame).unwrap();
        }
        wire.write_all(&[0x82, 0x82, 0, 0, 0, 0, 255, 0]).unwrap();
        let mut first = [0; 4];
        wire.read_exact(&mut first).unwrap();
        println!("input: {:.0} MB/s", rate(started));
    }
    let mut times: Vec<Duration> = (0..50)
        .map(|_| {
            std::thread::park_timeout(Duration::from_millis(20));
            let wire = tls.connect();
            let started = Instant::now();
            let mut wire = tls.open(wire, &["echo", "x"], "");
            wire.read_exact(&mut [0; 5]).unwrap();
            started.elapsed()
        })
        .collect();
    times.sort();
    println!("first byte: median {:?}, best {:?}", times[25], times[0]);
}

/// Resident memory of this process in kB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
#[ignore = "a measurement"]
#[expect(clippy::print_stdout, reason = "a measurement")]
fn measure_memory_of_idle_sessions() {
    let tls = serve();
    let _warm = tls.open(tls.connect(), &["@silent"], "stdin=true");
    for terminals in ["stdin=true", ""] {
        // The client's side of a connection is measured without a session, and taken off; the executor's is not.
        let before = resident();
        let connections: Vec<Wire> = (0..200).map(|_| tls.connect()).collect();
        let connected = resident();
        let wires: Vec<Wire> =
            connections.into_iter().map(|wire| tls.open(wire, &["@silent"], terminals)).collect();
        std::thread::park_timeout(Duration::from_millis(500));
        let all = resident();
        println!(
            "idle: both ends of TLS {} kB a connection; with a session (fake executor's side included) {} kB in all",
            (connected - before) / 200,
            (all - before) / 200
        );
        drop(wires);
    }
}
