//! HTTPS beside the executors of a host: exec, attach, logs and status of their tasks. Unprivileged; no state.
//!
//! ```text
//!  TLS -> server -> identity (who) -> protocol: kubernetes, remotecommand, mesos, health
//!                                        |-> gate: policy (may they?), audit (said so first)
//!                                        |-> inventory (what there is) <- Watch - control socket of each executor
//!                                        '-> session: process, output, logs <-descriptors- control socket
//! ```
//!
//! | module | what it does |
//! |---|---|
//! | [`config`] | flags, and what they mean |
//! | [`serve`] | everything put together, from the start to the end |
//! | [`server`] | one port: connections, TLS, HTTP |
//! | [`control`] | the endpoint's side of an executor's control socket |
//! | [`endpoint`] | what all requests share |
//! | [`inventory`] | the pods and tasks of this host, as their executors tell them |
//! | [`loaded`] | what is read from files, and read again when they change |
//! | [`reload`] | how files are read again |
//! | [`tls`] | certificates |
//! | [`identity`] | who asks |
//! | [`policy`] | who may do what to which task: pure |
//! | [`audit`] | who did what, line by line |
//! | [`gate`] | a right is checked and the audit line opened before anything is answered |
//! | [`session`] | a process, an attachment, a log under way, and the bounds on how many there are |
//! | [`protocol`] | what stock clients speak, and who answers which path |
//! | [`metrics`] | what is counted |
//! | [`notify`] | what systemd is told |
//! | [`log`] | lines of the log |

pub mod audit;
pub mod config;
pub mod control;
pub mod endpoint;
pub mod gate;
pub mod identity;
pub mod inventory;
pub mod loaded;
pub mod log;
pub mod metrics;
pub mod notify;
pub mod policy;
pub mod protocol;
pub mod reload;
pub mod serve;
pub mod server;
pub mod session;
pub mod tls;
