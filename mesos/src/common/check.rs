//! Health checks, checks, and what they saw.

use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;

use super::command::CommandInfo;
use super::named::{CheckType, NetworkProtocol, Open};

/// The HTTP part of a health check or check.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpCheckInfo {
    /// `http` (also when unset) or `https`; health checks only.
    pub scheme: Option<String>,
    /// The address family; health checks only.
    pub protocol: Option<Open<NetworkProtocol>>,
    /// The port inside the task's network.
    pub port: u32,
    /// The path, `/` when unset.
    pub path: Option<String>,
    /// Status codes that count as healthy; 200 to 399 when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub statuses: Vec<u32>,
}

/// The TCP part of a health check or check.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TcpCheckInfo {
    /// The address family; health checks only.
    pub protocol: Option<Open<NetworkProtocol>>,
    /// The port inside the task's network.
    pub port: u32,
}

/// A health check: failures in a row end the task (`HealthCheck`).
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HealthCheck {
    /// The kind; the field of that kind must be there.
    #[serde(rename = "type")]
    pub kind: Option<Open<CheckType>>,
    /// Seconds before the first check; 15 when unset.
    pub delay_seconds: Option<f64>,
    /// Seconds from the end of a check to the next; 10 when unset.
    pub interval_seconds: Option<f64>,
    /// Seconds a check may take; 20 when unset, 0 for no limit.
    pub timeout_seconds: Option<f64>,
    /// Failures in a row that end the task; 3 when unset.
    pub consecutive_failures: Option<u32>,
    /// Seconds from the start in which failures do not count; 10 when unset.
    pub grace_period_seconds: Option<f64>,
    /// The command of a COMMAND check.
    pub command: Option<CommandInfo>,
    /// The request of an HTTP check.
    pub http: Option<HttpCheckInfo>,
    /// The connection of a TCP check.
    pub tcp: Option<TcpCheckInfo>,
}

/// The command of a generalized check, nested twice on the wire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckCommand {
    /// The command.
    pub command: CommandInfo,
}

/// A generalized check: its value is reported and ends nothing (`CheckInfo`).
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckInfo {
    /// The kind; the field of that kind must be there.
    #[serde(rename = "type")]
    pub kind: Option<Open<CheckType>>,
    /// Seconds before the first check; 15 when unset.
    pub delay_seconds: Option<f64>,
    /// Seconds from the end of a check to the next; 10 when unset.
    pub interval_seconds: Option<f64>,
    /// Seconds a check may take; 20 when unset, 0 for no limit.
    pub timeout_seconds: Option<f64>,
    /// The command of a COMMAND check.
    pub command: Option<CheckCommand>,
    /// The request of an HTTP check.
    pub http: Option<HttpCheckInfo>,
    /// The connection of a TCP check.
    pub tcp: Option<TcpCheckInfo>,
}

/// The last result of a generalized check. The field of its kind is there from the beginning, empty until a result is.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckStatusInfo {
    /// The kind of the check.
    #[serde(rename = "type")]
    pub kind: Open<CheckType>,
    /// Of a COMMAND check.
    pub command: Option<CommandCheckStatus>,
    /// Of an HTTP check.
    pub http: Option<HttpCheckStatus>,
    /// Of a TCP check.
    pub tcp: Option<TcpCheckStatus>,
}

/// The last result of a COMMAND check.
#[skip_serializing_none]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CommandCheckStatus {
    /// The exit code.
    pub exit_code: Option<i32>,
}

/// The last result of an HTTP check.
#[skip_serializing_none]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HttpCheckStatus {
    /// The status code.
    pub status_code: Option<u32>,
}

/// The last result of a TCP check.
#[skip_serializing_none]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TcpCheckStatus {
    /// Whether the connection was made.
    pub succeeded: Option<bool>,
}
