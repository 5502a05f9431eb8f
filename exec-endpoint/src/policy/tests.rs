use proptest::prelude::*;

use super::*;

const EXAMPLE: &str = r#"
[[rule]]
users = ["alice"]
groups = ["ops"]
verbs = ["list", "logs", "exec", "tty", "attach", "signal", "metrics"]
tasks = ["etcd-*", "kubernetes/web-0/*"]
run_as = ["nobody"]
environment = ["LC_*"]

[[rule]]
groups = ["readers"]
verbs = ["list", "logs"]
tasks = ["*"]

[[rule]]
users = ["prometheus"]
verbs = ["metrics"]
endpoint = true
"#;

fn who(user: &str, groups: &[&str]) -> Who {
    Who { user: user.into(), groups: groups.iter().map(|group| (*group).to_owned()).collect() }
}

fn target<'a>(framework: &'a str, pod: &'a str, task: &'a str) -> Target<'a> {
    Target { framework, pod, task }
}

fn allows(policy: &Policy, who: &Who, verb: &Verb, target: Option<Target<'_>>) -> bool {
    matches!(policy.decide(who, verb, target.as_ref()), Verdict::Allowed { .. })
}

fn error(text: &str) -> String {
    Policy::parse(text).unwrap_err().to_string()
}

fn tasks(globs: &str) -> Policy {
    Policy::parse(&format!("[[rule]]\nusers = [\"u\"]\nverbs = [\"list\"]\ntasks = [{globs}]\n")).unwrap()
}

fn all_verbs() -> Vec<Verb> {
    let more = ["nobody", "root", "65534", "nobody:root", ""].map(|user| Verb::RunAs(user.into()));
    let names = ["LC_ALL", "LC_", "PATH", "LC_A=x", "", "LD_PRELOAD"];
    VERBS.into_iter().chain(more).chain(names.map(|name| Verb::Environment(name.into()))).collect()
}

/// Every person x verb x task against what the file says in words.
#[test]
fn the_whole_table_is_as_the_file_says() {
    let policy = Policy::parse(EXAMPLE).unwrap();
    let people = [
        who("alice", &[]),
        who("alice", &["readers"]),
        who("bob", &["ops"]),
        who("bob", &["Ops", "op", "alice"]),
        who("ops", &[]),
        who("carol", &["readers"]),
        who("Alice", &[]),
        who("alice ", &[]),
        who("prometheus", &[]),
        who("mallory", &[]),
    ];
    let places = [
        Some(target("kubernetes", "etcd-0", "etcd-0-peer")),
        Some(target("other", "x", "etcd-")),
        Some(target("kubernetes", "web-0", "web-0-nginx")),
        Some(target("other", "web-0", "web-0-nginx")),
        Some(target("kubernetes", "web-1", "web-1-nginx")),
        Some(target("kubernetes/web-0", "x", "y")),
        Some(target("kubernetes", "web-0", "a/b")),
        Some(target("kubernetes", "a", "ETCD-0")),
        Some(target("", "", "")),
        None,
    ];
    let mut allowed = 0;
    for who in &people {
        for place in &places {
            for verb in all_verbs() {
                let first = who.user == "alice" || who.groups.contains(&"ops".to_owned());
                let ops_task = place.is_some_and(|place| {
                    place.task.starts_with("etcd-")
                        || (place.framework == "kubernetes"
                            && place.pod == "web-0"
                            && !place.task.contains('/'))
                });
                let ops_verb = match &verb {
                    Verb::RunAs(user) => user == "nobody",
                    Verb::Environment(name) => name.starts_with("LC_") && !name.contains('='),
                    _ => true,
                };
                let reader = who.groups.contains(&"readers".to_owned())
                    && place.is_some_and(|place| !place.task.contains('/'))
                    && matches!(verb, Verb::List | Verb::Logs);
                let scraper = who.user == "prometheus" && place.is_none() && verb == Verb::Metrics;
                let expected = first && ops_task && ops_verb || reader || scraper;
                assert_eq!(allows(&policy, who, &verb, *place), expected, "{who:?} {verb:?} {place:?}");
                allowed += usize::from(expected);
            }
        }
    }
    assert!(allowed > 50, "{allowed}");
}

#[test]
fn a_verdict_names_the_first_rule_that_gives_it() {
    let policy = Policy::parse(EXAMPLE).unwrap();
    let etcd = target("kubernetes", "etcd-0", "etcd-0-peer");
    let verdict = |who: &Who, verb| policy.decide(who, &verb, Some(&etcd));
    assert_eq!(verdict(&who("a", &["readers", "ops"]), Verb::Logs), Verdict::Allowed { rule: 0 });
    assert_eq!(verdict(&who("a", &["readers"]), Verb::Logs), Verdict::Allowed { rule: 1 });
}

#[test]
fn a_refusal_says_user_verb_and_task() {
    let policy = Policy::default();
    let etcd = target("kubernetes", "etcd-0", "etcd-0-peer");
    let refusal =
        |verb: Verb, target: Option<&Target<'_>>| match policy.decide(&who("bob", &[]), &verb, target) {
            Verdict::Refused(sentence) => sentence,
            allowed @ Verdict::Allowed { .. } => panic!("{allowed:?}"),
        };
    assert_eq!(
        refusal(Verb::Exec, Some(&etcd)),
        "bob may not exec in kubernetes/etcd-0/etcd-0-peer: there is no rule with the verb exec for it"
    );
    assert_eq!(
        refusal(Verb::RunAs("ro\not".into()), Some(&etcd)),
        "bob may not run as \"ro\\not\" in kubernetes/etcd-0/etcd-0-peer: there is no rule with run_as \"ro\\not\" for it"
    );
    assert_eq!(
        refusal(Verb::Metrics, None),
        "bob may not read the metrics of this endpoint: there is no rule with the verb metrics and endpoint = true"
    );
    for verb in all_verbs() {
        let sentence = refusal(verb.clone(), Some(&etcd));
        assert!(sentence.contains(verb.name()), "{sentence}");
    }
}

#[test]
fn a_variables_value_is_in_no_sentence() {
    let verb = Verb::Environment("A=hunter2".into());
    let Verdict::Refused(sentence) = Policy::default().decide(&who("u", &[]), &verb, None) else { panic!() };
    assert!(!sentence.contains("hunter2") && !verb.to_string().contains("hunter2"), "{sentence}");
}

#[test]
fn a_star_does_not_cross_a_slash() {
    let named = |globs: &str, framework: &str, pod: &str, task: &str| {
        allows(&tasks(globs), &who("u", &[]), &Verb::List, Some(target(framework, pod, task)))
    };
    assert!(named("\"*\"", "f", "p", "task"));
    assert!(!named("\"*\"", "f", "p", "a/b"));
    assert!(named("\"**\"", "f", "p", "a/b"));
    assert!(named("\"*/p/*\"", "f", "p", "t"));
    assert!(!named("\"*/p/*\"", "prod/f", "p", "t"));
    assert!(named("\"prod/*/p/*\"", "prod/f", "p", "t"));
    assert!(named("\"**/p/*\"", "prod/f", "p", "t"));
    assert!(!named("\"f/p/t\"", "f", "p", "t2"));
    assert!(!named("\"f/p/t\"", "x", "f/p", "t"));
    assert!(named("\"t?\"", "f", "p", "t2"));
    assert!(named("\"t[12]\"", "f", "p", "t2"));
    assert!(!named("\"t[!12]\"", "f", "p", "t2"));
    assert!(named("\".*\", \"x\"", "f", "p", ".hidden"));
}

#[test]
fn whoever_has_any_right_on_a_task_sees_it_and_nobody_else() {
    let policy = Policy::parse(EXAMPLE).unwrap();
    let etcd = target("kubernetes", "etcd-0", "etcd-0-peer");
    let web = target("kubernetes", "web-1", "web-1-nginx");
    assert!(policy.sees(&who("alice", &[]), &etcd));
    assert!(!policy.sees(&who("alice", &[]), &web));
    assert!(policy.sees(&who("x", &["readers"]), &web));
    assert!(!policy.sees(&who("prometheus", &[]), &etcd));
}

#[test]
fn everybody_is_a_star_alone() {
    let policy = Policy::parse("[[rule]]\ngroups = [\"*\"]\nverbs = [\"list\"]\ntasks = [\"*\"]\n").unwrap();
    let place = Some(target("f", "p", "t"));
    assert!(allows(&policy, &who("u", &["g"]), &Verb::List, place));
    assert!(!allows(&policy, &who("u", &[]), &Verb::List, place), "who is in no group is in none of \"*\"");
    let policy = Policy::parse("[[rule]]\nusers = [\"*\"]\nverbs = [\"list\"]\ntasks = [\"*\"]\n").unwrap();
    assert!(allows(&policy, &who("u", &[]), &Verb::List, place));
}

#[test]
fn everything_is_really_everything() {
    let policy = Policy::everything();
    for verb in all_verbs() {
        let has_name = !matches!(&verb, Verb::Environment(name) if !is_variable(name));
        for place in [Some(target("a/b", "c", "d/e")), Some(target("", "", "")), None] {
            assert_eq!(allows(&policy, &who("x", &[]), &verb, place), has_name, "{verb:?} {place:?}");
        }
    }
}

#[test]
fn what_is_wrong_is_named_with_line_and_column() {
    let rule = "[[rule]]\nusers = [\"u\"]\n";
    for (text, expected) in [
        ("[[rule]]\nusers = [\"u\"\nverbs = 1\n", "3:1: "),
        ("x = 1\n", "1:1: unknown field `x`, expected `rule`"),
        ("[[rule]]\nuser = [\"u\"]\n", "2:1: unknown field `user`, expected one of `users`"),
        ("[[rule]]\nusers = \"u\"\n", "2:9: invalid type: string \"u\", expected a sequence"),
        (
            &format!("{rule}verbs = [\"list\", \"exek\"]\ntasks = [\"*\"]\n"),
            "3:18: there is no verb \"exek\"; there are list,",
        ),
        (
            &format!("{rule}verbs = [\"list\"]\ntasks = [\"pod/task\"]\n"),
            "4:10: \"pod/task\" is neither TASK nor",
        ),
        (
            &format!("{rule}verbs = [\"list\"]\ntasks = [\"ä\", \"a[\"]\n"),
            "4:15: \"a[\" is no glob: invalid range pattern",
        ),
        (&format!("{rule}verbs = [\"list\"]\ntasks = [\"f//t\"]\n"), "4:10: a name is empty"),
        (&format!("{rule}verbs = [\"list\"]\n"), "1:1: the rule is about no task"),
        (&format!("{rule}tasks = [\"*\"]\n"), "1:1: the rule gives nothing"),
        ("[[rule]]\nverbs = [\"list\"]\ntasks = [\"*\"]\n", "1:1: the rule is for nobody"),
        (
            &format!("{rule}verbs = [\"exec\"]\nendpoint = true\n"),
            "4:12: endpoint = true is for the endpoint's own metrics",
        ),
        (
            &format!("{rule}environment = [\"A=hunter2\"]\ntasks = [\"*\"]\n"),
            "3:16: environment holds names of variables",
        ),
        ("[[rule]]\nusers = [\"al*\"]\n", "2:10: \"al*\": names of users and groups are no globs"),
        ("[[rule]]\nusers = [\"u\"]\nusers = [\"v\"]\n", "3:1: "),
    ] {
        let error = error(text);
        assert!(error.starts_with(expected), "{text:?}: {error}");
        assert!(!error.contains('\n') && !error.contains("hunter2"), "{error}");
    }
}

#[test]
fn no_rule_gives_nothing() {
    let policy = Policy::parse("# nobody\n").unwrap();
    for verb in all_verbs() {
        assert!(!allows(&policy, &who("root", &["wheel"]), &verb, Some(target("f", "p", "t"))));
        assert!(!allows(&policy, &who("root", &["wheel"]), &verb, None));
    }
}

#[test]
fn a_policy_that_everybody_can_write_is_refused() {
    let file = PolicyFile("/etc/policy.toml".into());
    let content = |mode| Content { path: file.0.clone(), bytes: EXAMPLE.into(), mode, owner: 0 };
    assert!(Policy::load(&file, &[content(0o644)]).is_ok());
    let error = Policy::load(&file, &[content(0o646)]).unwrap_err().to_string();
    assert!(error.contains("has mode 0646") && error.contains("chmod o-w"), "{error}");
}

#[test]
fn an_error_says_file_line_and_column() {
    let file = PolicyFile("/etc/policy.toml".into());
    let content = Content { path: file.0.clone(), bytes: b"\nx = 1\n".into(), mode: 0o644, owner: 0 };
    let error = Policy::load(&file, &[content]).unwrap_err().to_string();
    assert!(error.starts_with("/etc/policy.toml:2:1: unknown field"), "{error}");
}

fn names() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "b", "ab", "a/b", "c", "a-1"]).prop_map(str::to_owned)
}

fn whos() -> impl Strategy<Value = Who> {
    (names(), prop::collection::vec(names(), 0..3)).prop_map(|(user, groups)| Who { user, groups })
}

fn verbs() -> impl Strategy<Value = Verb> {
    prop_oneof![
        prop::sample::select(VERBS.to_vec()),
        names().prop_map(Verb::RunAs),
        names().prop_map(Verb::Environment),
    ]
}

/// A rule as text: any part may be missing, so that many are refused.
fn rule_texts() -> impl Strategy<Value = String> {
    let some = |values: &'static [&'static str]| {
        prop::collection::vec(prop::sample::select(values.to_vec()), 0..3)
            .prop_map(|list| format!("{list:?}"))
    };
    let people = ["a", "b", "*", "ab"].as_slice();
    let verbs = ["list", "logs", "exec", "tty", "attach", "signal", "metrics"].as_slice();
    let tasks = ["*", "a*", "**", "*/a/*", "a/b/c", "**/a/?", "[ab]"].as_slice();
    let parts = (
        some(people),
        some(people),
        some(verbs),
        some(tasks),
        some(&["*", "a", "**"]),
        some(&["a*", "b"]),
        any::<bool>(),
    );
    parts.prop_map(|(users, groups, verbs, tasks, run_as, environment, endpoint)| {
        format!(
            "[[rule]]\nusers = {users}\ngroups = {groups}\nverbs = {verbs}\ntasks = {tasks}\nrun_as = {run_as}\nenvironment = \
             {environment}\nendpoint = {endpoint}\n"
        )
    })
}

proptest! {
    #[test]
    fn adding_a_rule_never_takes_a_right_away(
        rules in prop::collection::vec(rule_texts(), 1..5),
        (who, verb) in (whos(), verbs()),
        (framework, pod, task, at_task) in (names(), names(), names(), any::<bool>()),
    ) {
        let good: Vec<_> = rules.into_iter().filter(|rule| Policy::parse(rule).is_ok()).collect();
        let place = at_task.then_some(target(&framework, &pod, &task));
        let mut before = false;
        for count in 0..=good.len() {
            let policy = Policy::parse(&good[..count].concat()).unwrap();
            let now = allows(&policy, &who, &verb, place);
            let one = good[..count].iter().any(|rule| allows(&Policy::parse(rule).unwrap(), &who, &verb, place));
            prop_assert!(now || !before);
            prop_assert_eq!(now, one, "a right is there when one rule alone gives it");
            if let (true, Some(place)) = (now, place) {
                prop_assert!(policy.sees(&who, &place));
            }
            before = now;
        }
    }

    #[test]
    fn any_text_is_a_policy_or_an_error_at_one_of_its_places(text in any::<String>()) {
        if let Err(error) = Policy::parse(&text) {
            prop_assert!(error.line >= 1 && error.column >= 1);
            prop_assert!(error.line <= text.matches('\n').count() + 1);
        }
    }

    #[test]
    fn any_rule_is_a_policy_or_an_error(field in "(users|verbs|tasks|run_as|environment)", value in any::<String>()) {
        let _ = Policy::parse(&format!("[[rule]]\nusers = [\"u\"]\nverbs = [\"list\"]\ntasks = [\"*\"]\n{field} = [{value:?}]\n"));
        let _ = Policy::parse(&format!("[[rule]]\n{field} = [{value:?}]\n"));
    }

    #[test]
    fn any_glob_over_any_name_ends(glob in "[a*?\\[\\]!/-]{0,12}", name in "[ab/]{0,30}") {
        if let Ok(glob) = Pattern::new(&glob) {
            let _ = FieldGlob(glob).matches(&name);
        }
    }
}
