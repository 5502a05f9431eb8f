//! The endpoint's side of TLS: its certificate, whose certificates it takes, and both read again when they change.
//!
//! TLS 1.2 and 1.3; h2 and http/1.1. Client certificates are asked for when there is a client CA, and never required: a token is the
//! other way. Where there is a client CA, no session is resumed: each connection proves its certificate against the CA of now.

#[cfg(test)]
pub(crate) mod tests;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls;
use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs};
use tokio_rustls::rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use tokio_rustls::rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{InconsistentKeys, RootCertStore, ServerConfig};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::reload::{Content, Poll, ReadError, Reloadable, Reloaded, Reloading};

/// Where certificate and key are, PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The endpoint's own certificate, then those between it and its CA.
    pub certificate: PathBuf,
    /// Its key: PKCS#8, PKCS#1 or SEC1.
    pub key: PathBuf,
    /// The CAs whose client certificates are taken. Without, none is asked for.
    pub client_ca: Option<PathBuf>,
}

/// Why certificates were not loaded.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A file with certificates holds none, or a broken one.
    #[error("{} has no certificates in PEM: {reason}", path.display())]
    Certificates {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A file holds no key. Nothing of it is shown.
    #[error("{} has no private key in PEM that can be used", .0.display())]
    Key(PathBuf),
    /// They are not a pair: one of them may be about to change.
    #[error("{} and {} are not a pair: the key is another certificate's", certificate.display(), key.display())]
    NotAPair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's.
        key: PathBuf,
    },
    /// A client CA is of no use.
    #[error("{}: certificate {number} cannot be a CA: {source}", path.display())]
    ClientCa {
        /// The file.
        path: PathBuf,
        /// Which one in it, from 1.
        number: usize,
        /// Why not.
        source: rustls::Error,
    },
    /// No verifier can be made of the client CAs.
    #[error("use the CAs of {}: {source}", path.display())]
    Verifier {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: VerifierBuilderError,
    },
    /// The provider of cryptography lacks something.
    #[error("set up TLS: {0}")]
    Provider(#[source] rustls::Error),
}

/// The endpoint's certificate and client CAs, as they are now.
#[derive(Debug, Clone)]
pub struct Tls(Arc<Reloading<Material>>);

impl Tls {
    /// Loads them for the first time.
    ///
    /// # Errors
    /// [`TlsError`]: which file, and what is wrong.
    pub fn load(files: TlsFiles) -> Result<Self, TlsError> {
        Ok(Self(Arc::new(Reloading::load(files)?)))
    }

    /// The configuration for a connection that is accepted now.
    pub fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.0.current().config)
    }

    /// When the endpoint's own certificate expires: seconds since 1970. A gauge.
    pub fn expires(&self) -> i64 {
        self.0.current().expires
    }

    /// How loading went so far.
    pub fn reloaded(&self) -> Reloaded {
        self.0.reloaded()
    }

    /// For [`crate::reload::run`].
    pub fn source(&self) -> Arc<dyn Poll> {
        self.0.clone()
    }
}

/// What is loaded at once, and swapped at once.
struct Material {
    config: Arc<ServerConfig>,
    expires: i64,
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Material").field("expires", &self.expires).finish_non_exhaustive()
    }
}

impl Reloadable for Material {
    type Files = TlsFiles;
    type Error = TlsError;
    const NAME: &'static str = "tls";

    fn paths(files: &TlsFiles) -> Vec<PathBuf> {
        [&files.certificate, &files.key].into_iter().chain(&files.client_ca).cloned().collect()
    }

    fn load(_: &TlsFiles, contents: &[Content]) -> Result<Self, TlsError> {
        let (pair_contents, client_ca) = contents.split_at(contents.len().min(2));
        let ([certificate, key], client_ca) = (Content::all(pair_contents)?, client_ca.first());
        warn_of_readers(key);
        let provider = Arc::new(aws_lc_rs::default_provider());
        let pair = pair(certificate, key, &provider)?;
        let expires = expires(&pair.cert).ok_or_else(|| TlsError::Certificates {
            path: certificate.path.clone(),
            reason: "the first one cannot be read".into(),
        })?;
        if expires < Timestamp::now().as_second() {
            tracing::warn!(certificate = %certificate.path.display(), "the endpoint's certificate has expired");
        }
        Ok(Self { config: Arc::new(config(pair, client_ca, provider)?), expires })
    }
}

fn config(
    pair: CertifiedKey,
    client_ca: Option<&Content>,
    provider: Arc<CryptoProvider>,
) -> Result<ServerConfig, TlsError> {
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(TlsError::Provider)?;
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some(content) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(roots(content)?, provider)
                .allow_unauthenticated()
                .build()
                .map_err(|source| TlsError::Verifier { path: content.path.clone(), source })?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(pair)));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    if client_ca.is_some() {
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok(config)
}

fn pair(certificate: &Content, key: &Content, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
    let chain = certificates(certificate)?;
    let unusable = || TlsError::Key(key.path.clone());
    let der = PrivateKeyDer::from_pem_slice(&key.bytes).map_err(|_| unusable())?;
    let signing = provider.key_provider.load_private_key(der).map_err(|_| unusable())?;
    let pair = CertifiedKey::new(chain, signing);
    match pair.keys_match() {
        Ok(()) => Ok(pair),
        Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch | InconsistentKeys::Unknown)) => {
            Err(TlsError::NotAPair { certificate: certificate.path.clone(), key: key.path.clone() })
        }
        Err(error) => Err(no_certificates(&certificate.path, &error)),
    }
}

fn roots(content: &Content) -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    for (number, certificate) in (1..).zip(certificates(content)?) {
        roots.add(certificate).map_err(|source| TlsError::ClientCa {
            path: content.path.clone(),
            number,
            source,
        })?;
    }
    Ok(Arc::new(roots))
}

fn certificates(content: &Content) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&content.bytes)
        .collect::<Result<_, _>>()
        .map_err(|error| no_certificates(&content.path, &error))?;
    if chain.is_empty() {
        return Err(no_certificates(&content.path, &"there is no BEGIN CERTIFICATE"));
    }
    Ok(chain)
}

fn no_certificates(path: &Path, reason: &dyn fmt::Display) -> TlsError {
    TlsError::Certificates { path: path.to_owned(), reason: reason.to_string() }
}

fn expires(chain: &[CertificateDer<'_>]) -> Option<i64> {
    let (_, certificate) = X509Certificate::from_der(chain.first()?).ok()?;
    Some(certificate.validity().not_after.timestamp())
}

fn warn_of_readers(key: &Content) {
    if key.mode & 0o007 != 0 {
        let (path, mode) = (key.path.display(), format!("{:04o}", key.mode));
        tracing::warn!(key = %path, mode, "everybody on this host can get at the key; chmod o= it");
    }
}
