use std::os::unix::fs::MetadataExt as _;

use tokio_rustls::rustls::{ServerConfig, crypto::aws_lc_rs};

use super::*;

#[tokio::test]
async fn without_a_hash_a_download_goes_straight_into_the_sandbox() {
    let fixture = Fixture::new();
    let chunked =
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n".to_vec();
    let server =
        Server::new(move |path| if path == "/chunked" { chunked.clone() } else { ok(b"hello") }).await;
    fixture.fetch(server.url("/a?b=c"), None, "deep/down/a", FetchForm::Executable).await.unwrap();
    fixture.fetch(server.url("/chunked"), None, "chunked", FetchForm::Plain).await.unwrap();
    let expected = tree(&[("deep/", ""), ("deep/down/", ""), ("deep/down/a", "hello"), ("chunked", "abcde")]);
    assert_eq!(fixture.tree(), expected);
    assert_eq!(*server.paths.lock().unwrap(), ["/a?b=c", "/chunked"]);
    assert_eq!(std::fs::metadata(fixture.sandbox().join("deep/down/a")).unwrap().mode() & 0o7777, 0o755);
}

#[tokio::test]
async fn redirects_are_followed_five_times() {
    let fixture = Fixture::new();
    let server =
        Server::new(|path| match path.strip_prefix("/hop/").map(|hop| hop.parse::<u32>().unwrap()) {
            Some(0) => redirect(302, "../file"),
            Some(hop) => redirect([301, 303, 307, 308][hop as usize % 4], &format!("/hop/{}", hop - 1)),
            None => ok(b"there"),
        })
        .await;
    fixture.fetch(server.url("/hop/4"), None, "a", FetchForm::Plain).await.unwrap();
    assert_eq!(server.count(), 6);
    let error = fixture.fetch(server.url("/hop/5"), None, "b", FetchForm::Plain).await.unwrap_err();
    assert!(matches!(error.source, Failure::Url { .. }), "{error}");
    assert_eq!(fixture.tree(), tree(&[("a", "there")]));
}

#[tokio::test]
async fn whatever_a_server_does_wrong_is_an_error_and_leaves_nothing() {
    let fixture = Fixture::new();
    let server = Server::new(|path| match path {
        "/404" => b"HTTP/1.1 404 Not Found\r\ncontent-length: 4\r\n\r\ngone".to_vec(),
        "/206" => b"HTTP/1.1 206 Partial\r\ncontent-length: 1\r\n\r\nx".to_vec(),
        "/short" => b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc".to_vec(),
        "/stall" => b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nSTALL".to_vec(),
        "/silent" => b"STALL".to_vec(),
        "/large" => ok(&vec![0; (1 << 20) + 1]),
        "/endless" => [b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), vec![0; 2 << 20]].concat(),
        "/nowhere" => b"HTTP/1.1 302 Found\r\ncontent-length: 0\r\n\r\n".to_vec(),
        "/ftp" => redirect(302, "ftp://127.0.0.1/x"),
        _ => b"SSH-2.0-nonsense\r\n".to_vec(),
    })
    .await;
    type Expected = fn(&Failure) -> bool;
    let cases: [(&str, Expected); 10] = [
        ("/404", |failure| matches!(failure, Failure::Status { status: 404, .. })),
        ("/206", |failure| matches!(failure, Failure::Status { status: 206, .. })),
        ("/short", |failure| matches!(failure, Failure::Http { verb: "read", .. })),
        ("/stall", |failure| matches!(failure, Failure::Timeout { verb: "read", .. })),
        ("/silent", |failure| matches!(failure, Failure::Timeout { .. } | Failure::Http { .. })),
        ("/large", |failure| matches!(failure, Failure::TooLarge(1_048_576))),
        ("/endless", |failure| matches!(failure, Failure::TooLarge(1_048_576))),
        ("/nowhere", |failure| matches!(failure, Failure::Url { .. })),
        ("/ftp", |failure| matches!(failure, Failure::Url { .. })),
        ("/ssh", |failure| matches!(failure, Failure::Http { verb: "request", .. })),
    ];
    for (path, expected) in cases {
        for sha256 in [None, Some(sha(b"x"))] {
            let error = fixture.fetch(server.url(path), sha256, "a/b", FetchForm::Plain).await.unwrap_err();
            assert!(expected(&error.source), "{path}: {error:?}");
            assert!(error.to_string().contains(&server.base), "{error}");
            assert_eq!(fixture.tree(), tree(&[]), "{path}");
        }
    }
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = fixture
        .fetch(FetchSource::Http(format!("http://{closed}/x")), None, "a", FetchForm::Plain)
        .await
        .unwrap_err();
    assert!(matches!(error.source, Failure::Connect { .. }), "{error}");
}

#[tokio::test]
async fn https_trusts_the_given_authorities_only_and_never_steps_down() {
    let key = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let bundle = folder.path().join("ca.pem");
    std::fs::write(&bundle, key.cert.pem()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![key.cert.der().clone()], key.signing_key.serialize_der().try_into().unwrap())
        .unwrap();
    let plain = Server::new(|_| ok(b"plain")).await;
    let elsewhere = format!("{}/x", plain.base);
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let server =
        Server::start(
            Some(acceptor),
            move |path| {
                if path == "/down" { redirect(302, &elsewhere) } else { ok(b"safe") }
            },
        )
        .await;
    let trusting =
        Fixture::with(Options { authorities: vec!["/no/such/file".into(), bundle], ..Options::default() });
    trusting.fetch(server.url("/x"), None, "a", FetchForm::Plain).await.unwrap();
    assert_eq!(trusting.tree(), tree(&[("a", "safe")]));
    let error = trusting.fetch(server.url("/down"), None, "b", FetchForm::Plain).await.unwrap_err();
    assert!(matches!(error.source, Failure::Url { .. }) && plain.count() == 0, "{error}");
    if std::path::Path::new("/etc/ssl/certs/ca-certificates.crt").exists() {
        let error = Fixture::new().fetch(server.url("/x"), None, "a", FetchForm::Plain).await.unwrap_err();
        assert!(matches!(error.source, Failure::Connect { .. }), "{error}");
    }
    let nobody = Fixture::with(Options { authorities: vec!["/no/such/file".into()], ..Options::default() });
    let error = nobody.fetch(server.url("/x"), None, "a", FetchForm::Plain).await.unwrap_err();
    assert!(error.to_string().contains("read /no/such/file"), "{error}");
}
