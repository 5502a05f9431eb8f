//! TLS from the client's side: whom to trust, what to show, and by which name the other side is known. The only place
//! where a client is made.
//!
//! ```text
//!  Trust + Identity + options -> ClientTls::build -> Arc<ClientConfig> + ServerName -> TlsClient
//!                                                          TlsClient -- connect(stream) --> encrypted stream
//! ```
//! TLS 1.2 and 1.3 with aws-lc-rs, and only with forward secrecy and authenticated encryption: a server that offers nothing
//! but older suites (libprocess does, unless its `CIPHERS` say otherwise) cannot be spoken to.
//!
//! Files are read without ever waiting for one, and only so far as a certificate or key can be long.

use std::fmt;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls_pki_types::pem::{self, PemObject as _};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{
    CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio_rustls::rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::files::{OpenError, open_regular};

/// Where systems keep the authorities that all programs trust; the first that is there counts.
pub const SYSTEM_BUNDLES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// The longest file read, in bytes; a system's bundle has about a quarter of a million.
const LONGEST_FILE: u64 = 4 << 20;

/// Whose certificates are taken. Cloning is cheap.
#[derive(Debug, Clone)]
pub enum Trust {
    /// Anybody's: the connection is encrypted, the other side may be anyone.
    Anybody,
    /// Those signed by one of these, and made out for the name that is asked for.
    Authorities(Arc<RootCertStore>),
}

impl Trust {
    /// The authorities of a PEM file. Those that this library cannot use are passed over, as long as one is left: a
    /// system's bundle may hold a few.
    ///
    /// # Errors
    /// It cannot be read, or has no certificate that can be used.
    pub fn file(path: &Path) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        add(&mut roots, path)?;
        Ok(Self::Authorities(Arc::new(roots)))
    }

    /// The authorities that this system trusts.
    ///
    /// # Errors
    /// There are none where they are looked for, or they cannot be read.
    pub fn system() -> Result<Self, TlsError> {
        Self::first(&SYSTEM_BUNDLES)
    }

    /// The authorities of the first of these PEM files that is there.
    ///
    /// # Errors
    /// None is there, or that one cannot be read.
    pub fn first<P: AsRef<Path>>(files: &[P]) -> Result<Self, TlsError> {
        match files.iter().map(AsRef::as_ref).find(|path| path.exists()) {
            Some(path) => Self::file(path),
            None => Err(TlsError::NoFile {
                looked_at: files.iter().map(|path| path.as_ref().to_owned()).collect(),
            }),
        }
    }

    /// The authorities of a PEM file, of the files of a folder, or of both; of the system when neither is given.
    ///
    /// # Errors
    /// A file or the folder cannot be read, or there is no certificate. Files of the folder without one are passed over.
    pub fn files(file: Option<&Path>, folder: Option<&Path>) -> Result<Self, TlsError> {
        if file.is_none() && folder.is_none() {
            return Self::system();
        }
        let mut roots = RootCertStore::empty();
        if let Some(file) = file {
            add(&mut roots, file)?;
        }
        if let Some(folder) = folder {
            add_folder(&mut roots, folder)?;
        }
        Ok(Self::Authorities(Arc::new(roots)))
    }
}

/// A certificate chain and its key, which belong together.
#[derive(Debug)]
pub struct Identity(CertifiedKey);

impl Identity {
    /// Reads both from PEM files.
    ///
    /// # Errors
    /// One cannot be read, or does not hold what it should, or they do not belong together.
    pub fn files(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let chain = certificates(&Material::new(Role::Certificate, certificate))?;
        let file = Material::new(Role::Key, key);
        let text = read(&file)?;
        let Ok(key) = PrivateKeyDer::from_pem_slice(&text) else { return Err(TlsError::NoKey(file)) };
        let both = CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider());
        both.map(Self).map_err(|source| TlsError::Identity {
            certificate: certificate.to_owned(),
            key: file.path,
            source,
        })
    }
}

/// A file or folder that TLS is set up from; it shows as what it is for, with its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Material {
    /// What it is for.
    pub role: Role,
    /// Where it is.
    pub path: PathBuf,
}

/// What a file or folder is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Whom to trust.
    Authorities,
    /// What to show.
    Certificate,
    /// The key of what is shown.
    Key,
    /// Files of whom to trust.
    Folder,
}

impl Material {
    fn new(role: Role, path: &Path) -> Self {
        Self { role, path: path.to_owned() }
    }
}

impl fmt::Display for Material {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let role = match self.role {
            Role::Authorities => "CA file",
            Role::Certificate => "certificate file",
            Role::Key => "key file",
            Role::Folder => "CA folder",
        };
        write!(out, "{role} {}", self.path.display())
    }
}

/// What is wrong with TLS material.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// It cannot be read.
    #[error("read {file}")]
    Read {
        /// Which.
        file: Material,
        /// Why.
        source: io::Error,
    },
    /// It is a folder, a pipe or a device.
    #[error("read {0}: not a regular file")]
    NotRegular(Material),
    /// No certificate or key is as long as that.
    #[error("read {file}: {bytes} bytes, {LONGEST_FILE} are allowed")]
    TooLong {
        /// Which.
        file: Material,
        /// How many it has, or more.
        bytes: u64,
    },
    /// It is no proper PEM.
    #[error("read {file}")]
    Pem {
        /// Which.
        file: Material,
        /// What is wrong.
        source: pem::Error,
    },
    /// It has no certificate.
    #[error("read {0}: no PEM certificate in it")]
    NoCertificate(Material),
    /// It has no private key. The cause is not kept: it might show part of one.
    #[error("read {0}: no PEM private key in it")]
    NoKey(Material),
    /// None of its certificates is one of an authority.
    #[error("use {file}")]
    Authority {
        /// Which.
        file: Material,
        /// What is wrong with the last.
        source: Error,
    },
    /// None of the places where authorities may be has any.
    #[error("read {}: no such CA file", paths(looked_at))]
    NoFile {
        /// The places.
        looked_at: Vec<PathBuf>,
    },
    /// Certificate and key cannot be used, or not together.
    #[error("use certificate file {} with key file {}", certificate.display(), key.display())]
    Identity {
        /// The one.
        certificate: PathBuf,
        /// The other.
        key: PathBuf,
        /// Why.
        source: Error,
    },
}

fn paths(all: &[PathBuf]) -> String {
    all.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// Whether a later connection may go on with the keys of an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sessions {
    /// It may, and then shows no certificates again.
    Resumed,
    /// Every connection sees the server's certificate.
    Fresh,
}

/// What a client is made of.
#[derive(Debug)]
pub struct ClientTls<'a> {
    /// Whom it trusts.
    pub trust: Trust,
    /// What it shows when asked.
    pub identity: Option<Identity>,
    /// Whether its connections go on with each other's keys.
    pub sessions: Sessions,
    /// The protocols that it offers by ALPN, the best first; with none, there is no ALPN.
    pub protocols: &'a [&'a [u8]],
}

impl ClientTls<'_> {
    /// Trusts `trust`, shows nothing, resumes sessions, and offers no protocols.
    pub fn new(trust: Trust) -> Self {
        Self { trust, identity: None, sessions: Sessions::Resumed, protocols: &[] }
    }

    /// What connections are made with.
    pub fn build(self) -> Arc<ClientConfig> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("aws-lc-rs has suites for both versions");
        let builder = match self.trust {
            Trust::Anybody => {
                builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody { provider }))
            }
            Trust::Authorities(roots) => builder.with_root_certificates(roots),
        };
        let mut config = match self.identity {
            Some(Identity(both)) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(both))),
            None => builder.with_no_client_auth(),
        };
        if self.sessions == Sessions::Fresh {
            config.resumption = Resumption::disabled();
        }
        config.alpn_protocols = self.protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Arc::new(config)
    }
}

/// Makes encrypted connections to one name. Cloning is cheap.
#[derive(Clone)]
pub struct TlsClient {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl fmt::Debug for TlsClient {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("TlsClient").field("name", &self.name).finish_non_exhaustive()
    }
}

impl TlsClient {
    /// A client that expects the other side to be `name`.
    pub fn new(config: Arc<ClientConfig>, name: ServerName<'static>) -> Self {
        Self { connector: TlsConnector::from(config), name }
    }

    /// Does the handshake on `stream`.
    ///
    /// # Errors
    /// The stream's, or the handshake's as an [`io::Error`].
    pub async fn connect<S>(&self, stream: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        self.connector.connect(self.name.clone(), stream).await
    }
}

/// Takes every certificate; only that the other side has its key is still checked.
#[derive(Debug)]
struct Anybody {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Adds the usable certificates of a file.
fn add(roots: &mut RootCertStore, path: &Path) -> Result<(), TlsError> {
    let file = Material::new(Role::Authorities, path);
    let mut unusable = None;
    let before = roots.len();
    for certificate in certificates(&file)? {
        unusable = roots.add(certificate).err().or(unusable);
    }
    match unusable {
        Some(source) if roots.len() == before => Err(TlsError::Authority { file, source }),
        _ => Ok(()),
    }
}

fn add_folder(roots: &mut RootCertStore, path: &Path) -> Result<(), TlsError> {
    let folder = Material::new(Role::Folder, path);
    let unreadable = |source| TlsError::Read { file: folder.clone(), source };
    let before = roots.len();
    for entry in fs::read_dir(path).map_err(unreadable)? {
        // What is no certificate has its right to be here: the folders of systems hold other things too.
        let _ = add(roots, &entry.map_err(unreadable)?.path());
    }
    if roots.len() == before { Err(TlsError::NoCertificate(folder)) } else { Ok(()) }
}

fn certificates(file: &Material) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(file)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match all {
        Ok(all) if all.is_empty() => Err(TlsError::NoCertificate(file.clone())),
        Ok(all) => Ok(all),
        Err(source) => Err(TlsError::Pem { file: file.clone(), source }),
    }
}

fn read(file: &Material) -> Result<Vec<u8>, TlsError> {
    let failed = |source| TlsError::Read { file: file.clone(), source };
    let opened = open_regular(&file.path).map_err(|error| match error {
        OpenError::NotRegular => TlsError::NotRegular(file.clone()),
        OpenError::Io(source) => failed(source),
    })?;
    let bytes = opened.metadata().map_err(failed)?.len();
    if bytes > LONGEST_FILE {
        return Err(TlsError::TooLong { file: file.clone(), bytes });
    }
    let mut content = Vec::new();
    // It may grow while it is read.
    let read = opened.take(LONGEST_FILE + 1).read_to_end(&mut content).map_err(failed)? as u64;
    if read > LONGEST_FILE {
        return Err(TlsError::TooLong { file: file.clone(), bytes: read });
    }
    Ok(content)
}

#[cfg(test)]
mod tests;
