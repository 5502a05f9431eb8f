use std::os::unix::fs::MetadataExt as _;
use std::time::SystemTime;

use super::*;
use crate::fetch::cache::Collected;

#[tokio::test]
async fn with_a_hash_a_file_is_fetched_once_and_kept() {
    let fixture = Fixture::new();
    let server = Server::new(|_| ok(b"binary")).await;
    for target in ["a", "b"] {
        fixture.fetch(server.url("/x"), Some(sha(b"binary")), target, FetchForm::Executable).await.unwrap();
    }
    assert_eq!(fixture.tree(), tree(&[("a", "binary"), ("b", "binary")]));
    assert_eq!(server.count(), 1);
    let (cached, copied) = (
        std::fs::metadata(fixture.entry(b"binary")).unwrap(),
        std::fs::metadata(fixture.sandbox().join("a")).unwrap(),
    );
    assert_eq!((cached.uid(), cached.nlink(), cached.mode() & 0o077), (0, 1, 0));
    assert_ne!(cached.ino(), copied.ino());
    let from_host = fixture.host_file("h", b"from the host");
    fixture.fetch(from_host, Some(sha(b"from the host")), "c", FetchForm::Plain).await.unwrap();
    assert!(fixture.entry(b"from the host").exists());
}

#[tokio::test]
async fn a_wrong_hash_is_an_error_that_names_both_and_leaves_nothing() {
    let fixture = Fixture::new();
    let server = Server::new(|_| ok(b"something else")).await;
    let source = server.url("/dir/x");
    let error = fixture.fetch(source, Some(sha(b"binary")), "bin/x", FetchForm::Plain).await.unwrap_err();
    let text = error.to_string();
    for part in
        [hex(&sha(b"binary")), hex(&sha(b"something else")), "/dir/x".to_owned(), "sandbox/bin/x".to_owned()]
    {
        assert!(text.contains(&part), "{text} lacks {part}");
    }
    assert_eq!(fixture.tree(), tree(&[]));
    assert!(!fixture.entry(b"binary").exists() && !fixture.entry(b"something else").exists());
    assert!(!fixture.entry(b"binary").with_extension("part").exists());
}

#[tokio::test]
async fn a_cached_file_that_has_changed_is_fetched_again() {
    let fixture = Fixture::new();
    let server = Server::new(|_| ok(b"binary")).await;
    let again = || fixture.fetch(server.url("/x"), Some(sha(b"binary")), "a", FetchForm::Plain);
    again().await.unwrap();
    std::fs::write(fixture.entry(b"binary"), b"evilry").unwrap();
    again().await.unwrap();
    assert_eq!((fixture.tree(), server.count()), (tree(&[("a", "binary")]), 2));
    // The same content at another time is hashed, found good, and not fetched.
    std::fs::write(fixture.entry(b"binary"), b"binary").unwrap();
    again().await.unwrap();
    std::fs::remove_file(fixture.entry(b"binary").with_extension("lock")).unwrap();
    again().await.unwrap();
    assert_eq!(server.count(), 2);
}

#[tokio::test]
async fn two_who_want_the_same_file_download_it_once() {
    let fixture = Fixture::new();
    let server = Server::new(|_| ok(&[7; 300_000])).await;
    let other = Cache::open(&fixture.folder.path().join("state"), fixture.cache.options().clone()).unwrap();
    let wanted = |target: &str| Fetch {
        source: server.url("/x"),
        sha256: Some(sha(&[7; 300_000])),
        target: PathBuf::from(target),
        form: FetchForm::Plain,
    };
    let sandbox = fixture.sandbox();
    let (one, two) = ([wanted("a")], [wanted("b")]);
    let both =
        tokio::join!(fetch(&one, &sandbox, &fixture.cache, OWNER), fetch(&two, &sandbox, &other, OWNER));
    assert!(both.0.is_ok() && both.1.is_ok(), "{both:?}");
    assert_eq!((server.count(), fixture.tree().len()), (1, 2));
}

#[tokio::test]
async fn a_fetch_that_is_given_up_leaves_nothing_and_no_lock() {
    let fixture = Fixture::with(Options { stall_timeout: Duration::from_secs(600), ..Options::default() });
    let content = [b"start".as_slice(), &[1; 5]].concat();
    let stall = Server::new(|_| b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nSTALL".to_vec()).await;
    let part = fixture.entry(&content).with_extension("part");
    {
        let mut stuck = Box::pin(fixture.fetch(stall.url("/x"), Some(sha(&content)), "a", FetchForm::Plain));
        while !part.exists() || stall.count() == 0 {
            tokio::select! {
                result = &mut stuck => panic!("{result:?}"),
                () = tokio::task::yield_now() => {}
            }
        }
    }
    assert!(!part.exists());
    let server = Server::new(move |_| ok(&content)).await;
    let content = [b"start".as_slice(), &[1; 5]].concat();
    fixture.fetch(server.url("/x"), Some(sha(&content)), "a", FetchForm::Plain).await.unwrap();
}

#[tokio::test]
async fn old_files_are_collected_then_those_unused_the_longest() {
    let fixture = Fixture::new();
    let now = SystemTime::now();
    let contents = [[b'a'; 100], [b'b'; 100], [b'c'; 100], [b'd'; 100]];
    for (age, content) in contents.iter().enumerate() {
        let source = fixture.host_file("x", content);
        fixture.fetch(source, Some(sha(content)), "x", FetchForm::Plain).await.unwrap();
        let lock = File::options().write(true).open(fixture.entry(content).with_extension("lock")).unwrap();
        lock.set_modified(now - Duration::from_secs(1000 - 100 * age as u64)).unwrap();
    }
    let folder = fixture.entry(&contents[0]).parent().unwrap().to_owned();
    let orphan = folder.join(format!("{}.part", "0".repeat(64)));
    std::fs::write(&orphan, b"half").unwrap();
    std::fs::write(folder.join("README"), b"not ours").unwrap();
    let held = File::open(fixture.entry(&contents[1]).with_extension("lock")).unwrap();
    held.try_lock().unwrap();
    // `a` is too old; `b` is in use, so `c` goes for the size.
    let collected = fixture.cache.collect(250, Duration::from_secs(950), now).await.unwrap();
    assert_eq!(collected, Collected { removed: 2, removed_bytes: 200, left_bytes: 200 });
    let left: Vec<_> = contents.iter().filter(|content| fixture.entry(*content).exists()).collect();
    assert_eq!(left, [&contents[1], &contents[3]]);
    assert!(!orphan.exists() && folder.join("README").exists());
    assert!(!fixture.entry(&contents[0]).with_extension("lock").exists());
    drop(held);
    let nothing = fixture
        .cache
        .collect(1000, Duration::from_secs(1000), now - Duration::from_secs(5000))
        .await
        .unwrap();
    assert_eq!(nothing, Collected { removed: 0, removed_bytes: 0, left_bytes: 200 });
}
