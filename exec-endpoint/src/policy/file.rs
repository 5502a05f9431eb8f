//! The policy file: TOML to rules, with the place of everything that is wrong.

use std::ops::Range;

use glob::Pattern;
use serde::Deserialize;
use toml::Spanned;

use super::{FieldGlob, Name, Rule, TaskGlob, VERBS, Verb};

/// A policy file that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{line}:{column}: {sentence}")]
pub struct PolicyError {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// What is wrong, and what would be right.
    pub sentence: String,
}

/// The rules of a policy file.
pub(super) fn rules(text: &str) -> Result<Vec<Rule>, PolicyError> {
    let file: RawFile = toml::from_str(text)
        .map_err(|error| at(text, error.span().unwrap_or(0..0), one_line(error.message())))?;
    file.rule
        .into_iter()
        .map(|raw| {
            let span = raw.span();
            rule(raw.into_inner(), span).map_err(|Wrong(span, sentence)| at(text, span, sentence))
        })
        .collect()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    #[serde(default)]
    rule: Vec<Spanned<RawRule>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    #[serde(default)]
    users: Vec<Spanned<String>>,
    #[serde(default)]
    groups: Vec<Spanned<String>>,
    #[serde(default)]
    verbs: Vec<Spanned<String>>,
    #[serde(default)]
    tasks: Vec<Spanned<String>>,
    #[serde(default)]
    endpoint: Option<Spanned<bool>>,
    #[serde(default)]
    run_as: Vec<Spanned<String>>,
    #[serde(default)]
    environment: Vec<Spanned<String>>,
}

/// Where in the text, and the sentence.
struct Wrong(Range<usize>, String);

fn rule(raw: RawRule, span: Range<usize>) -> Result<Rule, Wrong> {
    let endpoint_at = raw.endpoint.as_ref().map(Spanned::span);
    let rule = Rule {
        users: all(raw.users, name)?,
        groups: all(raw.groups, name)?,
        verbs: all(raw.verbs, verb)?,
        tasks: all(raw.tasks, task)?,
        endpoint: raw.endpoint.is_some_and(Spanned::into_inner),
        run_as: all(raw.run_as, field)?,
        environment: all(raw.environment, variable)?,
    };
    let wrong = |sentence: &str| Err(Wrong(span.clone(), sentence.to_owned()));
    if rule.users.is_empty() && rule.groups.is_empty() {
        return wrong("the rule is for nobody: give it users or groups (\"*\" is everybody)");
    }
    if rule.verbs.is_empty() && rule.run_as.is_empty() && rule.environment.is_empty() {
        return wrong("the rule gives nothing: give it verbs, run_as or environment");
    }
    if rule.tasks.is_empty() && !rule.endpoint {
        return wrong("the rule is about no task: give it tasks (\"*\" is every task), or endpoint = true");
    }
    if rule.endpoint && !rule.verbs.contains(&Verb::Metrics) {
        return Err(Wrong(
            endpoint_at.unwrap_or(span),
            "endpoint = true is for the endpoint's own metrics: add \"metrics\" to verbs, or take it away"
                .into(),
        ));
    }
    Ok(rule)
}

fn all<T>(values: Vec<Spanned<String>>, parse: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, Wrong> {
    values
        .into_iter()
        .map(|value| parse(value.get_ref()).map_err(|sentence| Wrong(value.span(), sentence)))
        .collect()
}

fn name(text: &str) -> Result<Name, String> {
    match text {
        "*" => Ok(Name::Everybody),
        "" => Err("a name is empty".into()),
        text if text.contains('*') => {
            Err(format!("{text:?}: names of users and groups are no globs; only \"*\" alone is everybody"))
        }
        text => Ok(Name::Exactly(text.to_owned())),
    }
}

fn verb(text: &str) -> Result<Verb, String> {
    VERBS.into_iter().find(|verb| verb.name() == text).ok_or_else(|| {
        let names = VERBS.map(|verb| verb.name()).join(", ");
        format!("there is no verb {text:?}; there are {names}")
    })
}

/// The last two parts are the pod and the task, all before is the framework, whose name may have slashes of its own.
fn task(text: &str) -> Result<TaskGlob, String> {
    let mut parts = text.rsplitn(3, '/');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(task), None, None) => Ok(TaskGlob::Task(field(task)?)),
        (Some(task), Some(pod), Some(framework)) => {
            Ok(TaskGlob::Whole { framework: field(framework)?, pod: field(pod)?, task: field(task)? })
        }
        _ => Err(format!("{text:?} is neither TASK nor FRAMEWORK/POD/TASK")),
    }
}

fn variable(text: &str) -> Result<FieldGlob, String> {
    if text.contains('=') {
        return Err("environment holds names of variables, without = and value".into());
    }
    field(text)
}

fn field(text: &str) -> Result<FieldGlob, String> {
    if text.is_empty() {
        return Err("a name is empty".into());
    }
    Pattern::new(text).map(FieldGlob).map_err(|error| format!("{text:?} is no glob: {}", error.msg))
}

fn at(text: &str, span: Range<usize>, sentence: String) -> PolicyError {
    let before = text.get(..span.start).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    PolicyError {
        line: before.matches('\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
        sentence,
    }
}

fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}
