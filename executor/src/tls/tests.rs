use super::*;
use rcgen::{CertificateParams, Issuer, KeyPair};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
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

fn server(authority: &Authority) -> Arc<ServerConfig> {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &authority.issuer).unwrap();
    let server = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key.serialize_der().try_into().unwrap())
        .unwrap();
    Arc::new(server)
}

async fn handshake(authority: &Authority, trust: Trust, name: &str) -> io::Result<()> {
    let client = TlsClient::new(ClientTls::new(trust).build(), name.to_owned().try_into().unwrap());
    let (near, far) = tokio::io::duplex(65536);
    let (near, _far) = tokio::join!(client.connect(near), TlsAcceptor::from(server(authority)).accept(far));
    near.map(|_| ())
}

#[tokio::test]
async fn a_certificate_counts_for_its_address_and_its_authority_only() {
    let (ours, theirs) = (authority(), authority());
    let mut roots = RootCertStore::empty();
    roots.add(ours.certificate.clone()).unwrap();
    let trusted = Trust::Authorities(Arc::new(roots));
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
fn the_first_file_that_is_there_counts_and_without_one_all_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("b"), authority().pem).unwrap();
    fs::write(path("c"), [authority().pem, authority().pem].concat()).unwrap();
    let trust = Trust::first(&[path("a"), path("b"), path("c")]).unwrap();
    assert!(matches!(trust, Trust::Authorities(all) if all.len() == 1));
    let error = Trust::first(&["/no/such/a", "/no/such/b"]).unwrap_err();
    assert_eq!(error.to_string(), "read /no/such/a, /no/such/b: no such CA file");
}

#[test]
fn certificates_that_cannot_be_used_are_passed_over_as_long_as_one_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bundle");
    let unusable = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    fs::write(&path, [unusable, &authority().pem].concat()).unwrap();
    assert!(matches!(Trust::file(&path), Ok(Trust::Authorities(all)) if all.len() == 1));
    fs::write(&path, unusable).unwrap();
    assert!(matches!(Trust::file(&path), Err(TlsError::Authority { .. })));
}

#[test]
fn files_are_read_as_far_as_certificates_go_and_no_pipe_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    fs::write(&path, [authority().pem, " ".repeat(4 << 20)].concat()).unwrap();
    assert!(matches!(Trust::file(&path), Err(TlsError::TooLong { .. })));
    // One that says that it is empty and is not, as a file that grows does.
    let grown = Path::new("/proc/kallsyms");
    if fs::read(grown).is_ok_and(|all| all.len() as u64 > LONGEST_FILE) {
        assert!(matches!(Trust::file(grown), Err(TlsError::TooLong { .. })));
    } else {
        eprintln!("skipped a file that grows: {} is too short to stand for one", grown.display());
    }
    let pipe = folder.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).unwrap();
    assert!(matches!(Identity::files(&pipe, &pipe), Err(TlsError::NotRegular(_))));
}

#[test]
fn a_client_is_built_as_its_options_say() {
    let made = ClientTls { protocols: &[b"h2", b"http/1.1"], ..ClientTls::new(Trust::Anybody) }.build();
    assert_eq!(made.alpn_protocols, [b"h2".to_vec(), b"http/1.1".to_vec()]);
    assert!(ClientTls::new(Trust::Anybody).build().alpn_protocols.is_empty());
}

#[tokio::test]
async fn a_fresh_session_is_never_resumed() {
    use tokio_rustls::rustls::HandshakeKind::{Full, Resumed};
    for (sessions, second) in [(Sessions::Resumed, Resumed), (Sessions::Fresh, Full)] {
        let authority = authority();
        let server = TlsAcceptor::from(server(&authority));
        let config = ClientTls { sessions, ..ClientTls::new(Trust::Anybody) }.build();
        let client = TlsClient::new(config, "127.0.0.1".try_into().unwrap());
        for expected in [Full, second] {
            let (near, far) = tokio::io::duplex(65536);
            let (near, far) = tokio::join!(client.connect(near), server.accept(far));
            let (mut near, mut far) = (near.unwrap(), far.unwrap());
            assert_eq!(near.get_ref().1.handshake_kind(), Some(expected), "{sessions:?}");
            // The server's tickets come before its data.
            far.write_all(b"x").await.unwrap();
            far.flush().await.unwrap();
            near.read_u8().await.unwrap();
        }
    }
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (folder.path().join("c"), folder.path().join("k"));
    fs::write(&certificate, authority().pem).unwrap();
    fs::write(&key, KeyPair::generate().unwrap().serialize_pem()).unwrap();
    let error = Identity::files(&certificate, &key).unwrap_err();
    assert!(matches!(error, TlsError::Identity { .. }), "{error}");
    let text = error.to_string();
    assert!(text.starts_with("use certificate file ") && text.contains("/c with key file "), "{text}");
}
