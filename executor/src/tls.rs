//! TLS from the client's side: whom to trust, what to show, and by which name the other side is known.
//!
//! ```text
//!  Trust + Identity + ServerName -> TlsClient::new -> TlsClient -- connect(stream) --> encrypted stream
//! ```
//! TLS 1.2 and 1.3 with aws-lc-rs, and only with forward secrecy and authenticated encryption: a server that offers nothing
//! but older suites (libprocess does, unless its `CIPHERS` say otherwise) cannot be spoken to.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{
    CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

/// Where systems keep the authorities that all programs trust.
const SYSTEM_BUNDLES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// Whose certificates are taken.
#[derive(Debug, Clone)]
pub enum Trust {
    /// Anybody's: the connection is encrypted, the other side may be anyone.
    Anybody,
    /// Those signed by one of these, and made out for the name that is asked for.
    Authorities(Vec<CertificateDer<'static>>),
}

impl Trust {
    /// The authorities of a PEM file.
    ///
    /// # Errors
    /// It cannot be read, or has no certificate.
    pub fn file(path: &Path) -> Result<Self, TlsError> {
        certificates(path).map(Self::Authorities)
    }

    /// The authorities that this system trusts.
    ///
    /// # Errors
    /// There are none where they are looked for.
    pub fn system() -> Result<Self, TlsError> {
        let bundle = SYSTEM_BUNDLES
            .iter()
            .map(Path::new)
            .find(|path| path.exists())
            .ok_or(TlsError::NoSystemBundle)?;
        Self::file(bundle)
    }

    /// The authorities of a PEM file, of the files of a folder, or of both; of the system when neither is given.
    ///
    /// # Errors
    /// A file or the folder cannot be read, or there is no certificate. Files of the folder without one are passed over.
    pub fn files(file: Option<&Path>, folder: Option<&Path>) -> Result<Self, TlsError> {
        if file.is_none() && folder.is_none() {
            return Self::system();
        }
        let mut all = file.map_or_else(|| Ok(Vec::new()), certificates)?;
        if let Some(folder) = folder {
            all.extend(folder_certificates(folder)?);
        }
        Ok(Self::Authorities(all))
    }
}

/// A certificate chain and its key.
#[derive(Debug)]
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    /// Reads both from PEM files.
    ///
    /// # Errors
    /// One cannot be read, or does not hold what it should.
    pub fn files(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let chain = certificates(certificate)?;
        let text = fs::read(key).map_err(|source| TlsError::Read { path: key.to_owned(), source })?;
        let key =
            PrivateKeyDer::from_pem_slice(&text).map_err(|_| TlsError::NoKey { path: key.to_owned() })?;
        Ok(Self { chain, key })
    }
}

/// What is wrong with TLS material.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file or folder cannot be read.
    #[error("read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file has no certificate.
    #[error("read {}: no PEM certificate in it", path.display())]
    NoCertificate {
        /// Which.
        path: PathBuf,
    },
    /// A file has no private key. The cause is not kept: it might show part of one.
    #[error("read {}: no PEM private key in it", path.display())]
    NoKey {
        /// Which.
        path: PathBuf,
    },
    /// This system has no list of authorities.
    #[error("find the system's certificate authorities: none of {} exists", SYSTEM_BUNDLES.join(", "))]
    NoSystemBundle,
    /// Certificate and key cannot be used, or not together.
    #[error("configure tls")]
    Configure {
        /// Why.
        #[source]
        source: Error,
    },
}

/// Makes encrypted connections to one name. Cloning is cheap.
#[derive(Clone)]
pub struct TlsClient {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl std::fmt::Debug for TlsClient {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("TlsClient").field("name", &self.name).finish_non_exhaustive()
    }
}

impl TlsClient {
    /// A client that trusts `trust`, shows `identity` when asked, and expects the other side to be `name`.
    ///
    /// # Errors
    /// A certificate cannot be used, or does not belong to its key.
    pub fn new(
        trust: Trust,
        identity: Option<Identity>,
        name: ServerName<'static>,
    ) -> Result<Self, TlsError> {
        let config = client_config(trust, identity).map_err(|source| TlsError::Configure { source })?;
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), name })
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

fn client_config(trust: Trust, identity: Option<Identity>) -> Result<ClientConfig, Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let builder = match trust {
        Trust::Anybody => {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Unverified { provider }))
        }
        Trust::Authorities(certificates) => {
            let mut roots = RootCertStore::empty();
            // A system's bundle may hold a few that this library does not read.
            let (added, _) = roots.add_parsable_certificates(certificates);
            if added == 0 {
                return Err(Error::General("none of the certificate authorities can be used".to_owned()));
            }
            builder.with_root_certificates(roots)
        }
    };
    match identity {
        Some(Identity { chain, key }) => builder.with_client_auth_cert(chain, key),
        None => Ok(builder.with_no_client_auth()),
    }
}

/// Takes every certificate; only that the other side has its key is still checked.
#[derive(Debug)]
struct Unverified {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Unverified {
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

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = fs::read(path).map_err(|source| TlsError::Read { path: path.to_owned(), source })?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        _ => Err(TlsError::NoCertificate { path: path.to_owned() }),
    }
}

fn folder_certificates(folder: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let unreadable = |source| TlsError::Read { path: folder.to_owned(), source };
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.is_file() {
            all.extend(certificates(&path).unwrap_or_default());
        }
    }
    if all.is_empty() { Err(TlsError::NoCertificate { path: folder.to_owned() }) } else { Ok(all) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, Issuer, KeyPair};
    use tokio_rustls::TlsAcceptor;
    use tokio_rustls::rustls::ServerConfig;

    struct Authority {
        issuer: Issuer<'static, KeyPair>,
        certificate: CertificateDer<'static>,
        pem: String,
    }

    fn authority() -> Authority {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Authority {
            certificate: certificate.der().clone(),
            pem: certificate.pem(),
            issuer: Issuer::new(params, key),
        }
    }

    async fn handshake(authority: &Authority, trust: Trust, name: &str) -> io::Result<()> {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &authority.issuer).unwrap();
        let server = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key.serialize_der().try_into().unwrap())
            .unwrap();
        let client = TlsClient::new(trust, None, name.to_owned().try_into().unwrap()).unwrap();
        let (near, far) = tokio::io::duplex(65536);
        let (near, _far) =
            tokio::join!(client.connect(near), TlsAcceptor::from(Arc::new(server)).accept(far));
        near.map(|_| ())
    }

    #[tokio::test]
    async fn a_certificate_counts_for_its_address_and_its_authority_only() {
        let (ours, theirs) = (authority(), authority());
        let trusted = Trust::Authorities(vec![ours.certificate.clone()]);
        handshake(&ours, trusted.clone(), "127.0.0.1").await.unwrap();
        handshake(&ours, trusted.clone(), "127.0.0.2").await.unwrap_err();
        handshake(&theirs, trusted, "127.0.0.1").await.unwrap_err();
        handshake(&theirs, Trust::Anybody, "127.0.0.2").await.unwrap();
    }

    #[test]
    fn a_folder_gives_all_certificates_of_its_files() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(Trust::files(None, Some(folder.path())), Err(TlsError::NoCertificate { .. })));
        fs::write(folder.path().join("a.pem"), authority().pem).unwrap();
        fs::write(folder.path().join("b.pem"), authority().pem).unwrap();
        fs::write(folder.path().join("notes"), "nothing").unwrap();
        let both = Trust::files(Some(&folder.path().join("a.pem")), Some(folder.path())).unwrap();
        assert!(matches!(both, Trust::Authorities(all) if all.len() == 3));
    }

    #[test]
    fn errors_name_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cert.pem");
        let error = Trust::file(&path).unwrap_err();
        assert!(error.to_string().contains("cert.pem"), "{error}");
        fs::write(&path, authority().pem).unwrap();
        let error = Identity::files(&path, &path).unwrap_err();
        assert!(error.to_string().ends_with("no PEM private key in it"), "{error}");
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = (folder.path().join("c"), folder.path().join("k"));
        fs::write(&certificate, authority().pem).unwrap();
        fs::write(&key, KeyPair::generate().unwrap().serialize_pem()).unwrap();
        let identity = Identity::files(&certificate, &key).unwrap();
        let client = TlsClient::new(Trust::Anybody, Some(identity), "127.0.0.1".try_into().unwrap());
        assert!(matches!(client, Err(TlsError::Configure { .. })));
    }
}
