use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::*;
use crate::identity::{Authenticator, Tokens, TokensFile};
use crate::reload::Reloading;

const POLICY: &str = r#"
[[rule]]
users = ["alice"]
verbs = ["list", "exec"]
tasks = ["etcd-*"]
environment = ["LC_*"]

[[rule]]
users = ["alice"]
verbs = ["tty"]
tasks = ["*"]
"#;

const ETCD: Target<'static> = Target { framework: "kubernetes", pod: "etcd-0", task: "etcd-0-peer" };

struct Stage {
    folder: TempDir,
    gate: Gate,
    policy: watch::Sender<Arc<Policy>>,
    who: Who,
    command: Vec<String>,
}

impl Stage {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let audit = Audit::open(&AuditTo::File(folder.path().join("audit"))).unwrap();
        let (policy, receiver) = watch::channel(Arc::new(Policy::parse(POLICY).unwrap()));
        let gate = Gate::new(receiver, Arc::new(audit));
        let who = Who { user: "alice".into(), groups: vec!["ops".into()] };
        let command = ["sh", "-c", "echo \"a\nb\""].map(str::to_owned).to_vec();
        Self { folder, gate, policy, who, command }
    }

    fn asked(&self, verbs: &[Verb]) -> Asked<'_> {
        Asked {
            who: &self.who,
            peer: SocketAddr::from(([127, 0, 0, 1], 4711)),
            verbs: verbs.to_vec(),
            target: Some(ETCD),
            protocol: "remotecommand",
            command: &self.command,
        }
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("audit")
    }

    fn lines(&self) -> Vec<Value> {
        lines(&self.path())
    }
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn what_is_granted_has_a_line_before_it_begins_and_one_when_it_ends() {
    let stage = Stage::new();
    let granted = stage.gate.ask(&stage.asked(&[Verb::Exec, Verb::Tty])).unwrap();
    let [open] = stage.lines().try_into().unwrap();
    let expected = serde_json::json!({
        "event": "open", "time": open["time"], "id": granted.id().to_string(), "user": "alice", "groups": ["ops"],
        "peer": "127.0.0.1:4711", "protocol": "remotecommand", "verbs": ["exec", "tty"], "framework": "kubernetes", "pod": "etcd-0",
        "task": "etcd-0-peer", "command": ["sh", "-c", "echo \"a\nb\""], "verdict": "allowed", "reason": "rule 1, rule 2",
    });
    assert_eq!(open, expected);

    tokio::time::advance(Duration::from_millis(1500)).await;
    let closing = Closing { code: Some(7), bytes_in: 1, bytes_out: 2, reason: "exited".into() };
    granted.close(&closing);
    let [_, close] = stage.lines().try_into().unwrap();
    let expected = serde_json::json!({
        "event": "close", "time": close["time"], "id": open["id"], "code": 7, "bytes_in": 1, "bytes_out": 2, "duration_ms": 1500,
        "reason": "exited",
    });
    assert_eq!(close, expected);
}

#[tokio::test]
async fn what_is_dropped_is_closed_as_dropped_and_only_once() {
    let stage = Stage::new();
    drop(stage.gate.ask(&stage.asked(&[Verb::Exec])).unwrap());
    let lines = stage.lines();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[1]["reason"], "dropped");
    assert_eq!(lines[1].get("code"), None);
}

#[tokio::test]
async fn the_first_verb_that_is_refused_gives_the_sentence_and_a_line() {
    let stage = Stage::new();
    let verbs = [Verb::Exec, Verb::RunAs("root".into()), Verb::Signal];
    let denied = stage.gate.ask(&stage.asked(&verbs)).unwrap_err();
    assert!(
        denied.0.starts_with("alice may not run as \"root\" in kubernetes/etcd-0/etcd-0-peer"),
        "{denied}"
    );
    let [line] = stage.lines().try_into().unwrap();
    assert_eq!((&line["verdict"], &line["reason"]), (&"refused".into(), &denied.0.into()));
    assert_eq!(line["verbs"], serde_json::json!(["exec", "run_as root", "signal"]));
}

#[tokio::test]
async fn who_asks_for_nothing_gets_nothing() {
    let stage = Stage::new();
    assert!(stage.gate.ask(&stage.asked(&[])).is_err());
    assert_eq!(stage.lines()[0]["verdict"], "refused");
}

#[tokio::test]
async fn no_audit_no_right() {
    let stage = Stage::new();
    std::fs::remove_file(stage.path()).unwrap();
    std::fs::create_dir(stage.path()).unwrap();
    let denied = stage.gate.ask(&stage.asked(&[Verb::Exec])).unwrap_err();
    assert!(denied.0.starts_with("the audit cannot be written"), "{denied}");
    let refused = stage.gate.ask(&stage.asked(&[Verb::Signal])).unwrap_err();
    assert!(
        refused.0.starts_with("the audit cannot be written"),
        "a refusal without a line is no refusal that a retry may share"
    );
    assert_eq!(stage.gate.audit.failures(), 2);

    std::fs::remove_dir(stage.path()).unwrap();
    let granted = stage.gate.ask(&stage.asked(&[Verb::Exec])).unwrap();
    granted.close(&Closing::default());
    assert_eq!(stage.lines().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_and_its_retry_over_spdy_are_one_line() {
    let stage = Stage::new();
    let mut asked = stage.asked(&[Verb::Exec, Verb::Signal]);
    let first = stage.gate.ask(&asked).unwrap_err();
    tokio::time::advance(Duration::from_millis(4900)).await;
    asked.peer.set_port(4712);
    assert_eq!(stage.gate.ask(&asked).unwrap_err(), first);
    assert_eq!(stage.lines().len(), 1);
    stage.gate.ask(&asked).unwrap_err();
    assert_eq!(stage.lines().len(), 2, "a third one is a new one");
    tokio::time::advance(Duration::from_millis(5100)).await;
    stage.gate.ask(&asked).unwrap_err();
    assert_eq!(stage.lines().len(), 3, "too late to be a retry");
}

#[tokio::test(start_paused = true)]
async fn what_differs_in_anything_has_a_line_of_its_own() {
    let stage = Stage::new();
    let other_command = ["sh".to_owned()];
    let other = Who { user: "bob".into(), groups: vec!["ops".into()] };
    let base = stage.asked(&[Verb::Signal]);
    stage.gate.ask(&base).unwrap_err();
    for asked in [
        Asked { who: &other, ..base.clone() },
        Asked { peer: SocketAddr::from(([127, 0, 0, 2], 4711)), ..base.clone() },
        Asked { verbs: vec![Verb::Attach], ..base.clone() },
        Asked { target: Some(Target { task: "etcd-0-peer2", ..ETCD }), ..base.clone() },
        Asked { target: None, ..base.clone() },
        Asked { command: &other_command, ..base.clone() },
        Asked { protocol: "mesos", ..base.clone() },
    ] {
        let before = stage.lines().len();
        stage.gate.ask(&asked).unwrap_err();
        assert_eq!(stage.lines().len(), before + 1, "{asked:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_retry_that_is_allowed_by_now_has_its_line() {
    let stage = Stage::new();
    stage.gate.ask(&stage.asked(&[Verb::Signal])).unwrap_err();
    stage.policy.send_replace(Arc::new(Policy::everything()));
    drop(stage.gate.ask(&stage.asked(&[Verb::Signal])).unwrap());
    let verdicts: Vec<_> = stage.lines().iter().map(|line| line["verdict"].clone()).collect();
    assert_eq!(verdicts, ["refused".into(), "allowed".into(), Value::Null]);
}

#[tokio::test(start_paused = true)]
async fn no_more_refusals_are_remembered_than_there_is_room_for() {
    let stage = Stage::new();
    let commands: Vec<_> = (0..1100).map(|number| vec![number.to_string()]).collect();
    for command in &commands {
        let asked = Asked { command, ..stage.asked(&[Verb::Signal]) };
        stage.gate.ask(&asked).unwrap_err();
    }
    let again = |command: &[String]| {
        let before = stage.lines().len();
        stage.gate.ask(&Asked { command, ..stage.asked(&[Verb::Signal]) }).unwrap_err();
        stage.lines().len() - before
    };
    assert_eq!(again(&commands[1099]), 0);
    assert_eq!(again(&commands[0]), 1);
}

#[tokio::test]
async fn neither_tokens_nor_values_are_in_the_audit() {
    let stage = Stage::new();
    let values = [Verb::Environment("LC_ALL=hunter2".into()), Verb::Environment("X=hunter2".into())];
    let _ = stage.gate.ask(&stage.asked(&values));
    let _ = stage.gate.ask(&stage.asked(&[Verb::Exec, Verb::Environment("LC_ALL".into())]));
    let text = std::fs::read_to_string(stage.path()).unwrap();
    assert!(text.contains("\"environment LC_ALL\"") && !text.contains("hunter2"), "{text}");
}

/// All that is logged while it lives, at the most talkative level.
#[derive(Debug, Clone, Default)]
struct Logged(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn neither_tokens_nor_values_are_in_the_log() {
    let logged = Logged::default();
    let writer = logged.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, || {
        let stage = Stage::new();
        let secret = "Bearer hunter2".parse().unwrap();
        Authenticator::new(None).identify(None, Some(&secret)).unwrap_err();
        let values = [Verb::Exec, Verb::Environment("LC_ALL=hunter2".into())];
        stage.gate.ask(&stage.asked(&values)).unwrap_err();
        std::fs::remove_file(stage.path()).unwrap();
        std::fs::create_dir(stage.path()).unwrap();
        stage.gate.ask(&stage.asked(&[Verb::Tty])).unwrap_err();
        let tokens = stage.folder.path().join("tokens");
        std::fs::write(&tokens, "hunter2 alice").unwrap();
        std::fs::set_permissions(&tokens, std::fs::Permissions::from_mode(0o600)).unwrap();
        let error = Reloading::<Tokens>::load(TokensFile(tokens)).unwrap_err();
        tracing::error!(%error, ?error);
    });
    let text = String::from_utf8(logged.0.lock().unwrap().clone()).unwrap();
    assert!(text.contains("the audit cannot be written") && text.contains("sha256sum"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
}

#[tokio::test]
async fn what_may_be_listed_leaves_no_line() {
    let stage = Stage::new();
    assert!(stage.gate.allows(&stage.who, &Verb::List, Some(ETCD)));
    assert!(!stage.gate.allows(&stage.who, &Verb::Metrics, Some(ETCD)));
    assert!(!stage.gate.allows(&stage.who, &Verb::Metrics, None));
    assert!(stage.gate.sees(&stage.who, ETCD));
    let nobody = Who { user: "bob".into(), groups: vec![] };
    assert!(!stage.gate.sees(&nobody, ETCD));
    assert!(stage.lines().is_empty());
}

#[tokio::test]
async fn a_test_gate_grants_everything() {
    let (gate, stage) = (Gate::allowing_everything(), Stage::new());
    let verbs = [Verb::Exec, Verb::RunAs("root".into()), Verb::Environment("A".into())];
    gate.ask(&stage.asked(&verbs)).unwrap().close(&Closing::default());
}
