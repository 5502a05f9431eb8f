use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

use super::archives::{TAR, archive};
use super::*;
use tar::EntryType;

#[tokio::test]
async fn a_file_of_the_host_is_copied_for_its_owner() {
    let fixture = Fixture::new();
    let source = fixture.host_file("etcd", b"binary");
    fixture.fetch(source.clone(), None, "bin/etcd", FetchForm::Executable).await.unwrap();
    fixture.fetch(source.clone(), None, "plain", FetchForm::Plain).await.unwrap();
    fixture.fetch(source, None, "plain", FetchForm::Plain).await.unwrap();
    assert_eq!(fixture.tree(), tree(&[("bin/", ""), ("bin/etcd", "binary"), ("plain", "binary")]));
    let metadata = |name: &str| {
        let metadata = std::fs::metadata(fixture.sandbox().join(name)).unwrap();
        (metadata.uid(), metadata.gid(), metadata.mode() & 0o7777)
    };
    assert_eq!(metadata("bin/etcd"), (1234, 2345, 0o755));
    assert_eq!(metadata("plain"), (1234, 2345, 0o644));
    assert_eq!(metadata("bin"), (1234, 2345, 0o755));
}

#[tokio::test]
async fn what_is_no_regular_file_is_not_read() {
    let fixture = Fixture::new();
    let pipe = fixture.folder.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    for path in [pipe, fixture.sandbox(), PathBuf::from("/dev/zero")] {
        let error =
            fixture.fetch(FetchSource::File(path.clone()), None, "a/x", FetchForm::Plain).await.unwrap_err();
        assert!(matches!(error.source, Failure::NotRegular(_)), "{error}");
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    }
    let absent = fixture
        .fetch(FetchSource::File("/no/such/file".into()), None, "x", FetchForm::Plain)
        .await
        .unwrap_err();
    assert!(absent.to_string().contains("open /no/such/file: No such file"), "{absent}");
    assert_eq!(fixture.tree(), tree(&[]));
}

#[tokio::test]
async fn no_link_in_the_sandbox_leads_out_of_it() {
    let fixture = Fixture::new();
    let outside = fixture.folder.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    symlink(&outside, fixture.sandbox().join("folder")).unwrap();
    symlink(outside.join("file"), fixture.sandbox().join("file")).unwrap();
    let source = fixture.host_file("x", b"new");
    let error = fixture.fetch(source.clone(), None, "folder/x", FetchForm::Plain).await.unwrap_err();
    assert!(matches!(error.source, Failure::Io { .. }), "{error}");
    let packed = fixture.host_file("x.tar", &archive(&[(EntryType::Regular, "folder/x", "new", 0o644)]));
    fixture.fetch(packed.clone(), None, "", TAR).await.unwrap_err();
    fixture.fetch(packed, None, "folder", TAR).await.unwrap_err();
    fixture.fetch(source, None, "file", FetchForm::Plain).await.unwrap();
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    assert_eq!(std::fs::read(fixture.sandbox().join("file")).unwrap(), b"new");
}

#[tokio::test]
async fn what_came_before_the_failure_stays() {
    let fixture = Fixture::new();
    let plain =
        |source, target: &str| Fetch { source, sha256: None, target: target.into(), form: FetchForm::Plain };
    let list = [plain(fixture.host_file("x", b"1"), "a"), plain(FetchSource::File("/no/such".into()), "b")];
    let error = fetch(&list, &fixture.sandbox(), &fixture.cache, OWNER).await.unwrap_err();
    assert_eq!((error.from.as_str(), error.to.file_name().unwrap().to_str()), ("/no/such", Some("b")));
    assert_eq!(fixture.tree(), tree(&[("a", "1")]));
    assert_eq!(std::fs::metadata(fixture.sandbox().join("a")).unwrap().permissions().mode() & 0o777, 0o644);
}

#[test]
fn a_fetch_can_be_sent() {
    fn sent<T: Send>(_: &T) {}
    let check = |cache: &Cache| sent(&fetch(&[], Path::new("/"), cache, OWNER));
    let _ = check;
}
