//! Who may do what to which task: pure. What the file says is in `docs/policy.md`.
//!
//! ```text
//!  policy.toml -> Policy::parse -> Policy { rules } -> decide(who, verb, target) -> Allowed { rule } | Refused(sentence)
//! ```
//! A right is there when one rule gives it: rules only add. No rule, no right.

mod file;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;

use glob::{MatchOptions, Pattern};

pub use self::file::PolicyError;
use crate::identity::Who;
use crate::reload::{Content, ReadError, Reloadable};

/// What somebody wants to do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    /// See that it exists, and its state.
    List,
    /// Read its output.
    Logs,
    /// Attach to its output and input.
    Attach,
    /// Start a process in it.
    Exec,
    /// Have a terminal.
    Tty,
    /// Send it a signal, or one to a process started in it.
    Signal,
    /// Read what it uses, and the endpoint's own metrics.
    Metrics,
    /// Start a process as this user, not its own.
    RunAs(String),
    /// Set this variable (a name).
    Environment(String),
}

/// The verbs that a rule's `verbs` may name.
pub const VERBS: [Verb; 7] =
    [Verb::List, Verb::Logs, Verb::Attach, Verb::Exec, Verb::Tty, Verb::Signal, Verb::Metrics];

impl Verb {
    /// Its name in the policy file: of `verbs`, or the key that gives it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Logs => "logs",
            Self::Attach => "attach",
            Self::Exec => "exec",
            Self::Tty => "tty",
            Self::Signal => "signal",
            Self::Metrics => "metrics",
            Self::RunAs(_) => "run_as",
            Self::Environment(_) => "environment",
        }
    }
}

/// As the audit shows it: `exec`, `run_as nobody`, `environment LC_ALL`. Of a variable never more than the name.
impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RunAs(user) => write!(f, "run_as {user}"),
            Self::Environment(name) => write!(f, "environment {}", name_only(name)),
            plain => f.write_str(plain.name()),
        }
    }
}

/// The task that it is wanted of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target<'a> {
    /// The framework's name: what Kubernetes clients see as the namespace.
    pub framework: &'a str,
    /// The pod instance.
    pub pod: &'a str,
    /// The task's name.
    pub task: &'a str,
}

impl fmt::Display for Target<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.framework, self.pod, self.task)
    }
}

/// What a policy says to one verb.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is allowed.
    Allowed {
        /// By this rule: its place in the file, from 0. The first one that gives it.
        rule: usize,
    },
    /// It is not. The sentence names the user, the verb and what was asked for, and nothing else.
    Refused(String),
}

/// The rules. [`Policy::default`] has none: nobody may do anything.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    rules: Vec<Rule>,
}

impl Policy {
    /// Parses a policy file.
    ///
    /// # Errors
    /// [`PolicyError`]: where, and what is wrong.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        Ok(Self { rules: file::rules(text)? })
    }

    /// Whether somebody may do one thing; `None` is the endpoint itself.
    pub fn decide(&self, who: &Who, verb: &Verb, target: Option<&Target<'_>>) -> Verdict {
        match self.rules.iter().position(|rule| rule.gives(who, verb, target)) {
            Some(rule) => Verdict::Allowed { rule },
            None => Verdict::Refused(refusal(who, verb, target)),
        }
    }

    /// Whether somebody may do anything at all to a task. To those who may not, it is as if it did not exist.
    pub fn sees(&self, who: &Who, target: &Target<'_>) -> bool {
        self.rules.iter().any(|rule| rule.is_for(who) && rule.is_about(Some(target)))
    }

    /// One rule that gives everything to everybody: for tests.
    pub(crate) fn everything() -> Self {
        let anything = || FieldGlob(Pattern::new("**").unwrap_or_default());
        Self {
            rules: vec![Rule {
                users: vec![Name::Everybody],
                groups: Vec::new(),
                verbs: VERBS.to_vec(),
                tasks: vec![TaskGlob::Task(anything())],
                endpoint: true,
                run_as: vec![anything()],
                environment: vec![anything()],
            }],
        }
    }
}

/// Some people, some verbs, some tasks. It gives all of these verbs on all of these tasks to all of these people. The parser makes sure
/// that none of the three is empty.
#[derive(Debug, Clone)]
struct Rule {
    users: Vec<Name>,
    groups: Vec<Name>,
    verbs: Vec<Verb>,
    tasks: Vec<TaskGlob>,
    endpoint: bool,
    run_as: Vec<FieldGlob>,
    environment: Vec<FieldGlob>,
}

impl Rule {
    fn gives(&self, who: &Who, verb: &Verb, target: Option<&Target<'_>>) -> bool {
        self.is_for(who) && self.is_about(target) && self.has(verb)
    }

    fn is_for(&self, who: &Who) -> bool {
        self.users.iter().any(|name| name.is(&who.user))
            || self.groups.iter().any(|name| who.groups.iter().any(|group| name.is(group)))
    }

    fn is_about(&self, target: Option<&Target<'_>>) -> bool {
        target.map_or(self.endpoint, |target| self.tasks.iter().any(|glob| glob.matches(target)))
    }

    fn has(&self, verb: &Verb) -> bool {
        match verb {
            Verb::RunAs(user) => self.run_as.iter().any(|glob| glob.matches(user)),
            Verb::Environment(name) => {
                is_variable(name) && self.environment.iter().any(|glob| glob.matches(name))
            }
            plain => self.verbs.contains(plain),
        }
    }
}

/// A user or a group of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Name {
    /// `*`.
    Everybody,
    /// This one, to the letter.
    Exactly(String),
}

impl Name {
    fn is(&self, name: &str) -> bool {
        match self {
            Self::Everybody => true,
            Self::Exactly(exactly) => exactly == name,
        }
    }
}

/// Which tasks. The parts are matched one by one: a name with a slash in it cannot be taken for two.
#[derive(Debug, Clone)]
enum TaskGlob {
    /// The task's name, in any pod of any framework.
    Task(FieldGlob),
    /// All three.
    Whole { framework: FieldGlob, pod: FieldGlob, task: FieldGlob },
}

impl TaskGlob {
    fn matches(&self, target: &Target<'_>) -> bool {
        match self {
            Self::Task(task) => task.matches(target.task),
            Self::Whole { framework, pod, task } => {
                framework.matches(target.framework) && pod.matches(target.pod) && task.matches(target.task)
            }
        }
    }
}

/// A glob over one name. `*` does not cross a slash.
#[derive(Debug, Clone)]
struct FieldGlob(Pattern);

impl FieldGlob {
    fn matches(&self, name: &str) -> bool {
        const OPTIONS: MatchOptions = MatchOptions {
            case_sensitive: true,
            require_literal_separator: true,
            require_literal_leading_dot: false,
        };
        self.0.matches_with(name, OPTIONS)
    }
}

/// Whether a variable may have this name (`environ(7)`).
fn is_variable(name: &str) -> bool {
    !name.is_empty() && !name.contains(['=', '\0'])
}

/// What stands before an `=`: nobody's mistake may bring a value into a log.
fn name_only(name: &str) -> &str {
    name.split('=').next().unwrap_or_default()
}

fn refusal(who: &Who, verb: &Verb, target: Option<&Target<'_>>) -> String {
    let user = &who.user;
    let (wish, right) = match verb {
        Verb::RunAs(other) => (format!("run as {other:?} in"), format!("with run_as {other:?}")),
        Verb::Environment(name) => {
            let name = name_only(name);
            (format!("set {name:?} in"), format!("with environment {name:?}"))
        }
        Verb::List => ("list".into(), "with the verb list".into()),
        Verb::Logs => ("read the logs of".into(), "with the verb logs".into()),
        Verb::Attach => ("attach to".into(), "with the verb attach".into()),
        Verb::Exec => ("exec in".into(), "with the verb exec".into()),
        Verb::Tty => ("have a tty in".into(), "with the verb tty".into()),
        Verb::Signal => ("signal".into(), "with the verb signal".into()),
        Verb::Metrics => ("read the metrics of".into(), "with the verb metrics".into()),
    };
    match target {
        Some(target) => format!("{user} may not {wish} {target}: there is no rule {right} for it"),
        None => {
            format!("{user} may not {wish} this endpoint: there is no rule {right} and endpoint = true")
        }
    }
}

/// Where the policy is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyFile(pub PathBuf);

/// Why a policy was not loaded.
#[derive(Debug, thiserror::Error)]
pub enum PolicyLoadError {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It is not a policy.
    #[error("{}:{source}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where, and what is wrong.
        source: PolicyError,
    },
    /// Everybody on this host can change it.
    #[error("{} has mode {mode:04o}: others may write it, so it says nothing; chmod o-w it", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

impl Reloadable for Policy {
    type Files = PolicyFile;
    type Error = PolicyLoadError;
    const NAME: &'static str = "policy";

    fn paths(files: &PolicyFile) -> Vec<PathBuf> {
        vec![files.0.clone()]
    }

    fn load(_: &PolicyFile, contents: &[Content]) -> Result<Self, PolicyLoadError> {
        let [content] = Content::all(contents)?;
        let path = || content.path.clone();
        if content.mode & 0o002 != 0 {
            return Err(PolicyLoadError::Open { path: path(), mode: content.mode });
        }
        Self::parse(content.text()?).map_err(|source| PolicyLoadError::Parse { path: path(), source })
    }
}
