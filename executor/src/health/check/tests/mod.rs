//! Checks of real servers on loopback, in the test's own process.

mod command;
mod grpc;
mod http;
mod tcp;
mod tls;

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{CertificateParams, CertifiedIssuer, KeyPair};
use rustls_pki_types::PrivateKeyDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use super::*;
use crate::health::{CommandResult, RunCommand, RunningCommand};
use crate::pod::sockets::PodSockets;
use crate::spec::{Address, Command, HttpProbe};

const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// Far longer than any check here takes; one that hangs fails its test.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs no command.
#[derive(Debug)]
struct NoCommands;

impl RunCommand for NoCommands {
    fn run(&self, _: &Command, _: &[(String, String)]) -> RunningCommand {
        Box::pin(std::future::ready(Err("no commands here".to_owned())))
    }
}

fn surroundings(commands: impl RunCommand + 'static) -> Surroundings {
    Surroundings { sockets: PodSockets::host(), commands: Arc::new(commands) }
}

async fn check_once(probe: &Probe) -> Outcome {
    check(probe, &surroundings(NoCommands), Some(PATIENCE), &mut TlsCache::default()).await
}

fn failure(outcome: Outcome) -> String {
    match outcome {
        Outcome::Failure { message, .. } => message,
        other => panic!("not a failure: {other:?}"),
    }
}

fn http_probe(address: Address) -> HttpProbe {
    HttpProbe { address, path: "/healthz".to_owned(), headers: [].into(), statuses: Vec::new(), tls: None }
}

/// A listener on a free port, `None` (with the reason printed) where the machine lacks the address family.
async fn listen(ip: IpAddr) -> Option<(TcpListener, Address)> {
    match TcpListener::bind((ip, 0)).await {
        Ok(listener) => {
            let port = listener.local_addr().expect("bound").port();
            Some((listener, Address { ip, port }))
        }
        Err(error) => {
            eprintln!("skipped: cannot listen on {ip}: {error}");
            None
        }
    }
}

/// A port at which nobody listens.
async fn closed_port(ip: IpAddr) -> Option<Address> {
    listen(ip).await.map(|(_, address)| address)
}

type Body = BoxBody<Bytes, Infallible>;
type Answering = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;
type Handler = Arc<dyn Fn(Request<Incoming>) -> Answering + Send + Sync>;

fn handler<F>(answer: impl Fn(Request<Incoming>) -> F + Send + Sync + 'static) -> Handler
where
    F: Future<Output = Response<Body>> + Send + 'static,
{
    Arc::new(move |request| Box::pin(answer(request)))
}

fn answer(status: u16, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Full::new(body.into()).boxed());
    *response.status_mut() = hyper::StatusCode::from_u16(status).expect("a status");
    response
}

#[derive(Clone, Copy)]
enum Version {
    Http1,
    Http2,
}

/// A server that lives as long as this.
struct Server {
    address: Address,
    _tasks: JoinSet<()>,
}

impl Server {
    async fn plain(version: Version, handler: Handler) -> Self {
        Self::at(V4, version, None, handler).await.expect("IPv4 loopback")
    }

    async fn at(ip: IpAddr, version: Version, tls: Option<TlsAcceptor>, handler: Handler) -> Option<Self> {
        let (listener, address) = listen(ip).await?;
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.expect("accept");
                let (tls, handler) = (tls.clone(), Arc::clone(&handler));
                connections.spawn(async move {
                    match tls {
                        None => converse(version, stream, handler).await,
                        // A client that does not trust us is what some tests are about.
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                converse(version, stream, handler).await;
                            }
                        }
                    }
                });
            }
        });
        Some(Self { address, _tasks: tasks })
    }
}

async fn converse<S>(version: Version, stream: S, handler: Handler)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = service_fn(move |request| {
        let answering = handler(request);
        async move { Ok::<_, Infallible>(answering.await) }
    });
    let io = TokioIo::new(stream);
    // A check closes its connection as soon as it knows enough, which the server may call an error.
    let _ = match version {
        Version::Http1 => hyper::server::conn::http1::Builder::new().serve_connection(io, service).await,
        Version::Http2 => {
            hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await
        }
    };
}

/// A CA and its files in a folder that goes with it.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: tempfile::TempDir,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a CA");
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).expect("write the CA");
        Self { issuer, folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn ca(&self) -> PathBuf {
        self.path("ca.pem")
    }

    /// Writes a certificate for these names and its key.
    fn issue(&self, names: &[&str]) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().expect("a key");
        let names: Vec<String> = names.iter().copied().map(str::to_owned).collect();
        let params = CertificateParams::new(names).expect("names");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let paths = (self.path("certificate.pem"), self.path("key.pem"));
        std::fs::write(&paths.0, certificate.pem()).expect("write the certificate");
        std::fs::write(&paths.1, key.serialize_pem()).expect("write the key");
        paths
    }

    /// A server with a certificate of this CA for these names, which wants one of `clients` from its clients.
    fn acceptor(&self, names: &[&str], clients: Option<&Self>, protocols: &[&[u8]]) -> TlsAcceptor {
        let key = KeyPair::generate().expect("a key");
        let names: Vec<String> = names.iter().copied().map(str::to_owned).collect();
        let certificate = CertificateParams::new(names)
            .and_then(|params| params.signed_by(&key, &self.issuer))
            .expect("a certificate");
        let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("versions");
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(authority.issuer.der().clone()).expect("a root");
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().expect("a verifier"))
            }
        };
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let mut config = builder
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("a certificate and its key");
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }
}

fn overwrite(from: &Path, to: &Path) {
    std::fs::copy(from, to).expect("copy a file");
}
