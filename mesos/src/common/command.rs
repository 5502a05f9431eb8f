//! Commands, their environment, and how they are killed.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;

use super::value::DurationInfo;

/// One variable of an environment.
#[skip_serializing_none]
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// `VALUE` (also when unset) or `SECRET`.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Its value, unless it is a secret.
    pub value: Option<String>,
}

/// Values of an environment may be secrets: only names are shown.
impl fmt::Debug for Variable {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}=...", self.name)
    }
}

/// The environment of a command.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Environment {
    /// The variables in order; of two with one name the later counts.
    #[serde(default)]
    pub variables: Vec<Variable>,
}

/// A file to fetch into the sandbox before the command starts (`CommandInfo.URI`).
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uri {
    /// Where from: a path, `file:`, `http:` or `https:`.
    pub value: String,
    /// Make it executable (then it is not extracted).
    pub executable: Option<bool>,
    /// Extract it if it is an archive; true when unset.
    pub extract: Option<bool>,
    /// Keep it in the agent's cache.
    pub cache: Option<bool>,
    /// Its name in the sandbox; the last part of the path when unset.
    pub output_file: Option<String>,
}

/// A command to run (`CommandInfo`).
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CommandInfo {
    /// Files to fetch first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uris: Vec<Uri>,
    /// Its environment.
    pub environment: Option<Environment>,
    /// True when unset: `value` is for `/bin/sh -c`. False: `value` is the file and `arguments` all of argv.
    pub shell: Option<bool>,
    /// The shell's text, or the file to execute.
    pub value: Option<String>,
    /// The whole argv, the zeroth included, when not `shell`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub arguments: Vec<String>,
    /// Whom to run as.
    pub user: Option<String>,
}

/// How a task is to be killed.
#[skip_serializing_none]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct KillPolicy {
    /// The time between the first signal and SIGKILL.
    pub grace_period: Option<DurationInfo>,
}
