//! Whatever comes, it is a task or an error.

use proptest::prelude::*;

use super::*;
use crate::spec::parse::identify;

/// Any JSON, not deep.
fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        prop::sample::select(vec![
            "COMMAND",
            "HTTP",
            "SCALAR",
            "Infinity",
            "NaN",
            "MESOS",
            "RLMT_CORE",
            "http://h:/x"
        ])
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        let names = prop::sample::select(vec![
            "value",
            "name",
            "type",
            "port",
            "http",
            "tcp",
            "command",
            "scalar",
            "uris",
            "environment",
            "variables",
            "nanoseconds",
            "rlimits",
            "policy",
            "role",
            "soft",
            "url",
            "cpus",
            "window_size",
            "rows",
        ]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(names, inner, 0..5).prop_map(|members| members
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect()),
        ]
    })
}

proptest! {
    #[test]
    fn no_value_in_any_field_makes_it_panic(
        field in prop::sample::select(vec![
            "name", "task_id", "resources", "limits", "command", "container", "health_check", "check", "kill_policy",
            "data", "max_completion_time", "executor",
        ]),
        value in anything(),
    ) {
        let mut task = info(json!({}));
        task[field] = value;
        let _ = parse(&task.to_string());
        let _ = identify(&task.to_string());
    }

    #[test]
    fn no_settings_make_it_panic(
        field in prop::sample::select(vec![
            "command", "groups", "capabilities", "rlimits", "umask", "oom_score_adj", "pids", "restart", "depends_on",
            "essential", "kill_mode", "log", "checks", "artifacts",
        ]),
        value in anything(),
    ) {
        let mut settings = json!({});
        settings[field] = value;
        let _ = parse(&with(&settings).to_string());
    }

    #[test]
    fn no_text_makes_it_panic(text in ".{0,200}") {
        let _ = parse(&text);
        let _ = identify(&text);
        let _ = parse(&uri(json!({"value": text, "output_file": text})).to_string());
        let _ = parse(&with(&json!({"artifacts": [{"url": text, "sha256": text, "path": text}]})).to_string());
    }
}
