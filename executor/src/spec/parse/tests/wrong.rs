//! Each field with what it cannot be.

use super::*;

#[expect(clippy::too_many_lines, reason = "a table")]
fn wrong() -> Vec<(Value, &'static str)> {
    vec![
        // The task itself.
        (info(json!({"name": ""})), "name"),
        (info(json!({"name": 7})), "name"),
        (info(json!({"name": null})), "name"),
        (info(json!({"name": "a\u{0}b"})), "name"),
        (info(json!({"task_id": {"value": ""}})), "task_id.value"),
        (info(json!({"task_id": {"value": ".."}})), "task_id.value"),
        (info(json!({"task_id": {"value": "a/b"}})), "task_id.value"),
        (info(json!({"task_id": {"value": "x".repeat(256)}})), "task_id.value"),
        (info(json!({"task_id": {}})), "task_id.value"),
        (json!([]), "TaskInfo"),
        // The command.
        (info(json!({"command": null})), "command"),
        (with(&json!({"command": {"value": "x"}})), "data.command"),
        (info(json!({"command": {}})), "command.value"),
        (info(json!({"command": {"shell": false}})), "command.value"),
        (info(json!({"command": {"shell": false, "value": ""}})), "command.value"),
        (info(json!({"command": {"shell": "no", "value": "x"}})), "command.shell"),
        (info(json!({"command": {"value": "a\u{0}"}})), "command.value"),
        (
            info(json!({"command": {"value": "x", "shell": false, "arguments": ["x", "\u{0}"]}})),
            "command.arguments[1]",
        ),
        (info(json!({"command": {"value": "x".repeat(131_072)}})), "command.value"),
        (info(json!({"command": {"value": "x".repeat(131_072), "shell": false}})), "command.value"),
        (
            info(json!({"command": {"value": "x", "shell": false, "arguments": ["x", "y".repeat(131_072)]}})),
            "command.arguments[1]",
        ),
        (
            info(json!({"command": {"value": "x", "environment": {"variables": [
                {"name": "A", "value": ""}, {"name": "B", "value": "y".repeat(131_070)},
            ]}}})),
            "command.environment.variables[1]",
        ),
        (
            info(
                json!({"command": {"value": "x", "shell": false, "arguments": vec!["y".repeat(100_000); 20]}}),
            ),
            "command",
        ),
        (
            info(json!({"command": {"value": "x", "environment": {"variables": (0..20_000)
                .map(|n| json!({"name": format!("V{n}"), "value": "y".repeat(100)}))
                .collect::<Vec<_>>()}}})),
            "command",
        ),
        (info(json!({"command": {"value": "x", "user": ""}})), "command.user"),
        (info(json!({"command": {"value": "x", "user": "a:b"}})), "command.user"),
        (commanded(json!({"vlaue": "x"})), "data.command.vlaue"),
        (
            commanded(json!({"value": "x", "uris": [{"value": "/a", "extrac": true}]})),
            "data.command.uris[0].extrac",
        ),
        (
            commanded(json!({"value": "x", "environment": {"variable": []}})),
            "data.command.environment.variable",
        ),
        (
            commanded(json!({"value": "x", "environment": {"variables": [{"name": "A", "valeu": "x"}]}})),
            "data.command.environment.variables[0].valeu",
        ),
        // The environment.
        (
            info(
                json!({"command": {"value": "x", "environment": {"variables": [{"name": "", "value": "x"}]}}}),
            ),
            "command.environment.variables[0].name",
        ),
        (
            info(
                json!({"command": {"value": "x", "environment": {"variables": [{"name": "A=B", "value": "x"}]}}}),
            ),
            "command.environment.variables[0].name",
        ),
        (
            info(
                json!({"command": {"value": "x", "environment": {"variables": [{"name": "A", "type": "SECRET"}]}}}),
            ),
            "command.environment.variables[0].value",
        ),
        (
            info(json!({"command": {"value": "x", "environment": {"variables": [{"name": "A"}]}}})),
            "command.environment.variables[0].value",
        ),
        (
            info(
                json!({"command": {"value": "x", "environment": {"variables": [{"name": "A", "type": "X", "value": ""}]}}}),
            ),
            "command.environment.variables[0].type",
        ),
        // Resources and limits.
        (info(json!({"resources": [scalar("cpus", json!(-1))]})), "resources[0].scalar.value"),
        (info(json!({"resources": [scalar("disk", json!(-1))]})), "resources[0].scalar.value"),
        (info(json!({"resources": [scalar("cpus", json!("NaN"))]})), "resources[0].scalar.value"),
        (info(json!({"resources": [scalar("cpus", json!("Infinity"))]})), "resources[0].scalar.value"),
        (info(json!({"resources": [scalar("cpus", json!(2e6))]})), "resources[0].scalar.value"),
        (
            info(json!({"resources": [scalar("cpus", json!(6e5)), scalar("cpus", json!(6e5))]})),
            "resources[1].scalar.value",
        ),
        (info(json!({"resources": [scalar("mem", json!(1e10))]})), "resources[0].scalar.value"),
        (info(json!({"resources": [scalar("mem", json!("much"))]})), "resources[0].scalar.value"),
        (info(json!({"resources": [{"name": "mem", "type": "RANGES"}]})), "resources[0].type"),
        (info(json!({"resources": [{"name": "x", "type": "HEAP"}]})), "resources[0].type"),
        (info(json!({"resources": [{"name": "mem", "type": "SCALAR"}]})), "resources[0].scalar"),
        (info(json!({"limits": {"cpus": {"value": "-Infinity"}}})), "limits.cpus.value"),
        (info(json!({"limits": {"mem": {"value": -1}}})), "limits.mem.value"),
        (info(json!({"limits": {"disk": {"value": 1}}})), "limits.disk"),
        (
            info(json!({"resources": [scalar("mem", json!(64))], "limits": {"mem": {"value": 32}}})),
            "limits.mem.value",
        ),
        (with(&json!({"pids": 0})), "data.pids"),
        (with(&json!({"pids": 5_000_000})), "data.pids"),
        // The container.
        (info(json!({"container": {"type": "DOCKER"}})), "container.type"),
        (info(json!({"container": {"type": "LXC"}})), "container.type"),
        (
            info(json!({"container": {"type": "MESOS", "mesos": {"image": {"type": "DOCKER"}}}})),
            "container.mesos.image",
        ),
        (info(json!({"container": {"type": "MESOS", "docker": {"image": "x"}}})), "container.docker"),
        (info(json!({"container": {"volumes": [{"mode": "RW"}]}})), "container.volumes"),
        (
            info(json!({"container": {"linux_info": {"bounding_capabilities": {}}}})),
            "container.linux_info.bounding_capabilities",
        ),
        (
            info(json!({"container": {"tty_info": {"window_size": {"rows": 0, "columns": 80}}}})),
            "container.tty_info.window_size.rows",
        ),
        (
            info(json!({"container": {"tty_info": {"window_size": {"rows": 24, "columns": 65536}}}})),
            "container.tty_info.window_size.columns",
        ),
        (
            info(json!({"container": {"rlimit_info": {"rlimits": [{"type": "RLMT_NOFIL"}]}}})),
            "container.rlimit_info.rlimits[0].type",
        ),
        (
            info(json!({"container": {"rlimit_info": {"rlimits": [{"type": "nofile"}]}}})),
            "container.rlimit_info.rlimits[0].type",
        ),
        (
            info(json!({"container": {"rlimit_info": {"rlimits": [{"type": "RLMT_CORE", "soft": 1}]}}})),
            "container.rlimit_info.rlimits[0].hard",
        ),
        (
            info(
                json!({"container": {"rlimit_info": {"rlimits": [{"type": "RLMT_CORE", "soft": 2, "hard": 1}]}}}),
            ),
            "container.rlimit_info.rlimits[0].soft",
        ),
        (
            info(
                json!({"container": {"rlimit_info": {"rlimits": [{"type": "RLMT_CORE"}, {"type": "RLMT_CORE"}]}}}),
            ),
            "container.rlimit_info.rlimits[1].type",
        ),
        (with(&json!({"rlimits": {"nofil": {}}})), "data.rlimits.nofil"),
        (with(&json!({"rlimits": {"RLMT_NOFILE": {}}})), "data.rlimits.RLMT_NOFILE"),
        (with(&json!({"rlimits": {"core": {"soft": 2, "hard": 1}}})), "data.rlimits.core.soft"),
        (with(&json!({"rlimits": {"core": {"hard": 1}}})), "data.rlimits.core.soft"),
        (with(&json!({"rlimits": {"core": {"soft": -1}}})), "data.rlimits.core.soft"),
        // Identity.
        (with(&json!({"groups": ["a", ""]})), "data.groups[1]"),
        (with(&json!({"capabilities": {"bounding": ["NET_BIND"]}})), "data.capabilities.bounding[0]"),
        (
            with(&json!({"capabilities": {"bounding": ["CHOWN"], "ambient": ["KILL"]}})),
            "data.capabilities.ambient",
        ),
        (with(&json!({"no_new_privileges": "yes"})), "data.no_new_privileges"),
        (with(&json!({"umask": "8"})), "data.umask"),
        (with(&json!({"umask": "1777"})), "data.umask"),
        (with(&json!({"umask": ""})), "data.umask"),
        (with(&json!({"umask": "+22"})), "data.umask"),
        (with(&json!({"oom_score_adj": 1001})), "data.oom_score_adj"),
        (with(&json!({"oom_score_adj": -1001})), "data.oom_score_adj"),
        // Ending, restarting, waiting.
        (
            info(json!({"kill_policy": {"grace_period": {"nanoseconds": -1}}})),
            "kill_policy.grace_period.nanoseconds",
        ),
        (
            info(json!({"kill_policy": {"grace_period": {"nanoseconds": 1.5}}})),
            "kill_policy.grace_period.nanoseconds",
        ),
        (info(json!({"max_completion_time": {"nanoseconds": -5}})), "max_completion_time.nanoseconds"),
        (with(&json!({"kill_mode": "all"})), "data.kill_mode"),
        (with(&json!({"essential": "no"})), "data.essential"),
        (with(&json!({"restart": {"policy": "sometimes"}})), "data.restart.policy"),
        (with(&json!({"restart": {"limit": 0}})), "data.restart.limit"),
        (with(&json!({"restart": {"delay_seconds": -1}})), "data.restart.delay_seconds"),
        (
            with(&json!({"restart": {"delay_seconds": 2, "max_delay_seconds": 1}})),
            "data.restart.max_delay_seconds",
        ),
        (with(&json!({"restart": {"stable_seconds": 1e300}})), "data.restart.stable_seconds"),
        (with(&json!({"restart": {"delay": 2}})), "data.restart.delay"),
        (with(&json!({"depends_on": ["a", ""]})), "data.depends_on[1]"),
        (with(&json!({"depends_on": ["peer"]})), "data.depends_on[0]"),
        (with(&json!({"depends_on": ["a", "a"]})), "data.depends_on[1]"),
        (with(&json!({"depends_on_timeout_seconds": -0.5})), "data.depends_on_timeout_seconds"),
        (with(&json!({"log": {"bytes": 4095}})), "data.log.bytes"),
        (with(&json!({"log": {"files": 0}})), "data.log.files"),
        (with(&json!({"log": {"files": 101}})), "data.log.files"),
        // The data as such.
        (info(json!({"data": "%%%"})), "data"),
        (info(json!({"data": Blob(vec![0xff, 0xfe])})), "data"),
        (info(json!({"data": Blob(b"{".to_vec())})), "data"),
        (info(json!({"data": Blob(b"{} {}".to_vec())})), "data"),
        (info(json!({"data": Blob(b"[]".to_vec())})), "data"),
        (info(json!({"data": Blob(br#"{"pids": 1, "pids": 2}"#.to_vec())})), "data.pids"),
        (with(&json!({"depend_on": []})), "data.depend_on"),
        (with(&json!({"groups": ["a\u{0}"]})), "data.groups[0]"),
        // Mesos's health check.
        (health(json!({"type": null})), "health_check.type"),
        (health(json!({"type": "GRPC"})), "health_check.type"),
        (health(json!({"type": "TCP"})), "health_check.tcp"),
        (health(json!({"type": "COMMAND", "command": {}})), "health_check.command.value"),
        (health(json!({"http": {}})), "health_check.http.port"),
        (health(json!({"http": {"port": 0}})), "health_check.http.port"),
        (health(json!({"http": {"port": 65536}})), "health_check.http.port"),
        (health(json!({"http": {"port": 1, "path": "x"}})), "health_check.http.path"),
        (health(json!({"http": {"port": 1, "path": "/a b"}})), "health_check.http.path"),
        (health(json!({"http": {"port": 1, "scheme": "ftp"}})), "health_check.http.scheme"),
        (health(json!({"http": {"port": 1, "protocol": "IPX"}})), "health_check.http.protocol"),
        (health(json!({"delay_seconds": -1})), "health_check.delay_seconds"),
        (health(json!({"interval_seconds": 1e10})), "health_check.interval_seconds"),
        (health(json!({"timeout_seconds": -1})), "health_check.timeout_seconds"),
        (health(json!({"grace_period_seconds": -1})), "health_check.grace_period_seconds"),
        (health(json!({"consecutive_failures": -1})), "health_check.consecutive_failures"),
        // Mesos's check.
        (info(json!({"check": {}})), "check.type"),
        (info(json!({"check": {"type": "COMMAND"}})), "check.command"),
        (
            info(json!({"check": {"type": "COMMAND", "command": {"command": {}}}})),
            "check.command.command.value",
        ),
        (
            info(json!({"check": {"type": "HTTP", "http": {"port": 1, "scheme": "https"}}})),
            "check.http.scheme",
        ),
        (
            info(json!({"check": {"type": "HTTP", "http": {"port": 1, "protocol": "IPv6"}}})),
            "check.http.protocol",
        ),
        (info(json!({"check": {"type": "TCP", "tcp": {"port": 99999}}})), "check.tcp.port"),
        // Checks of the settings.
        (check(json!({"role": ""})), "data.checks[1].role"),
        (check(json!({"role": "livness"})), "data.checks[1].role"),
        (check(json!({"http": null})), "data.checks[1]"),
        (check(json!({"tcp": {"port": 1}})), "data.checks[1]"),
        (
            check(json!({"role": "readiness", "grace_period_seconds": 1})),
            "data.checks[1].grace_period_seconds",
        ),
        (
            check(json!({"http": null, "command": {"value": "x".repeat(131_072)}})),
            "data.checks[1].command.value",
        ),
        (check(json!({"failures": 0})), "data.checks[1].failures"),
        (check(json!({"successes": 2})), "data.checks[1].successes"),
        (check(json!({"interval_seconds": -1})), "data.checks[1].interval_seconds"),
        (check(json!({"interval": 1})), "data.checks[1].interval"),
        (check(json!({"http": null, "tcp": {}})), "data.checks[1].tcp.port"),
        (check(json!({"http": null, "grpc": {"port": 1, "host": "h"}})), "data.checks[1].grpc.host"),
        (
            check(json!({"http": null, "command": {"value": "x", "sehll": true}})),
            "data.checks[1].command.sehll",
        ),
        (check(json!({"http": null, "command": {"shell": false}})), "data.checks[1].command.value"),
        (http(json!({"port": 0})), "data.checks[1].http.port"),
        (http(json!({"port": 70000})), "data.checks[1].http.port"),
        (http(json!({"host": "localhost"})), "data.checks[1].http.host"),
        (http(json!({"path": ""})), "data.checks[1].http.path"),
        (http(json!({"headers": {"a b": "x"}})), "data.checks[1].http.headers.a b"),
        (http(json!({"headers": {"x-token": "line\nline"}})), "data.checks[1].http.headers.x-token"),
        (http(json!({"statuses": [200, 99]})), "data.checks[1].http.statuses[1]"),
        (http(json!({"tls": {}})), "data.checks[1].http.tls"),
        (http(json!({"tls": {"ca": "a", "unverified": true}})), "data.checks[1].http.tls.unverified"),
        (http(json!({"tls": {"ca": ""}})), "data.checks[1].http.tls.ca"),
        (http(json!({"tls": {"ca": "a", "server_name": "?"}})), "data.checks[1].http.tls.server_name"),
        (
            http(json!({"tls": {"unverified": true, "server_name": "a"}})),
            "data.checks[1].http.tls.server_name",
        ),
        (http(json!({"tls": {"ca": "a", "key": "k"}})), "data.checks[1].http.tls.certificate"),
        (http(json!({"tls": {"ca": "a", "certificate": "c"}})), "data.checks[1].http.tls.key"),
        // What is fetched.
        (uri(json!({})), "command.uris[0].value"),
        (uri(json!({"value": ""})), "command.uris[0].value"),
        (uri(json!({"value": "relative"})), "command.uris[0].value"),
        (uri(json!({"value": "hdfs://h/x"})), "command.uris[0].value"),
        (uri(json!({"value": "ftp://h/x"})), "command.uris[0].value"),
        (uri(json!({"value": "s3://h/x"})), "command.uris[0].value"),
        (uri(json!({"value": "file:x"})), "command.uris[0].value"),
        (uri(json!({"value": "file://host"})), "command.uris[0].value"),
        (uri(json!({"value": "http://h/"})), "command.uris[0].value"),
        (uri(json!({"value": "http:///x"})), "command.uris[0].value"),
        (uri(json!({"value": "http://h:0/x"})), "command.uris[0].value"),
        (uri(json!({"value": "http://h:99999/x"})), "command.uris[0].value"),
        (uri(json!({"value": "http://me:secret@h/x"})), "command.uris[0].value"),
        (uri(json!({"value": "/x", "output_file": "../x"})), "command.uris[0].output_file"),
        (uri(json!({"value": "/x", "output_file": "/x"})), "command.uris[0].output_file"),
        (uri(json!({"value": "/x", "output_file": ""})), "command.uris[0].output_file"),
        (artifact(json!({"sha256": ""})), "data.artifacts[0].sha256"),
        (artifact(json!({"sha256": "g".repeat(64)})), "data.artifacts[0].sha256"),
        (artifact(json!({"sha256": "0".repeat(63)})), "data.artifacts[0].sha256"),
        (artifact(json!({"url": "gopher://h/x"})), "data.artifacts[0].url"),
        (artifact(json!({"path": "a/../../b"})), "data.artifacts[0].path"),
        (artifact(json!({"extract": true, "executable": true})), "data.artifacts[0].executable"),
        (artifact(json!({"url": "http://h/x.zip", "extract": true})), "data.artifacts[0].extract"),
        (artifact(json!({"sha": "0"})), "data.artifacts[0].sha"),
    ]
}

#[test]
fn every_wrong_field_is_named() {
    let cases = wrong();
    assert!(cases.len() >= 80);
    for (info, field) in cases {
        let result = parse(&info.to_string());
        assert_eq!(result.as_ref().map_err(|error| error.field.as_str()), Err(field), "{result:?}");
        let error = result.unwrap_err();
        assert!(!error.allowed.is_empty() && !error.value.is_empty(), "{error}");
        assert!(error.value.chars().count() <= 120, "{error}");
    }
}

#[test]
fn messages_say_what_was_meant_and_hide_what_is_secret() {
    let text = |info: &Value| parse(&info.to_string()).unwrap_err().to_string();
    assert_eq!(
        text(&with(&json!({"depend_on": []}))),
        "data.depend_on: a list of 0: unknown field; did you mean `depends_on`?"
    );
    assert_eq!(
        text(&with(&json!({"rlimits": {"nofil": {}}}))),
        "data.rlimits.nofil: \"nofil\": must be a resource limit like nofile; did you mean `nofile`?"
    );
    assert_eq!(text(&http(json!({"port": 0}))), "data.checks[1].http.port: 0: must be from 1 to 65535");
    assert_eq!(text(&health(json!({"http": {}}))), "health_check.http.port: nothing: must be set");
    let secret =
        commanded(json!({"value": "x", "environment": {"variables": [{"name": "A", "value": 4711}]}}));
    assert!(!text(&secret).contains("4711"), "{}", text(&secret));
    let misspelt =
        commanded(json!({"value": "x", "enviroment": {"variables": [{"name": "A", "value": "hunter2"}]}}));
    assert!(!text(&misspelt).contains("hunter2"), "{}", text(&misspelt));
    assert!(!text(&uri(json!({"value": "http://me:secret@h/x"}))).contains("secret@"));
}
