//! TLS: whom we trust, and who we are.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{
    CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::config::Trust;
use crate::failure::Failure;

/// TLS 1.2 and 1.3; only the authorities given are trusted.
///
/// # Errors
/// A file cannot be read, holds nothing, or key and certificate do not belong together.
pub(crate) fn config(trust: &Trust, identity: Option<&(PathBuf, PathBuf)>) -> Result<ClientConfig, Failure> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let unusable = |what: &str, source| Failure::Credentials { what: what.to_owned(), source };
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|source| unusable("TLS 1.2 and 1.3", source))?;
    let builder = match trust {
        Trust::Authorities(path) => builder.with_root_certificates(authorities(path)?),
        Trust::Anything => {
            crate::output::say(
                "kubex: warning: --insecure: the server's certificate is not checked, and it gets your token all the same\n",
            );
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Unchecked(provider)))
        }
    };
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = certificates(certificate)?;
            let key_der =
                PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable("the key", key, error))?;
            let what = format!("{} with {}", certificate.display(), key.display());
            builder.with_client_auth_cert(chain, key_der).map_err(|source| unusable(&what, source))?
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // A process lives for one command.
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn authorities(path: &Path) -> Result<RootCertStore, Failure> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        let what = path.display().to_string();
        roots.add(certificate).map_err(|source| Failure::Credentials { what, source })?;
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let certificates = certificates.map_err(|error| unreadable("the certificates", path, error))?;
    if certificates.is_empty() {
        return Err(Failure::Usage(format!(
            "{}: there is no certificate in it; give a PEM file",
            path.display()
        )));
    }
    Ok(certificates)
}

fn unreadable(what: &'static str, path: &Path, error: rustls_pki_types::pem::Error) -> Failure {
    match error {
        rustls_pki_types::pem::Error::Io(source) => {
            let verb = if what == "the key" { "read the key" } else { "read the certificates" };
            Failure::File { verb, path: path.to_owned(), source }
        }
        other => {
            Failure::Usage(format!("{}: {what} cannot be read ({other}); give a PEM file", path.display()))
        }
    }
}

/// Takes any certificate. The handshake is still proved to be of its key.
#[derive(Debug)]
struct Unchecked(Arc<CryptoProvider>);

impl ServerCertVerifier for Unchecked {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
