use super::*;
use crate::spec::{ProbeTls, ProbeTrust};

async fn https_server(acceptor: TlsAcceptor) -> Server {
    let fine = handler(async |_| answer(200, "ok"));
    Server::at(V4, Version::Http1, Some(acceptor), fine).await.expect("IPv4 loopback")
}

fn trusting(authority: &Authority, name: Option<&str>) -> ProbeTls {
    let trust = ProbeTrust::Authority { file: authority.ca(), name: name.map(str::to_owned) };
    ProbeTls { trust, client: None }
}

fn https_probe(server: &Server, tls: ProbeTls) -> Probe {
    Probe::Http(HttpProbe { tls: Some(tls), ..http_probe(server.address) })
}

const FINE: Outcome = Outcome::Success(Observed::StatusCode(200));

#[tokio::test]
async fn a_certificate_of_the_right_ca_for_the_address_is_trusted() {
    let authority = Authority::new();
    let server = https_server(authority.acceptor(&["127.0.0.1"], None, &[])).await;
    assert_eq!(check_once(&https_probe(&server, trusting(&authority, None))).await, FINE);

    let fine = handler(async |_| answer(200, "ok"));
    let acceptor = authority.acceptor(&["::1"], None, &[b"http/1.1"]);
    if let Some(server) = Server::at(V6, Version::Http1, Some(acceptor), fine).await {
        assert_eq!(check_once(&https_probe(&server, trusting(&authority, None))).await, FINE);
    }
}

#[tokio::test]
async fn a_certificate_is_checked_for_the_name_that_is_given() {
    let authority = Authority::new();
    let server = https_server(authority.acceptor(&["etcd.test"], None, &[])).await;
    assert_eq!(check_once(&https_probe(&server, trusting(&authority, Some("etcd.test")))).await, FINE);

    let message = failure(check_once(&https_probe(&server, trusting(&authority, None))).await);
    let begin = format!("HTTPS check of https://127.0.0.1:{}/healthz: TLS handshake: ", server.address.port);
    assert!(message.starts_with(&begin) && message.contains("not valid for name"), "{message}");
}

#[tokio::test]
async fn a_certificate_of_another_ca_is_a_failure_unless_anybody_is_trusted() {
    let (authority, other) = (Authority::new(), Authority::new());
    let server = https_server(authority.acceptor(&["127.0.0.1"], None, &[])).await;
    let message = failure(check_once(&https_probe(&server, trusting(&other, None))).await);
    assert!(message.contains("TLS handshake: invalid peer certificate"), "{message}");

    let anybody = ProbeTls { trust: ProbeTrust::Anybody, client: None };
    assert_eq!(check_once(&https_probe(&server, anybody)).await, FINE);
}

#[tokio::test]
async fn a_client_certificate_is_shown_where_it_is_wanted() {
    let authority = Authority::new();
    let server = https_server(authority.acceptor(&["127.0.0.1"], Some(&authority), &[])).await;

    let message = failure(check_once(&https_probe(&server, trusting(&authority, None))).await);
    assert!(message.contains("CertificateRequired"), "{message}");

    let client = Some(authority.issue(&["checker"]));
    let tls = ProbeTls { client, ..trusting(&authority, None) };
    assert_eq!(check_once(&https_probe(&server, tls)).await, FINE);
}

#[tokio::test]
async fn changed_files_are_read_again_and_unchanged_ones_are_not() {
    let (authority, other) = (Authority::new(), Authority::new());
    let server = https_server(authority.acceptor(&["127.0.0.1"], None, &[])).await;
    let tls = trusting(&other, None);
    let probe = https_probe(&server, tls.clone());
    let mut cache = TlsCache::default();
    let around = surroundings(NoCommands);

    failure(check(&probe, &around, Some(PATIENCE), &mut cache).await);
    overwrite(&authority.ca(), &other.ca());
    assert_eq!(check(&probe, &around, Some(PATIENCE), &mut cache).await, FINE);

    let before = cache.config(&tls, &[b"http/1.1"]).expect("built");
    let again = cache.config(&tls, &[b"http/1.1"]).expect("built");
    assert!(Arc::ptr_eq(&before, &again));

    std::fs::remove_file(other.ca()).expect("remove the CA");
    let message = failure(check(&probe, &around, Some(PATIENCE), &mut cache).await);
    let expected = format!("read CA file {}: no such file or directory", other.ca().display());
    assert!(message.ends_with(&expected), "{message}");
}

#[test]
fn a_bad_file_is_named_with_what_is_wrong_with_it() {
    let authority = Authority::new();
    let (certificate, key) = authority.issue(&["checker"]);
    let bad = authority.path("bad.pem");
    let authority_of = |file: &Path| ProbeTrust::Authority { file: file.to_owned(), name: None };
    let error = |trust: &ProbeTrust, client: Option<(PathBuf, PathBuf)>| {
        let error = super::super::tls::client_config(trust, client.as_ref(), &[]).expect_err("a bad file");
        assert!(error.contains(authority.folder.path().to_str().expect("text")), "{error}");
        error
    };

    std::fs::write(&bad, "no PEM").expect("write");
    assert!(error(&authority_of(&bad), None).ends_with("no PEM certificate in it"));
    error(&ProbeTrust::Anybody, Some((certificate.clone(), bad.clone())));

    std::fs::write(&bad, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").expect("write");
    error(&authority_of(&bad), None);

    std::fs::File::create(&bad).and_then(|file| file.set_len(64 << 20)).expect("write");
    assert!(error(&authority_of(&bad), None).contains("67108864 bytes"));

    assert!(error(&authority_of(authority.folder.path()), None).ends_with("not a regular file"));
    let pipe = authority.path("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).expect("a pipe");
    assert!(error(&authority_of(&pipe), None).ends_with("not a regular file"));

    let other = Authority::new().issue(&["other"]);
    assert!(!other.1.exists(), "its folder is gone");
    let stranger = Authority::new();
    let (_, strange_key) = stranger.issue(&["other"]);
    error(&ProbeTrust::Anybody, Some((certificate, strange_key)));
    assert!(key.exists());
}
