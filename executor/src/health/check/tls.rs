//! The TLS of checks: whom they trust, who they are, read from files when they are needed and when they have changed.

use std::io::Read;
use std::net::IpAddr;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::fcntl::OFlag;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{self, CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs};
use tokio_rustls::rustls::{
    ClientConfig, DigitallySignedStruct, Error as TlsError, RootCertStore, SignatureScheme,
};

use super::describe::{chain, io_text};
use crate::spec::{ProbeTls, ProbeTrust};

/// The longest certificate or key file read, in bytes.
const LONGEST_FILE: u64 = 1024 * 1024;

/// What the last check of one probe made of its files; empty at first.
#[derive(Debug, Default)]
pub struct TlsCache {
    built: Option<Built>,
}

#[derive(Debug)]
struct Built {
    stamps: Vec<Stamp>,
    config: Arc<ClientConfig>,
}

/// What changes when a file does.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    file: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl TlsCache {
    /// The client side for `tls`, as its files are now; `protocols` are offered by ALPN.
    pub(super) fn config(
        &mut self,
        tls: &ProbeTls,
        protocols: &[&[u8]],
    ) -> Result<Arc<ClientConfig>, String> {
        // Before the files are read: a change in between is then seen the next time.
        let stamps = stamps(tls);
        if let (Some(stamps), Some(built)) = (&stamps, &self.built)
            && built.stamps == *stamps
        {
            return Ok(Arc::clone(&built.config));
        }
        self.built = None;
        let config = client_config(&tls.trust, tls.client.as_ref(), protocols)?;
        self.built = stamps.map(|stamps| Built { stamps, config: Arc::clone(&config) });
        Ok(config)
    }
}

/// The stamps of all files, `None` when one cannot be seen; reading it will tell why.
fn stamps(tls: &ProbeTls) -> Option<Vec<Stamp>> {
    let authority = match &tls.trust {
        ProbeTrust::Anybody => None,
        ProbeTrust::Authority { file, .. } => Some(file),
    };
    let client = tls.client.iter().flat_map(|(certificate, key)| [certificate, key]);
    authority.into_iter().chain(client).map(|path| stamp(path)).collect()
}

fn stamp(path: &Path) -> Option<Stamp> {
    let seen = std::fs::metadata(path).ok()?;
    Some(Stamp {
        file: seen.ino(),
        size: seen.size(),
        modified: (seen.mtime(), seen.mtime_nsec()),
        changed: (seen.ctime(), seen.ctime_nsec()),
    })
}

/// The client side of TLS 1.2 and 1.3 for `trust`, showing `client` (certificate and key file) where it is given.
/// Sessions are not resumed: every check sees the server's certificate.
///
/// # Errors
/// A text that names the file and what is wrong with it.
pub fn client_config(
    trust: &ProbeTrust,
    client: Option<&(PathBuf, PathBuf)>,
    protocols: &[&[u8]],
) -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("set TLS up: {error}"))?;
    let builder = match trust {
        ProbeTrust::Anybody => {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody::new(&provider)))
        }
        ProbeTrust::Authority { file, .. } => builder.with_root_certificates(roots(file)?),
    };
    let mut config = match client {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => builder
            .with_client_auth_cert(certificates("certificate file", certificate)?, private_key(key)?)
            .map_err(|error| {
                format!(
                    "use certificate file {} with key file {}: {error}",
                    certificate.display(),
                    key.display()
                )
            })?,
    };
    config.resumption = Resumption::disabled();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(Arc::new(config))
}

/// Shakes hands as the client of the server at `ip`.
pub(super) async fn connect<S>(
    config: Arc<ClientConfig>,
    tls: &ProbeTls,
    ip: IpAddr,
    stream: S,
) -> Result<TlsStream<S>, String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let name = match &tls.trust {
        ProbeTrust::Authority { name: Some(name), .. } => {
            ServerName::try_from(name.clone()).map_err(|error| format!("server name {name:?}: {error}"))?
        }
        ProbeTrust::Authority { name: None, .. } | ProbeTrust::Anybody => ServerName::from(ip),
    };
    TlsConnector::from(config)
        .connect(name, stream)
        .await
        .map_err(|error| format!("TLS handshake: {}", chain(&error)))
}

fn roots(file: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("CA file", file)? {
        roots.add(certificate).map_err(|error| format!("use CA file {}: {error}", file.display()))?;
    }
    Ok(roots)
}

fn certificates(what: &str, file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = read(what, file)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(found) if found.is_empty() => Err(format!("read {what} {}: no certificate in it", file.display())),
        Ok(found) => Ok(found),
        Err(error) => Err(format!("read {what} {}: {error}", file.display())),
    }
}

fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let pem = read("key file", file)?;
    PrivateKeyDer::from_pem_slice(&pem).map_err(|error| format!("read key file {}: {error}", file.display()))
}

fn read(what: &str, path: &Path) -> Result<Vec<u8>, String> {
    let failed = |why: String| format!("read {what} {}: {why}", path.display());
    // Not blocking: a path may lead to a pipe, whose opening would hold the whole executor up.
    let file = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(path)
        .map_err(|error| failed(io_text(&error)))?;
    let seen = file.metadata().map_err(|error| failed(io_text(&error)))?;
    if !seen.is_file() {
        return Err(failed("not a regular file".to_owned()));
    }
    if seen.len() > LONGEST_FILE {
        return Err(failed(format!("{} bytes, {LONGEST_FILE} are allowed", seen.len())));
    }
    let mut content = Vec::new();
    file.take(LONGEST_FILE).read_to_end(&mut content).map_err(|error| failed(io_text(&error)))?;
    Ok(content)
}

/// Takes any certificate, but still wants the server to have its key.
#[derive(Debug)]
struct Anybody {
    algorithms: WebPkiSupportedAlgorithms,
}

impl Anybody {
    fn new(provider: &CryptoProvider) -> Self {
        Self { algorithms: provider.signature_verification_algorithms }
    }
}

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        crypto::verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        crypto::verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
