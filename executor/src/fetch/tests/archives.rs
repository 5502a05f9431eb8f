use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;

use tar::{EntryType, Header};

use super::*;

/// A tar archive; names are written as they are, `..` and all.
pub(super) fn archive(entries: &[(EntryType, &str, &str, u32)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (kind, name, content, mode) in entries {
        let mut header = Header::new_gnu();
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(*mode);
        header.set_mtime(1_000_000);
        let linked = matches!(kind, EntryType::Symlink | EntryType::Link);
        if linked {
            header.as_gnu_mut().unwrap().linkname[..content.len()].copy_from_slice(content.as_bytes());
        }
        let data = if linked { &b""[..] } else { content.as_bytes() };
        header.set_size(data.len() as u64);
        header.set_cksum();
        builder.append(&header, data).unwrap();
    }
    builder.into_inner().unwrap()
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

pub(super) const TAR: FetchForm = FetchForm::Archive(ArchiveKind::Tar);
const TGZ: FetchForm = FetchForm::Archive(ArchiveKind::TarGzip);

#[tokio::test]
async fn archives_are_extracted_from_everywhere() {
    let fixture = Fixture::new();
    let packed = archive(&[
        (EntryType::Directory, "./", "", 0o755),
        (EntryType::Directory, "bin/", "", 0o700),
        (EntryType::Regular, "bin/etcd", "binary", 0o4755),
        (EntryType::Regular, "lib/deep/x", "library", 0o600),
        (EntryType::Symlink, "bin/sh", "../lib/deep/x", 0o777),
        (EntryType::Link, "bin/etcd2", "bin/etcd", 0o755),
        (EntryType::Regular, "again", "first", 0o644),
        (EntryType::Regular, "again", "second", 0o644),
    ]);
    let content = |prefix: &str| {
        let entries = [
            ("bin/", ""),
            ("bin/etcd", "binary"),
            ("bin/etcd2", "binary"),
            ("bin/sh", "-> ../lib/deep/x"),
            ("lib/", ""),
            ("lib/deep/", ""),
            ("lib/deep/x", "library"),
            ("again", "second"),
        ];
        let named = entries.map(|(name, content)| (format!("{prefix}{name}"), content.to_owned()));
        named.into_iter().collect::<BTreeMap<_, _>>()
    };
    let zipped = gzip(&packed);
    let served = zipped.clone();
    let server = Server::new(move |_| ok(&served)).await;
    fixture.fetch(fixture.host_file("x.tar", &packed), None, "", TAR).await.unwrap();
    assert_eq!(fixture.tree(), content(""));
    let metadata = |name: &str| {
        let metadata = std::fs::symlink_metadata(fixture.sandbox().join(name)).unwrap();
        (metadata.uid(), metadata.gid(), metadata.mode() & 0o7777)
    };
    assert_eq!(metadata("bin/etcd"), (1234, 2345, 0o755));
    assert_eq!(metadata("lib/deep/x"), (1234, 2345, 0o600));
    assert_eq!(metadata("bin"), (1234, 2345, 0o700));
    assert_eq!(metadata("bin/sh").0, 1234);
    assert_eq!(std::fs::metadata(fixture.sandbox().join("again")).unwrap().mtime(), 1_000_000);
    fixture.fetch(server.url("/x.tgz"), Some(sha(&zipped)), "opt/a", TGZ).await.unwrap();
    fixture.fetch(server.url("/x.tgz"), None, "", TGZ).await.unwrap();
    let mut expected = content("");
    expected.extend(content("opt/a/"));
    expected.extend(tree(&[("opt/", ""), ("opt/a/", "")]));
    assert_eq!(fixture.tree(), expected);
    let gz = FetchForm::Archive(ArchiveKind::Gzip);
    let fixture = Fixture::new();
    fixture.fetch(fixture.host_file("x.gz", &gzip(b"text")), None, "a/x", gz).await.unwrap();
    assert_eq!(fixture.tree(), tree(&[("a/", ""), ("a/x", "text")]));
}

#[tokio::test]
async fn an_archive_that_would_do_harm_is_refused_and_leaves_nothing() {
    let file = |name| (EntryType::Regular, name, "x", 0o644);
    let link = |name, to| (EntryType::Symlink, name, to, 0o777);
    let harmful = [
        vec![file("ok"), file("../out")],
        vec![file("ok"), file("a/../../out")],
        vec![file("ok"), file("/out")],
        vec![file("ok"), link("l", "/etc")],
        vec![file("ok"), link("l", "../out")],
        vec![file("ok"), link("a/b/up", ".."), link("over", "a/b/up/../..")],
        vec![file("ok"), link("over", "a/up/.."), link("a/up", "..")],
        vec![file("ok"), link("l", "nowhere/.."), file("l/../x/../../out")],
        vec![file("ok"), (EntryType::Link, "h", "/etc/passwd", 0o644)],
        vec![file("ok"), (EntryType::Link, "h", "../x.tar", 0o644)],
        vec![file("ok"), (EntryType::Link, "h", "absent", 0o644)],
        vec![file("ok"), link("s", "ok2"), (EntryType::Link, "h", "s", 0o644)],
        vec![file("ok"), (EntryType::Char, "null", "", 0o666)],
        vec![file("ok"), (EntryType::Block, "disk", "", 0o666)],
        vec![file("ok"), (EntryType::Fifo, "pipe", "", 0o666)],
        vec![file("ok"), file("ok/below")],
        vec![file("")],
    ];
    for entries in harmful {
        let fixture = Fixture::new();
        std::fs::write(fixture.sandbox().join("before"), "kept").unwrap();
        let source = fixture.host_file("x.tar", &archive(&entries));
        for target in ["", "opt/deep"] {
            let error = fixture.fetch(source.clone(), None, target, TAR).await;
            assert!(error.is_err(), "{entries:?}");
            assert_eq!(fixture.tree(), tree(&[("before", "kept")]), "{entries:?}");
        }
        assert!(!fixture.folder.path().join("out").exists());
    }
}

#[tokio::test]
async fn broken_and_bloated_archives_are_refused() {
    let fixture = Fixture::new();
    let good = archive(&[
        (EntryType::Regular, "a", "x", 0o644),
        (EntryType::Regular, "b", &"y".repeat(2000), 0o644),
    ]);
    let zipped = gzip(&good);
    let gz = FetchForm::Archive(ArchiveKind::Gzip);
    let bomb = gzip(&vec![0; 4 << 20]);
    let big = archive(&[
        (EntryType::Regular, "a", "x", 0o644),
        (EntryType::Regular, "b", &"y".repeat(2 << 20), 0o644),
    ]);
    let cases = [
        (b"no archive at all".to_vec(), TAR),
        (good[..2000].to_vec(), TAR),
        (zipped[..zipped.len() / 2].to_vec(), TGZ),
        (good.clone(), TGZ),
        (bomb, gz),
        (b"no gzip".to_vec(), gz),
        (big.clone(), TAR),
        (gzip(&big), TGZ),
    ];
    for (content, form) in cases {
        let error = fixture.fetch(fixture.host_file("x", &content), None, "o/x", form).await.unwrap_err();
        assert!(error.to_string().starts_with("fetch /"), "{error}");
        assert_eq!(fixture.tree(), tree(&[]), "{error}");
    }
}
