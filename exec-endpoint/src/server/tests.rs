use std::path::Path;
use std::sync::Arc;

use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls_pki_types::{PrivateKeyDer, ServerName};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinHandle;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsConnector, rustls};

use super::*;
use crate::config::ConnectionLimits;
use crate::inventory::{FolderState, Inventory};
use crate::metrics::{Kind, Requests};
use crate::tls::TlsFiles;

/// Nothing in these tests takes as long.
const SOON: Duration = Duration::from_secs(30);
const BRIEF: Duration = Duration::from_millis(200);

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: rcgen::Certificate,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "authority");
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    fn issue(&self, user: &str, usage: ExtendedKeyUsagePurpose) -> (rcgen::Certificate, KeyPair) {
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, user);
        params.extended_key_usages.push(usage);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    /// Writes a new certificate and key for the server.
    fn write_pair(&self, folder: &Path) {
        let (certificate, key) = self.issue("server", ExtendedKeyUsagePurpose::ServerAuth);
        std::fs::write(folder.join("certificate"), certificate.pem()).unwrap();
        std::fs::write(folder.join("key"), key.serialize_pem()).unwrap();
    }
}

/// A server on a port of its own.
struct Stage {
    address: SocketAddr,
    authority: Authority,
    folder: TempDir,
    tls: Arc<Tls>,
    endpoint: Arc<Endpoint>,
    drain: watch::Sender<bool>,
    tell_folder: watch::Sender<FolderState>,
    _inventory: watch::Sender<Arc<Inventory>>,
    running: JoinHandle<Drained>,
}

fn limits() -> ConnectionLimits {
    let most = NonZeroUsize::new(64).unwrap();
    ConnectionLimits { most, handshake: SOON, header: SOON, dead_after: Duration::from_secs(45) }
}

impl Stage {
    async fn start(limits: ConnectionLimits) -> Self {
        let (authority, folder) = (Authority::new(), TempDir::new().unwrap());
        let file = |name: &str| folder.path().join(name);
        authority.write_pair(folder.path());
        std::fs::write(file("ca"), authority.certificate.pem()).unwrap();
        let files =
            TlsFiles { certificate: file("certificate"), key: file("key"), client_ca: Some(file("ca")) };
        let tls = Arc::new(Tls::load(files).unwrap());
        let (tell_folder, folder_state) = watch::channel(FolderState::Unknown);
        let (inventory_sender, inventory) = watch::channel(Arc::default());
        let (endpoint, drain) = Endpoint::allowing_everything(inventory);
        let endpoint = Arc::new(Endpoint { folder: folder_state, ..endpoint });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Server { listener, tls: tls.clone(), endpoint: endpoint.clone(), limits };
        let running = tokio::spawn(server.run());
        Self {
            address,
            authority,
            folder,
            tls,
            endpoint,
            drain,
            tell_folder,
            _inventory: inventory_sender,
            running,
        }
    }

    async fn tcp(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn tls(&self, user: Option<&str>, protocol: &[u8]) -> TlsStream<TcpStream> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.authority.certificate.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
        let mut config = match user {
            None => builder.with_no_client_auth(),
            Some(user) => {
                let (certificate, key) = self.authority.issue(user, ExtendedKeyUsagePurpose::ClientAuth);
                let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
                builder.with_client_auth_cert(vec![certificate.der().clone()], key).unwrap()
            }
        };
        config.alpn_protocols = vec![protocol.to_vec()];
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, self.tcp().await).await.unwrap()
    }

    /// The answer to one request, whole.
    async fn ask(&self, user: Option<&str>, request: &str) -> String {
        let mut stream = self.tls(user, b"http/1.1").await;
        stream.write_all(request.as_bytes()).await.unwrap();
        to_end(&mut stream).await
    }

    async fn get(&self, user: Option<&str>, path: &str) -> String {
        self.ask(user, &format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")).await
    }

    fn failures(&self, kind: &'static str) -> u64 {
        self.endpoint.metrics.handshake_failures.get_or_create(&Kind { kind }).get()
    }

    /// Waits until all connections are gone.
    async fn quiet(&self) {
        let gone = async {
            while self.endpoint.metrics.connections.get() > 0 {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(SOON, gone).await.expect("all connections end");
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.running.abort();
    }
}

/// One answer of `/healthz`, and no byte more.
async fn one_ok(stream: &mut (impl tokio::io::AsyncRead + Unpin)) {
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\nok\n") {
        assert_ne!(timeout(SOON, stream.read_buf(&mut answer)).await.unwrap().unwrap(), 0);
    }
}

/// All that comes until the other end closes, however it does.
async fn to_end(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut bytes = Vec::new();
    let _ = timeout(SOON, stream.read_to_end(&mut bytes)).await.expect("it is closed");
    String::from_utf8_lossy(&bytes).into_owned()
}

#[tokio::test]
async fn health_is_for_anybody_and_readiness_says_what_is_missing() {
    let stage = Stage::start(limits()).await;
    for path in ["/healthz", "/livez"] {
        assert!(stage.get(None, path).await.starts_with("HTTP/1.1 200"), "{path}");
    }
    let unready = stage.get(None, "/readyz").await;
    assert!(unready.starts_with("HTTP/1.1 503") && unready.contains("not been read yet"), "{unready}");
    stage.tell_folder.send_replace(FolderState::Unreadable("read /x: gone".to_owned()));
    assert!(stage.get(None, "/readyz").await.contains("read /x: gone"));
    stage.tell_folder.send_replace(FolderState::Readable);
    assert!(stage.get(None, "/readyz").await.starts_with("HTTP/1.1 200"));
    let posted = "POST /healthz HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    assert!(stage.ask(None, posted).await.starts_with("HTTP/1.1 405"));
    stage.quiet().await;
}

#[tokio::test]
async fn who_is_not_known_gets_a_status_and_is_told_how_to_be() {
    let stage = Stage::start(limits()).await;
    for path in ["/metrics", "/api/v1/pods", "/kubex/v1/tasks", "/slave(1)/api/v1"] {
        let answer = stage.get(None, path).await;
        assert!(answer.starts_with("HTTP/1.1 401"), "{path}: {answer}");
        assert!(answer.contains("www-authenticate: Bearer") && answer.contains("\"kind\":\"Status\""));
    }
    let requests = &stage.endpoint.metrics.requests;
    assert_eq!(requests.get_or_create(&Requests { route: "mesos", code: 401 }).get(), 1);
}

#[tokio::test]
async fn who_has_a_certificate_reads_metrics() {
    let stage = Stage::start(limits()).await;
    let answer = stage.get(Some("ann"), "/metrics").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("exec_endpoint_connections 1") && answer.trim_end().ends_with("# EOF"));
    assert!(stage.get(Some("ann"), "/nothing").await.starts_with("HTTP/1.1 404"));
}

#[tokio::test]
async fn requests_follow_each_other_in_one_connection() {
    let stage = Stage::start(limits()).await;
    let mut stream = stage.tls(None, b"http/1.1").await;
    for _ in 0..3 {
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        one_ok(&mut stream).await;
    }
    assert_eq!(stage.endpoint.metrics.accepted.get(), 1);
}

#[tokio::test]
async fn a_plain_call_may_be_h2() {
    let stage = Stage::start(limits()).await;
    let stream = stage.tls(Some("ann"), b"h2").await;
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let calls = ["/healthz", "/metrics"].map(|path| {
        let uri = format!("https://localhost{path}");
        sender.send_request(hyper::Request::get(uri).body(Empty::<bytes::Bytes>::new()).unwrap())
    });
    for call in calls {
        let answer = timeout(SOON, call).await.unwrap().unwrap();
        assert_eq!(answer.status(), 200);
        assert!(!answer.into_body().collect().await.unwrap().to_bytes().is_empty());
    }
    drop(sender);
    connection.await.unwrap().unwrap();
    stage.quiet().await;
}

#[tokio::test]
async fn a_header_that_is_too_large_or_too_long_is_431() {
    let stage = Stage::start(limits()).await;
    let large = format!("GET /healthz HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "x".repeat(65 << 10));
    assert!(stage.ask(None, &large).await.starts_with("HTTP/1.1 431"));
    let lines = "x: y\r\n".repeat(connection::HEADER_LINES);
    let long = format!("GET /healthz HTTP/1.1\r\nhost: a\r\n{lines}\r\n");
    assert!(stage.ask(None, &long).await.starts_with("HTTP/1.1 431"));
    stage.quiet().await;
}

#[tokio::test]
async fn wrong_requests_are_told_so() {
    let stage = Stage::start(limits()).await;
    for (request, code) in [
        ("GET /healthz HTTP/1.1\r\nconnection: close\r\n\r\n", 400),
        ("GET /api/../metrics HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", 400),
        ("nonsense\r\n\r\n", 400),
        ("GET /nothing HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", 404),
    ] {
        let answer = stage.ask(None, request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {code}")), "{request}: {answer}");
    }
}

#[tokio::test]
async fn slow_headers_and_clients_that_ask_nothing_are_given_up() {
    let stage = Stage::start(ConnectionLimits { header: BRIEF, ..limits() }).await;
    for begun in ["", "GET /healthz HTTP/1.1\r\nho"] {
        assert_eq!(stage.ask(None, begun).await, "");
    }
    let mut served = stage.tls(None, b"http/1.1").await;
    served.write_all(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    one_ok(&mut served).await;
    served.write_all(b"GET /he").await.unwrap();
    assert_eq!(to_end(&mut served).await, "");
    assert_eq!(to_end(&mut stage.tls(None, b"h2").await).await.matches("GET").count(), 0);
    stage.quiet().await;
}

#[tokio::test]
async fn half_handshakes_and_what_is_no_handshake_are_given_up_and_counted() {
    let stage = Stage::start(ConnectionLimits { handshake: BRIEF, ..limits() }).await;
    let mut silent = stage.tcp().await;
    let mut half = stage.tcp().await;
    half.write_all(&[0x16, 3, 1, 2]).await.unwrap();
    let mut other = stage.tcp().await;
    other.write_all(b"\x00\x01\x02").await.unwrap();
    let mut broken = stage.tcp().await;
    broken.write_all(&[0x16; 64]).await.unwrap();
    drop(stage.tcp().await);
    for stream in [&mut silent, &mut half, &mut other, &mut broken] {
        to_end(stream).await;
    }
    stage.quiet().await;
    let counted = ["timeout", "not TLS", "protocol", "closed"].map(|kind| stage.failures(kind));
    assert_eq!(counted, [2, 1, 1, 1]);
}

#[tokio::test]
async fn a_client_that_speaks_http_is_told_to_speak_https() {
    let stage = Stage::start(limits()).await;
    let mut stream = stage.tcp().await;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let answer = to_end(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("speaks HTTPS"), "{answer}");
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused_and_counted() {
    let mut stage = Stage::start(limits()).await;
    let ours = std::mem::replace(&mut stage.authority, Authority::new());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(ours.certificate.der().clone()).unwrap();
    let (certificate, key) = stage.authority.issue("ann", ExtendedKeyUsagePurpose::ClientAuth);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let connected = TlsConnector::from(Arc::new(config)).connect(name, stage.tcp().await).await;
    // With TLS 1.3 a client has connected before the server has looked at its certificate.
    if let Ok(mut stream) = connected {
        let _ = stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert_eq!(to_end(&mut stream).await, "");
    }
    stage.quiet().await;
    assert_eq!(stage.failures("certificate"), 1);
}

#[tokio::test]
async fn one_connection_too_many_is_closed_and_room_is_there_again_after() {
    let most = NonZeroUsize::new(2).unwrap();
    let stage = Stage::start(ConnectionLimits { most, ..limits() }).await;
    let held = [stage.tls(None, b"http/1.1").await, stage.tls(None, b"http/1.1").await];
    assert_eq!(to_end(&mut stage.tcp().await).await, "");
    assert_eq!(stage.endpoint.metrics.turned_away.get(), 1);
    drop(held);
    stage.quiet().await;
    assert!(stage.get(None, "/healthz").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn whoever_was_let_in_by_older_files_has_to_connect_again() {
    let stage = Stage::start(limits()).await;
    let mut stream = stage.tls(None, b"http/1.1").await;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    one_ok(&mut stream).await;
    stage.authority.write_pair(stage.folder.path());
    stage.tls.source().poll();
    assert_eq!(to_end(&mut stream).await, "");
    assert!(stage.get(None, "/healthz").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn at_the_end_idle_connections_are_closed_and_no_new_one_is_taken() {
    let mut stage = Stage::start(limits()).await;
    let mut idle = stage.tls(None, b"http/1.1").await;
    stage.drain.send_replace(true);
    assert_eq!(to_end(&mut idle).await, "");
    assert_eq!(timeout(SOON, &mut stage.running).await.unwrap().unwrap(), Drained::All);
    assert!(TcpStream::connect(stage.address).await.is_err());
}

#[tokio::test]
async fn what_does_not_end_is_cut_after_a_while() {
    let mut stage = Stage::start(limits()).await;
    let _half = stage.tcp().await;
    let accepted = stage.endpoint.metrics.accepted.clone();
    timeout(SOON, async {
        while accepted.get() == 0 {
            sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .unwrap();
    tokio::time::pause();
    stage.drain.send_replace(true);
    assert_eq!((&mut stage.running).await.unwrap(), Drained::Cut(1));
}
