//! Keys and certificates of an agent with TLS, made anew for each.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use super::ClientCertificate;

#[derive(Debug)]
pub(super) struct Certificates {
    authority: CertificateDer<'static>,
    server: CertificateDer<'static>,
    server_key: PrivateKeyDer<'static>,
    authority_file: PathBuf,
    client_file: PathBuf,
    client_key_file: PathBuf,
    pub(super) other_authority: PathBuf,
}

impl Certificates {
    pub(super) fn make(folder: &Path) -> Self {
        let (authority_file, client_file) = (folder.join("ca.pem"), folder.join("client.pem"));
        let (client_key_file, other_authority) = (folder.join("client.key"), folder.join("other-ca.pem"));
        let (issuer, authority, pem) = authority("agent's authority");
        write(&authority_file, &pem);
        let (_, _, pem) = self::authority("another authority");
        write(&other_authority, &pem);
        let (server, server_key) = signed(&issuer, "127.0.0.1");
        let (client, client_key) = signed(&issuer, "executor");
        write(&client_file, &client.pem());
        write(&client_key_file, &client_key.serialize_pem());
        Self {
            authority,
            server: server.der().clone(),
            server_key: server_key.serialize_der().try_into().expect("a key"),
            authority_file,
            client_file,
            client_key_file,
            other_authority,
        }
    }

    pub(super) fn variables(&self) -> [(&'static str, String); 6] {
        let text = |path: &Path| path.display().to_string();
        [
            ("LIBPROCESS_SSL_ENABLED", "true".to_owned()),
            ("LIBPROCESS_SSL_VERIFY_SERVER_CERT", "true".to_owned()),
            ("LIBPROCESS_SSL_VERIFY_IPADD", "true".to_owned()),
            ("LIBPROCESS_SSL_CA_FILE", text(&self.authority_file)),
            ("LIBPROCESS_SSL_CERT_FILE", text(&self.client_file)),
            ("LIBPROCESS_SSL_KEY_FILE", text(&self.client_key_file)),
        ]
    }

    pub(super) fn acceptor(&self, wanted: ClientCertificate) -> TlsAcceptor {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .expect("protocol versions");
        let builder = match wanted {
            ClientCertificate::NotAsked => builder.with_no_client_auth(),
            ClientCertificate::Required => {
                let mut roots = RootCertStore::empty();
                roots.add(self.authority.clone()).expect("an authority");
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                builder.with_client_cert_verifier(verifier.expect("a verifier"))
            }
        };
        let config = builder.with_single_cert(vec![self.server.clone()], self.server_key.clone_key());
        TlsAcceptor::from(Arc::new(config.expect("a certificate")))
    }
}

fn authority(name: &str) -> (Issuer<'static, KeyPair>, CertificateDer<'static>, String) {
    let mut params = CertificateParams::new([]).expect("parameters");
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let certificate = params.self_signed(&key).expect("a certificate");
    (Issuer::new(params, key), certificate.der().clone(), certificate.pem())
}

fn signed(issuer: &Issuer<'_, KeyPair>, name: &str) -> (rcgen::Certificate, KeyPair) {
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new([name.to_owned()]).expect("parameters");
    (params.signed_by(&key, issuer).expect("a certificate"), key)
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).expect("write a PEM file");
}
