use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::*;

fn write(audit: &Audit, reason: &str) -> Result<(), AuditError> {
    audit.opened(&Opened {
        id: Uuid::nil(),
        user: "alice",
        groups: &[],
        peer: "[::1]:1".parse().unwrap(),
        protocol: "kubernetes",
        verbs: vec![],
        framework: None,
        pod: None,
        task: None,
        command: &[],
        verdict: Said::Refused,
        reason,
    })
}

fn reasons(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    assert!(text.is_empty() || text.ends_with('\n'));
    let line = |line| serde_json::from_str::<Value>(line).unwrap()["reason"].as_str().unwrap().to_owned();
    text.lines().map(line).collect()
}

#[test]
fn a_flag_says_where() {
    let to = |text: &str| text.parse::<AuditTo>().unwrap();
    assert_eq!(to("none"), AuditTo::Nowhere);
    assert_eq!(to("-"), AuditTo::Stdout);
    assert_eq!(to("syslog"), AuditTo::Syslog("/dev/log".into()));
    assert_eq!(to("journald"), to("syslog"));
    assert_eq!(to("/var/log/audit"), AuditTo::File("/var/log/audit".into()));
}

#[test]
fn a_file_is_appended_to_and_others_cannot_read_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit");
    for reason in ["a", "b"] {
        write(&Audit::open(&AuditTo::File(path.clone())).unwrap(), reason).unwrap();
    }
    assert_eq!(reasons(&path), ["a", "b"]);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o037, 0);
}

#[test]
fn a_renamed_or_removed_file_is_followed_by_a_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let (path, old) = (folder.path().join("audit"), folder.path().join("audit.1"));
    let audit = Audit::open(&AuditTo::File(path.clone())).unwrap();
    write(&audit, "a").unwrap();
    std::fs::rename(&path, &old).unwrap();
    write(&audit, "b").unwrap();
    assert_eq!((reasons(&old), reasons(&path)), (vec!["a".to_owned()], vec!["b".to_owned()]));
    std::fs::remove_file(&path).unwrap();
    write(&audit, "c").unwrap();
    assert_eq!(reasons(&path), ["c"]);
    audit.reopen();
    write(&audit, "d").unwrap();
    assert_eq!(reasons(&path), ["c", "d"]);
}

#[test]
fn what_is_no_file_is_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let error = Audit::open(&AuditTo::File(folder.path().into())).unwrap_err().to_string();
    assert!(error.starts_with("open audit /"), "{error}");
    let error = Audit::open(&AuditTo::File("/dev/null".into())).unwrap_err().to_string();
    assert!(error.contains("/dev/null is not a regular file"), "{error}");
    let pipe = folder.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    Audit::open(&AuditTo::File(pipe)).unwrap_err();
    let error = Audit::open(&AuditTo::Syslog(folder.path().join("log"))).unwrap_err().to_string();
    assert!(error.starts_with("find audit /"), "{error}");
}

#[test]
fn a_disk_that_is_full_is_an_error_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit");
    let audit = Audit::open(&AuditTo::File(path.clone())).unwrap();
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/dev/full", &path).unwrap();
    write(&audit, "a").unwrap_err();
    assert_eq!(audit.failures(), 1);
}

#[test]
fn syslog_gets_a_datagram_even_after_its_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let bind = || {
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        socket
    };
    let first = bind();
    let audit = Audit::open(&AuditTo::Syslog(path.clone())).unwrap();
    let receive = |socket: &UnixDatagram| {
        let mut buffer = [0; 4096];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    };
    write(&audit, "one\ntwo").unwrap();
    let message = receive(&first);
    assert!(message.starts_with("<85>") && message.contains("exec-endpoint["), "{message}");
    let (_, json) = message.split_once(": ").unwrap();
    assert_eq!(serde_json::from_str::<Value>(json).unwrap()["reason"], "one\ntwo");

    drop(first);
    write(&audit, "nobody listens").unwrap_err();
    std::fs::remove_file(&path).unwrap();
    let second = bind();
    write(&audit, "again").unwrap();
    assert!(receive(&second).contains("again"));
}

#[test]
fn a_syslog_that_does_not_read_holds_nobody_up_for_long() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let _unread = UnixDatagram::bind(&path).unwrap();
    let audit = Audit::open(&AuditTo::Syslog(path)).unwrap();
    let refused = (0..100_000).map(|_| write(&audit, "x")).find_map(Result::err).unwrap();
    assert!(refused.to_string().starts_with("write audit /"), "{refused}");
}

#[test]
fn what_a_terminal_would_obey_is_not_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit");
    let reason = "\u{1b}]0;x\u{9b}2J\r\n{}";
    write(&Audit::open(&AuditTo::File(path.clone())).unwrap(), reason).unwrap();
    assert_eq!(reasons(&path), [reason]);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(!text.trim_end_matches('\n').chars().any(char::is_control), "{text:?}");
}

#[test]
fn nowhere_takes_everything() {
    write(&Audit::open(&AuditTo::Nowhere).unwrap(), "a").unwrap();
}

#[test]
fn times_are_utc_with_milliseconds() {
    let now = now();
    assert_eq!(now.len(), "2026-11-22T18:48:39.123Z".len(), "{now}");
    assert!(now.ends_with('Z') && now.parse::<Timestamp>().is_ok(), "{now}");
}
