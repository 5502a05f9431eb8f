use std::io;
use std::os::unix::fs::PermissionsExt as _;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::rustls::{ClientConfig, HandshakeKind, ProtocolVersion, SupportedProtocolVersion};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;
use crate::identity::Authenticator;
use crate::reload::Polled;

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

struct Leaf {
    certificate: String,
    key: String,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    fn leaf(&self, name: &str, usage: ExtendedKeyUsagePurpose, last: i32) -> Leaf {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![usage];
        params.not_after = date_time_ymd(last, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Leaf { certificate, key: key.serialize_pem() }
    }

    fn server(&self, last: i32) -> Leaf {
        self.leaf("endpoint", ExtendedKeyUsagePurpose::ServerAuth, last)
    }

    fn client(&self, name: &str) -> Leaf {
        self.leaf(name, ExtendedKeyUsagePurpose::ClientAuth, 2999)
    }
}

struct Stage {
    folder: TempDir,
    files: TlsFiles,
    server_ca: Authority,
    client_ca: Authority,
}

impl Stage {
    fn new(client_ca: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let files = TlsFiles {
            certificate: path("certificate"),
            key: path("key"),
            client_ca: client_ca.then(|| path("ca")),
        };
        let stage = Self {
            files,
            server_ca: Authority::new("server CA"),
            client_ca: Authority::new("client CA"),
            folder,
        };
        let leaf = stage.server_ca.server(2999);
        stage.write("certificate", &leaf.certificate);
        stage.write("key", &leaf.key);
        stage.write("ca", &stage.client_ca.pem);
        stage
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn load(&self) -> Tls {
        Tls::load(self.files.clone()).unwrap()
    }

    fn error(&self) -> String {
        Tls::load(self.files.clone()).unwrap_err().to_string()
    }

    fn connector(&self, leaf: Option<&Leaf>, version: &'static SupportedProtocolVersion) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.server_ca.pem.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match leaf {
            None => builder.with_no_client_auth(),
            Some(leaf) => {
                let chain = vec![CertificateDer::from_pem_slice(leaf.certificate.as_bytes()).unwrap()];
                let key = PrivateKeyDer::from_pem_slice(leaf.key.as_bytes()).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        TlsConnector::from(Arc::new(config))
    }
}

/// What the server knows after a handshake.
#[derive(Debug)]
struct Connected {
    certificate: Option<CertificateDer<'static>>,
    version: ProtocolVersion,
    kind: HandshakeKind,
    alpn: Vec<u8>,
}

async fn connect(tls: &Tls, connector: &TlsConnector) -> io::Result<Connected> {
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let server = async {
        let mut stream = TlsAcceptor::from(tls.current()).accept(ours).await?;
        stream.write_all(b"x").await?;
        stream.shutdown().await?;
        let (_, connection) = stream.get_ref();
        Ok(Connected {
            certificate: connection.peer_certificates().map(|chain| chain[0].clone().into_owned()),
            version: connection.protocol_version().unwrap(),
            kind: connection.handshake_kind().unwrap(),
            alpn: connection.alpn_protocol().unwrap().to_vec(),
        })
    };
    let client = async {
        let mut stream = connector.connect("localhost".try_into().unwrap(), theirs).await?;
        let mut byte = Vec::new();
        stream.read_to_end(&mut byte).await?;
        io::Result::Ok(())
    };
    let (server, client) = tokio::join!(server, client);
    if server.is_ok() {
        client?;
    }
    server
}

#[tokio::test]
async fn a_client_certificate_is_asked_for_and_not_required() {
    let stage = Stage::new(true);
    let (tls, alice) = (stage.load(), stage.client_ca.client("alice"));
    for (version, protocol) in [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)] {
        let with = connect(&tls, &stage.connector(Some(&alice), version)).await.unwrap();
        let who = Authenticator::new(None).identify(with.certificate.as_ref(), None).unwrap();
        assert_eq!((who.user.as_str(), with.version), ("alice", protocol));
        assert_eq!(with.alpn, b"http/1.1");
        let without = connect(&tls, &stage.connector(None, version)).await.unwrap();
        assert_eq!(without.certificate, None);
    }
}

#[tokio::test]
async fn without_a_client_ca_no_certificate_is_asked_for() {
    let stage = Stage::new(false);
    let alice = stage.client_ca.client("alice");
    let connected = connect(&stage.load(), &stage.connector(Some(&alice), &TLS13)).await.unwrap();
    assert_eq!(connected.certificate, None);
}

#[tokio::test]
async fn a_certificate_of_another_ca_or_expired_or_for_servers_is_refused() {
    let stage = Stage::new(true);
    let tls = stage.load();
    let impostor = Authority::new("client CA");
    for (leaf, why) in [
        (impostor.client("alice"), ["BadSignature", "UnknownIssuer"].as_slice()),
        (stage.server_ca.client("alice"), &["UnknownIssuer"]),
        (stage.client_ca.leaf("alice", ExtendedKeyUsagePurpose::ClientAuth, 2001), &["expired"]),
        (
            stage.client_ca.leaf("alice", ExtendedKeyUsagePurpose::ServerAuth, 2999),
            &["clientAuth", "purpose", "usage"],
        ),
    ] {
        for version in [&TLS12, &TLS13] {
            let error = connect(&tls, &stage.connector(Some(&leaf), version)).await.unwrap_err().to_string();
            assert!(why.iter().any(|why| error.contains(why)), "{why:?}: {error}");
        }
    }
}

#[tokio::test]
async fn no_session_is_resumed_where_certificates_count() {
    for (client_ca, again) in [(true, HandshakeKind::Full), (false, HandshakeKind::Resumed)] {
        let stage = Stage::new(client_ca);
        let (tls, alice) = (stage.load(), stage.client_ca.client("alice"));
        for version in [&TLS12, &TLS13] {
            let connector = stage.connector(Some(&alice), version);
            let first = connect(&tls, &connector).await.unwrap();
            assert_ne!(first.kind, HandshakeKind::Resumed);
            let second = connect(&tls, &connector).await.unwrap();
            let full = matches!(second.kind, HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest);
            assert_eq!(full, again == HandshakeKind::Full, "{:?} {:?}", second.kind, second.version);
        }
    }
}

#[tokio::test]
async fn a_new_client_ca_ends_the_old_ones_certificates() {
    let stage = Stage::new(true);
    let (tls, old) = (stage.load(), stage.client_ca.client("alice"));
    let connector = stage.connector(Some(&old), &TLS13);
    connect(&tls, &connector).await.unwrap();
    let next = Authority::new("next CA");
    stage.write("ca", &format!("{}{}", stage.client_ca.pem, next.pem));
    assert_eq!(tls.source().poll(), Polled::Swapped);
    connect(&tls, &connector).await.unwrap();
    connect(&tls, &stage.connector(Some(&next.client("bob")), &TLS13)).await.unwrap();
    stage.write("ca", &next.pem);
    assert_eq!(tls.source().poll(), Polled::Swapped);
    connect(&tls, &connector).await.unwrap_err();
    connect(&tls, &stage.connector(Some(&next.client("bob")), &TLS13)).await.unwrap();
}

#[tokio::test]
async fn a_certificate_and_its_key_written_one_after_the_other_are_taken_together() {
    let stage = Stage::new(true);
    let tls = stage.load();
    let (before, next) = (tls.current(), stage.server_ca.server(2500));
    stage.write("certificate", &next.certificate[..100]);
    assert!(matches!(tls.source().poll(), Polled::Kept { .. }));
    stage.write("certificate", &next.certificate);
    let Polled::Kept { error } = tls.source().poll() else { panic!("not a pair") };
    assert!(error.contains("are not a pair"), "{error}");
    assert!(Arc::ptr_eq(&before, &tls.current()));
    connect(&tls, &stage.connector(None, &TLS13)).await.unwrap();
    assert_eq!(tls.reloaded().last_error, Some(error));

    stage.write("key", &next.key);
    assert_eq!(tls.source().poll(), Polled::Swapped);
    assert!(!Arc::ptr_eq(&before, &tls.current()));
    connect(&tls, &stage.connector(None, &TLS13)).await.unwrap();
    assert_eq!((tls.reloaded().last_error, tls.reloaded().loads), (None, 2));
    let expires = "2500-01-01T00:00:00Z".parse::<Timestamp>().unwrap().as_second();
    assert_eq!(tls.expires(), expires);
}

#[test]
fn what_is_wrong_with_a_file_is_said_and_no_key_shown() {
    let stage = Stage::new(true);
    let (good, other) = (stage.server_ca.server(2999), stage.server_ca.server(2999));
    stage.write("certificate", "");
    assert!(stage.error().contains("certificate has no certificates in PEM: there is no BEGIN CERTIFICATE"));
    stage.write("certificate", &good.certificate);
    stage.write("key", &other.key);
    assert!(stage.error().contains("are not a pair: the key is another certificate's"));
    for broken in [
        "",
        "hunter2",
        "-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----\n",
        "-----BEGIN hunter2",
    ] {
        stage.write("key", broken);
        let error = stage.error();
        assert!(error.ends_with("key has no private key in PEM that can be used"), "{error}");
    }
    stage.write("key", &good.key);
    stage.write("ca", "nothing");
    assert!(stage.error().contains("ca has no certificates in PEM"), "{}", stage.error());
    stage.write("ca", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    assert!(stage.error().contains("ca: certificate 1 cannot be a CA"), "{}", stage.error());
    std::fs::remove_file(stage.folder.path().join("ca")).unwrap();
    assert!(stage.error().starts_with("open /"), "{}", stage.error());
}

#[test]
fn a_debug_print_holds_no_key() {
    let stage = Stage::new(true);
    let text = format!("{:?}", stage.load());
    assert!(text.contains("Material { expires: "), "{text}");
}
