//! What a task asks of its container.

use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;

/// One resource limit of a container (`RLimitInfo.RLimit`): both values or neither (then unlimited).
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RLimit {
    /// `RLMT_NOFILE` and so on.
    #[serde(rename = "type")]
    pub kind: String,
    /// The hard limit.
    pub hard: Option<u64>,
    /// The soft limit.
    pub soft: Option<u64>,
}

/// The resource limits of a container.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RLimitInfo {
    /// Each limit.
    #[serde(default)]
    pub rlimits: Vec<RLimit>,
}

/// The terminal a container asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TtyInfo {
    /// Its size at the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window_size: Option<WindowSize>,
}

/// The size of a terminal in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowSize {
    /// Lines.
    pub rows: u32,
    /// Characters in a line.
    pub columns: u32,
}

/// What a container asks of Linux; only what a session may not have is read.
#[skip_serializing_none]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LinuxInfo {
    /// Whether it is in its parent's cgroups.
    pub share_cgroups: Option<bool>,
}

/// What a task asks of its container; images and volumes are not read.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ContainerInfo {
    /// `MESOS` or `DOCKER`.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Resource limits.
    pub rlimit_info: Option<RLimitInfo>,
    /// A terminal.
    pub tty_info: Option<TtyInfo>,
    /// What is Linux's own.
    pub linux_info: Option<LinuxInfo>,
}
