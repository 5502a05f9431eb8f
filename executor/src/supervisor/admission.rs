//! Tasks as the agent delivered them, checked or refused: nothing of a task that is wrong is ever started.

use std::collections::HashMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::Launched;
use crate::agent::{Delivered, Text};
use crate::process::account::{self, Unknown};
use crate::spec::field::{Field, replaced};
use crate::spec::{self, Identity, SpecError, TaskSpec};

/// Checks the tasks of one launch. `executor` is what is wrong with the executor itself, if anything is: no task can run
/// in it. A task without an id cannot even be reported: it is logged.
pub fn admit(tasks: &[Delivered], executor: Option<&SpecError>) -> Vec<Launched> {
    let mut accounts = Accounts::default();
    tasks.iter().filter_map(|task| one(task, executor, &mut accounts)).collect()
}

fn one(task: &Delivered, executor: Option<&SpecError>, accounts: &mut Accounts) -> Option<Launched> {
    match check(task, executor, accounts) {
        Ok(spec) => Some(Launched::Valid(Box::new(spec))),
        Err(error) => match spec::identify(task.raw.get()) {
            Ok((id, name)) => Some(Launched::Invalid { id, name, error }),
            Err(worse) => {
                tracing::error!(%error, %worse, "a task without an id was delivered");
                None
            }
        },
    }
}

fn check(
    task: &Delivered,
    executor: Option<&SpecError>,
    accounts: &mut Accounts,
) -> Result<TaskSpec, SpecError> {
    if let Some(error) = executor {
        return Err(error.clone());
    }
    let raw = task.raw.get();
    if task.text == Text::Repaired
        && let Some(error) = replaced(raw)
    {
        return Err(error);
    }
    let spec = spec::parse(raw)?;
    match accounts.unknown(&spec.identity) {
        None => Ok(spec),
        Some(Unknown::User(name)) => {
            Err(user_field(raw).error(name, "must be a user of this host, or a number"))
        }
        Some(Unknown::Group { index, name }) => Err(Field::new("data.groups")
            .index(*index)
            .error(name, "must be a group of this host, or a number")),
    }
}

/// What lookups of one launch found: its tasks mostly ask for the same.
#[derive(Default)]
struct Accounts(HashMap<(Option<String>, Vec<String>), Option<Unknown>>);

impl Accounts {
    fn unknown(&mut self, identity: &Identity) -> Option<&Unknown> {
        let key = (identity.user.clone(), identity.groups.clone());
        self.0.entry(key).or_insert_with(|| account::unknown(identity)).as_ref()
    }
}

/// A command is in the `TaskInfo` or in its data, never in both.
fn user_field(raw: &str) -> Field {
    #[derive(Deserialize)]
    struct Outer {
        command: Option<IgnoredAny>,
    }
    let outer = serde_json::from_str::<Outer>(raw).is_ok_and(|outer| outer.command.is_some());
    Field::new(if outer { "command.user" } else { "data.command.user" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn delivered(task: &str, text: Text) -> Delivered {
        Delivered { raw: serde_json::value::RawValue::from_string(task.to_owned()).unwrap(), text }
    }

    fn task(more: &Value) -> String {
        let mut task = json!({
            "name": "a", "task_id": {"value": "a"}, "agent_id": {"value": "s"}, "command": {"value": "true"},
        });
        task.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        task.to_string()
    }

    fn refusal(task: &str, text: Text) -> String {
        match admit(&[delivered(task, text)], None).as_slice() {
            [Launched::Invalid { id, error, .. }] if id.as_str() == "a" => error.to_string(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn whatever_no_json_value_can_hold_is_the_error_of_its_task() {
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        for wrong in [deep.as_str(), r#""\ud800""#, "1e999"] {
            let raw = format!(
                r#"{{"name":"a","task_id":{{"value":"a"}},"agent_id":{{"value":"s"}},"labels":{wrong}}}"#
            );
            let text = refusal(&raw, Text::AsSent);
            assert!(text.starts_with("TaskInfo: ") && text.contains("must be JSON"), "{wrong}: {text}");
        }
    }

    #[test]
    fn only_a_task_whose_own_text_was_repaired_is_refused_for_it() {
        let broken = task(&json!({"command": {"value": "echo \u{fffd}"}}));
        assert_eq!(
            refusal(&broken, Text::Repaired),
            "command.value: \"echo \u{fffd}\": must be UTF-8: the bytes that are not show as \u{fffd}"
        );
        assert!(matches!(admit(&[delivered(&broken, Text::AsSent)], None)[..], [Launched::Valid(_)]));
        let whole = task(&json!({}));
        assert!(matches!(admit(&[delivered(&whole, Text::Repaired)], None)[..], [Launched::Valid(_)]));
    }

    #[test]
    fn an_account_that_is_not_there_is_named_with_its_field() {
        let data = |settings: Value| {
            serde_json::to_value(mesos::common::Blob(settings.to_string().into_bytes())).unwrap()
        };
        let user = task(&json!({"command": {"value": "true", "user": "nemo"}}));
        assert_eq!(
            refusal(&user, Text::AsSent),
            "command.user: \"nemo\": must be a user of this host, or a number"
        );
        let inner = data(json!({"command": {"value": "true", "user": "nemo"}}));
        let inner = task(&json!({"command": null, "data": inner}));
        assert!(refusal(&inner, Text::AsSent).starts_with("data.command.user: \"nemo\""));
        let groups = task(&json!({"data": data(json!({"groups": ["4242", "nemo"]}))}));
        assert_eq!(
            refusal(&groups, Text::AsSent),
            "data.groups[1]: \"nemo\": must be a group of this host, or a number"
        );
    }

    #[test]
    fn what_is_wrong_with_the_executor_is_wrong_with_each_of_its_tasks() {
        let error = Field::new("ExecutorInfo.data.name").error("a b", "must be one word");
        let launched = admit(&[delivered(&task(&json!({})), Text::AsSent)], Some(&error));
        assert!(matches!(&launched[..], [Launched::Invalid { error: told, .. }] if *told == error));
    }
}
