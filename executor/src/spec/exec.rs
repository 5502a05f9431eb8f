//! What may be done in a task from outside, whatever the exec endpoint's own policy allows.

use std::collections::BTreeSet;

/// What may be done in a task from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecRights {
    /// Whether processes may be started in it, and its input be attached to.
    pub start: Permission,
    /// Whether such a process may have a terminal.
    pub terminal: Permission,
    /// As whom such a process may run, besides the task's own user.
    pub users: Users,
    /// Which variables the caller may set, besides `TERM`.
    pub environment: Vec<NamePattern>,
    /// Which signals may be sent to it and to such processes.
    pub signals: Signals,
}

impl Default for ExecRights {
    fn default() -> Self {
        Self {
            start: Permission::Allowed,
            terminal: Permission::Allowed,
            users: Users::Listed(Vec::new()),
            environment: Vec::new(),
            signals: Signals::Any,
        }
    }
}

/// Whether something may be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    /// It may.
    Allowed,
    /// It may not.
    Forbidden,
}

/// As whom processes may be started, besides the task's own user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Users {
    /// Anybody.
    Any,
    /// These, by name or number.
    Listed(Vec<String>),
}

/// Names of variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamePattern {
    /// This one.
    Exactly(String),
    /// All that begin so; the empty beginning is everybody's.
    Beginning(String),
}

impl NamePattern {
    /// Whether this name is one of them.
    pub fn matches(&self, name: &str) -> bool {
        match self {
            Self::Exactly(one) => name == one,
            Self::Beginning(beginning) => name.starts_with(beginning.as_str()),
        }
    }
}

/// Which signals may be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signals {
    /// Every one.
    Any,
    /// These, by number.
    Listed(BTreeSet<i32>),
}

/// Whether a variable can have this name in every shell: letters, digits and `_`, no digit first.
pub fn is_variable_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first == b'_' || first.is_ascii_alphabetic())
        && bytes.all(|byte| byte == b'_' || byte.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_a_name_or_a_beginning() {
        assert!(NamePattern::Exactly("LANG".to_owned()).matches("LANG"));
        assert!(!NamePattern::Exactly("LANG".to_owned()).matches("LANGUAGE"));
        assert!(NamePattern::Beginning("LC_".to_owned()).matches("LC_ALL"));
        assert!(!NamePattern::Beginning("LC_".to_owned()).matches("XLC_ALL"));
        assert!(NamePattern::Beginning(String::new()).matches("ANY"));
    }

    #[test]
    fn a_variables_name_is_what_every_shell_takes() {
        assert!(["A", "_", "a1_B"].into_iter().all(is_variable_name));
        assert!(!["", "1A", "A-B", "A=B", "Ä", "A B", "A\0"].into_iter().any(is_variable_name));
    }
}
