//! The Mesos executor that runs one pod instance: its tasks are processes in cgroups, checked, restarted, reported.
//!
//! ```text
//!  agent bytes -> agent::session -> AgentEvent -> supervisor::state (pure) -> Effect -> process, cgroup, health
//!                      ^                                 ^                                      |
//!                      |                                 +------------- TaskEvent --------------+
//!                      +-- agent::outbox <- StatusUpdate <- status
//! ```
//!
//! | module | what it does |
//! |---|---|
//! | [`executor`] | one executor from start to end: everything below put together |
//! | [`config`], [`variables`], [`log`] | its own flags; the environment it was given; its log |
//! | [`spec`] | a task and a pod as their framework described them, checked once |
//! | [`agent`] | the executor API: connection, subscription, updates until they are acknowledged |
//! | [`supervisor`] | the only place that decides: a pure state machine and the loop that runs its effects |
//! | [`status`], [`metrics`] | the one door by which state leaves; figures read from it |
//! | [`control`] | what the exec endpoint may ask: list, watch, exec, signals |
//! | [`pod`] | a pod instance: its PID 1, its namespaces, its network |
//! | [`process`] | a process: how it is made, signalled, and where its output goes |
//! | [`cgroup`] | cgroups, the same for v1, hybrid and v2 |
//! | [`control`] | what the exec endpoint asks of the executor |
//! | [`health`] | checks: one check, its thresholds, its worker |
//! | [`fetch`] | files that a task needs, through a cache shared by the host |
//! | [`sweep`] | what dead executors left, found by their records and removed |
//! | [`host`] | what the host must have, and its totals |
//! | [`tls`], [`watched`] | TLS clients; descriptors on the reactor |
//! | [`files`], [`text`] | files that others name, lock or remove; the words of errors |
//!
//! `unsafe` is allowed in these modules only, each use with a SAFETY line: [`pod::init`] (clone3, and what a child does
//! before execve, in a single-threaded process), [`watched`] (descriptors handed to the reactor).

pub mod agent;
pub mod cgroup;
pub mod config;
pub mod control;
pub mod executor;
pub mod fetch;
pub mod files;
pub mod health;
pub mod host;
pub mod log;
pub mod metrics;
pub mod pod;
pub mod process;
pub mod spec;
pub mod status;
pub mod supervisor;
pub mod sweep;
pub mod text;
pub mod tls;
pub mod variables;
pub mod watched;
