//! What becomes of what is right.

use std::time::Duration;

use caps::Capability;
use mesos::common::{CheckType, TaskId};
use nix::sys::resource::Resource;

use super::*;
use crate::spec::parse::identify;
use crate::spec::{
    Address, ArchiveKind, Backoff, CheckRole, Command, Essential, FetchForm, FetchSource, KillMode,
    LogLimits, Probe, ProbeTls, ProbeTrust, RestartPolicy, Rlimit, TaskName, TerminalSize,
};

#[test]
fn a_plain_task_has_the_defaults() {
    let spec = good(&info(json!({})));
    let expected = TaskSpec {
        id: TaskId::new("peer-1"),
        name: TaskName("peer".to_owned()),
        command: Command::shell("sleep 1"),
        environment: vec![],
        role: None,
        identity: crate::spec::Identity::default(),
        rlimits: vec![],
        umask: 0o022,
        oom_score_adj: None,
        limits: crate::cgroup::Limits::default(),
        terminal: None,
        log: LogLimits { bytes: 10 << 20, files: 3.try_into().unwrap() },
        fetches: vec![],
        checks: vec![],
        grace_period: Duration::from_secs(3),
        kill_mode: KillMode::Cgroup,
        max_completion: None,
        restart: RestartPolicy::Never,
        depends_on: vec![],
        depends_on_timeout: Duration::from_secs(300),
        essential: Essential::Yes,
        exec: crate::spec::exec::ExecRights::default(),
        resources: vec![],
    };
    assert_eq!(spec, expected);
    assert_eq!(good(&info(json!({"data": ""}))), expected);
    assert_eq!(
        good(&info(json!({"container": {"type": "MESOS", "volumes": []}, "resources": null, "x": [1]}))),
        expected
    );
}

#[test]
fn a_command_may_be_in_the_settings_and_needs_no_shell() {
    let raw = json!({"shell": false, "value": "bin/etcd", "arguments": ["etcd", "-v"], "user": "1000"});
    let spec = good(&commanded(raw));
    let arguments = vec!["etcd".to_owned(), "-v".to_owned()];
    assert_eq!(spec.command, Command { file: "bin/etcd".to_owned(), arguments });
    assert_eq!(spec.identity.user.as_deref(), Some("1000"));
    let spec = good(&info(json!({"command": {"shell": false, "value": "etcd"}})));
    assert_eq!(spec.command, Command { file: "etcd".to_owned(), arguments: vec!["etcd".to_owned()] });
}

#[test]
fn the_environment_keeps_its_order_and_takes_secrets_with_values() {
    let variables = json!([
        {"name": "B", "value": "1"}, {"name": "A", "type": "SECRET", "value": "2"}, {"name": "B", "type": "VALUE", "value": ""},
    ]);
    let spec = good(&info(json!({"command": {"value": "x", "environment": {"variables": variables}}})));
    let expected =
        [("B", "1"), ("A", "2"), ("B", "")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(spec.environment, expected);
}

#[test]
fn resources_become_limits_by_mesoss_formulas() {
    let limits = |resources: Value, limits: Value| {
        good(&info(json!({"resources": resources, "limits": limits}))).limits
    };
    let plain = limits(json!([scalar("cpus", json!(0.5)), scalar("mem", json!(128))]), json!({}));
    assert_eq!((plain.cpu_shares, plain.cpu_quota), (Some(512), None));
    assert_eq!((plain.memory_soft, plain.memory_hard), (Some(128 << 20), Some(128 << 20)));
    let least = limits(
        json!([scalar("cpus", json!(0.001)), scalar("mem", json!(1))]),
        json!({"cpus": {"value": 0.001}}),
    );
    assert_eq!((least.cpu_shares, least.cpu_quota), (Some(2), Some(1000)));
    assert_eq!((least.memory_soft, least.memory_hard), (Some(32 << 20), Some(32 << 20)));
    let burst = json!({"cpus": {"value": 2.29}, "mem": {"value": 256.5}});
    let burst = limits(
        json!([scalar("cpus", json!(0.1)), scalar("cpus", json!(0.2)), scalar("mem", json!(64))]),
        burst,
    );
    assert_eq!((burst.cpu_shares, burst.cpu_quota), (Some(307), Some(229_000)));
    assert_eq!((burst.memory_soft, burst.memory_hard), (Some(64 << 20), Some((256 << 20) + (512 << 10))));
    let infinite = json!({"cpus": {"value": "Infinity"}, "mem": {"value": "Infinity"}});
    let infinite = limits(json!([scalar("cpus", json!(1)), scalar("mem", json!("64"))]), infinite);
    assert_eq!(
        (infinite.cpu_quota, infinite.memory_soft, infinite.memory_hard),
        (None, Some(64 << 20), None)
    );
    let only_cap = limits(json!([]), json!({"mem": {"value": 64}}));
    assert_eq!((only_cap.memory_soft, only_cap.memory_hard), (None, Some(64 << 20)));
    assert_eq!(good(&with(&json!({"pids": 100}))).limits.pids, Some(100));
}

#[test]
fn the_role_is_that_of_the_first_resource_that_has_one() {
    let mut cpus = scalar("cpus", json!(1));
    cpus["allocation_info"] = json!({"role": "kubernetes"});
    let spec = good(&info(json!({"resources": [scalar("mem", json!(32)), cpus]})));
    assert_eq!(spec.role.as_deref(), Some("kubernetes"));
}

#[test]
fn rlimits_of_both_kinds_are_joined() {
    let mut task = with(&json!({"rlimits": {"nofile": {"soft": 10, "hard": 20}, "memlock": {}}}));
    task["container"] = json!({"rlimit_info": {"rlimits": [{"type": "RLMT_CORE", "soft": 0, "hard": 0}]}});
    let rlimit = |resource, soft, hard| Rlimit { resource, soft, hard };
    let expected = [
        rlimit(Resource::RLIMIT_CORE, 0, 0),
        rlimit(Resource::RLIMIT_MEMLOCK, u64::MAX, u64::MAX),
        rlimit(Resource::RLIMIT_NOFILE, 10, 20),
    ];
    assert_eq!(good(&task).rlimits, expected);
    task["container"] = json!({"rlimit_info": {"rlimits": [{"type": "RLMT_NOFILE"}]}});
    assert_eq!(parse(&task.to_string()).unwrap_err().field, "data.rlimits.nofile");
}

#[test]
fn identity_is_read_whole() {
    let bounding = ["NET_BIND_SERVICE", "CAP_CHOWN", "cap_kill", "CHOWN"];
    let spec = good(&with(&json!({
        "groups": ["adm", "12"], "no_new_privileges": true, "umask": "0077", "oom_score_adj": -998,
        "capabilities": {"bounding": bounding, "ambient": ["CAP_NET_BIND_SERVICE"]},
    })));
    assert_eq!(spec.identity.groups, ["adm", "12"]);
    assert!(spec.identity.no_new_privileges);
    assert_eq!((spec.umask, spec.oom_score_adj), (0o077, Some(-998)));
    let sets = spec.identity.capabilities.unwrap();
    assert_eq!(
        sets.bounding,
        [Capability::CAP_CHOWN, Capability::CAP_KILL, Capability::CAP_NET_BIND_SERVICE]
    );
    assert_eq!(sets.ambient, [Capability::CAP_NET_BIND_SERVICE]);
    let all = good(&with(&json!({"capabilities": {"bounding": ["ALL"]}}))).identity.capabilities.unwrap();
    assert_eq!((all.bounding.len(), all.ambient.len()), (caps::all().len(), 0));
}

#[test]
fn a_terminal_has_a_size_even_when_none_is_given() {
    let terminal = |tty: Value| good(&info(json!({"container": {"tty_info": tty}}))).terminal;
    assert_eq!(terminal(json!({})), Some(TerminalSize { rows: 24, columns: 80 }));
    let sized = terminal(json!({"window_size": {"rows": 50, "columns": 65535}}));
    assert_eq!(sized, Some(TerminalSize { rows: 50, columns: 65535 }));
}

#[test]
fn a_health_check_is_a_liveness_check_with_mesoss_defaults() {
    let spec = good(&health(json!({})));
    let expected = CheckSpecSummary { role: CheckRole::Liveness, times: [15, 10, 20, 10], counts: (3, 1) };
    assert_eq!(summary(&spec.checks[0]), expected);
    let Probe::Http(http) = &spec.checks[0].probe else { panic!("{spec:?}") };
    assert_eq!((http.address, http.path.as_str(), &http.tls), (local(80), "/", &None));

    let odd = json!({"consecutive_failures": 0, "timeout_seconds": 0, "http": {"port": 1, "scheme": "https", "protocol": "IPv6"}});
    let spec = good(&health(odd));
    assert_eq!((spec.checks[0].failures.get(), spec.checks[0].timeout), (1, None));
    let Probe::Http(http) = &spec.checks[0].probe else { panic!("{spec:?}") };
    assert_eq!(http.tls, Some(ProbeTls { trust: ProbeTrust::Anybody, client: None }));
    assert_eq!(http.address, Address { ip: "::1".parse().unwrap(), port: 1 });
}

#[test]
fn a_check_is_reported_by_its_kind() {
    let raw = json!({"type": "COMMAND", "command": {"command": {"value": "true", "user": "x", "uris": [{"value": "?"}]}}});
    let spec = good(&info(json!({ "check": raw })));
    assert_eq!(spec.checks[0].role, CheckRole::Reported(CheckType::Command));
    assert_eq!(spec.checks[0].probe, Probe::Command { command: Command::shell("true"), environment: vec![] });
    let spec = good(&info(json!({"check": {"type": "TCP", "tcp": {"port": 2379}, "delay_seconds": 0.5}})));
    assert_eq!(
        (spec.checks[0].role, &spec.checks[0].probe),
        (CheckRole::Reported(CheckType::Tcp), &Probe::Tcp(local(2379)))
    );
    assert_eq!(spec.checks[0].delay, Duration::from_millis(500));
}

#[test]
fn a_check_of_the_settings_has_its_own_defaults() {
    let spec = good(&check(json!({})));
    let roles: Vec<_> = spec.checks.iter().map(|check| check.role).collect();
    assert_eq!(roles, [CheckRole::Readiness, CheckRole::Liveness]);
    let expected = CheckSpecSummary { role: CheckRole::Readiness, times: [0, 10, 1, 0], counts: (3, 1) };
    assert_eq!(summary(&spec.checks[0]), expected);
    let tls = json!({"ca": "ca.pem", "server_name": "etcd", "certificate": "c.pem", "key": "k.pem"});
    let raw =
        json!({"host": "::1", "path": "/health?x=1", "headers": {"a": "b"}, "statuses": [204], "tls": tls});
    let spec = good(&http(raw));
    let Probe::Http(http) = &spec.checks[1].probe else { panic!("{spec:?}") };
    let trust = ProbeTrust::Authority { file: "ca.pem".into(), name: Some("etcd".to_owned()) };
    assert_eq!(http.tls, Some(ProbeTls { trust, client: Some(("c.pem".into(), "k.pem".into())) }));
    assert_eq!((http.path.as_str(), http.statuses.as_slice()), ("/health?x=1", &[204][..]));
    let spec = good(&check(json!({"http": null, "grpc": {"port": 9, "tls": {"unverified": true}}})));
    let Probe::Grpc(grpc) = &spec.checks[1].probe else { panic!("{spec:?}") };
    assert_eq!(grpc.service, "");
}

#[test]
fn restarts_dependencies_and_the_end_are_read() {
    let spec = good(&with(&json!({
        "restart": {"policy": "on-failure", "delay_seconds": 0, "limit": 5}, "depends_on": ["a", "b"], "essential": false,
        "kill_mode": "process", "depends_on_timeout_seconds": 1.5, "log": {"bytes": 4096, "files": 1},
    })));
    let seconds = Duration::from_secs;
    let backoff = Backoff { delay: seconds(0), max_delay: seconds(60), stable: seconds(600), limit: Some(5) };
    assert_eq!(spec.restart, RestartPolicy::OnFailure(backoff));
    assert_eq!(spec.depends_on, ["a", "b"].map(|name| TaskName(name.to_owned())));
    assert_eq!((spec.essential, spec.kill_mode), (Essential::No, KillMode::Process));
    assert_eq!(spec.depends_on_timeout, Duration::from_millis(1500));
    assert_eq!(spec.log, LogLimits { bytes: 4096, files: 1.try_into().unwrap() });
    let slow = good(&with(&json!({"restart": {"policy": "always", "delay_seconds": 120}})));
    let backoff = Backoff { delay: seconds(120), max_delay: seconds(120), stable: seconds(600), limit: None };
    assert_eq!(slow.restart, RestartPolicy::Always(backoff));
    let spec = good(&info(json!({
        "kill_policy": {"grace_period": {"nanoseconds": "500000000"}}, "max_completion_time": {"nanoseconds": 0},
    })));
    assert_eq!((spec.grace_period, spec.max_completion), (Duration::from_millis(500), None));
    let limited = good(&info(json!({"max_completion_time": {"nanoseconds": 1}})));
    assert_eq!(limited.max_completion, Some(Duration::from_nanos(1)));
}

#[test]
fn uris_are_extracted_by_their_names_as_mesos_does() {
    let fetched = |members: Value| good(&uri(members)).fetches.remove(0);
    let cases = [
        (json!({"value": "/opt/a.tar.gz"}), "", FetchForm::Archive(ArchiveKind::TarGzip)),
        (json!({"value": "file:///opt/a.tgz"}), "", FetchForm::Archive(ArchiveKind::TarGzip)),
        (json!({"value": "file:/opt/a.tar"}), "", FetchForm::Archive(ArchiveKind::Tar)),
        (json!({"value": "http://h/a.gz?x=1#y"}), "a", FetchForm::Archive(ArchiveKind::Gzip)),
        (json!({"value": "http://h/a.tar", "extract": false}), "a.tar", FetchForm::Plain),
        (json!({"value": "http://h/a.tar", "executable": true}), "a.tar", FetchForm::Executable),
        (json!({"value": "http://h/a.zip"}), "a.zip", FetchForm::Plain),
        (json!({"value": "http://h/.tar"}), ".tar", FetchForm::Plain),
        (json!({"value": "http://h/?id=1", "output_file": "./bin//x"}), "bin/x", FetchForm::Plain),
        (
            json!({"value": "http://h/blob", "output_file": "b/x.gz"}),
            "b/x",
            FetchForm::Archive(ArchiveKind::Gzip),
        ),
    ];
    for (members, target, form) in cases {
        let fetch = fetched(members.clone());
        assert_eq!(
            (fetch.target.to_str(), fetch.form, fetch.sha256),
            (Some(target), form, None),
            "{members}"
        );
    }
    assert_eq!(fetched(json!({"value": "file://localhost/a"})).source, FetchSource::File("/a".into()));
    assert_eq!(
        fetched(json!({"value": "HTTPS://h:8443/a?b#c"})).source,
        FetchSource::Http("https://h:8443/a?b".to_owned())
    );
}

#[test]
fn artifacts_come_after_uris_with_their_hash() {
    let spec = good(&artifact(json!({"extract": true, "path": "opt", "sha256": "Ff".repeat(32)})));
    let fetch = &spec.fetches[0];
    assert_eq!((fetch.sha256, fetch.form), (Some([0xff; 32]), FetchForm::Archive(ArchiveKind::TarGzip)));
    assert_eq!(fetch.target.to_str(), Some("opt"));
    assert_eq!(good(&artifact(json!({}))).fetches[0].form, FetchForm::Plain);
    assert_eq!(good(&artifact(json!({"executable": true}))).fetches[0].target.to_str(), Some("x.tar.gz"));
}

#[test]
fn a_task_is_identified_whatever_else_is_wrong() {
    let id = |text: &str| identify(text).map(|(id, name)| (id.value, name.0)).map_err(|error| error.field);
    let both = Ok(("t".to_owned(), "n".to_owned()));
    assert_eq!(id(r#"{"task_id": {"value": "t"}, "name": "n", "command": 7, "data": "%"}"#), both);
    assert_eq!(id(r#"{"task_id": {"value": "t"}, "name": 5}"#), Ok(("t".to_owned(), "t".to_owned())));
    assert_eq!(id(r#"{"task_id": 1}"#), Err("task_id.value".to_owned()));
    assert_eq!(id("{"), Err("task_id.value".to_owned()));
    assert_eq!(id(r#"{"task_id": {"value": ""}}"#), Err("task_id.value".to_owned()));
    let deep = format!("{}{}", "[".repeat(500), "]".repeat(500));
    for odd in [deep.as_str(), "\"\\ud800\"", "1e999"] {
        assert_eq!(
            id(&format!(r#"{{"x": {odd}, "task_id": {{"value": "t"}}, "name": "n"}}"#)),
            both,
            "{odd}"
        );
    }
}

#[test]
fn failures_of_startup_and_liveness_checks_may_have_a_grace_period() {
    for role in ["startup", "liveness"] {
        let check = json!({"role": role, "tcp": {"port": 1}, "grace_period_seconds": 7});
        let spec = good(&with(&json!({"checks": [check]})));
        assert_eq!(spec.checks[0].grace.as_secs(), 7, "{role}");
    }
}

#[test]
fn an_argument_of_the_longest_length_is_fine() {
    let longest = "x".repeat(131_071);
    good(&info(json!({"command": {"value": longest}})));
    good(&info(json!({"command": {"shell": false, "value": "a", "arguments": ["a", longest]}})));
}

#[derive(Debug, PartialEq)]
struct CheckSpecSummary {
    role: CheckRole,
    /// Delay, interval, timeout, grace in seconds.
    times: [u64; 4],
    counts: (u32, u32),
}

fn summary(check: &crate::spec::CheckSpec) -> CheckSpecSummary {
    let times = [check.delay, check.interval, check.timeout.unwrap_or_default(), check.grace];
    let counts = (check.failures.get(), check.successes.get());
    CheckSpecSummary { role: check.role, times: times.map(|time| time.as_secs()), counts }
}

fn local(port: u16) -> Address {
    Address { ip: "127.0.0.1".parse().unwrap(), port }
}
