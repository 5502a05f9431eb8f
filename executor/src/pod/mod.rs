//! A pod instance: one PID 1 of ours, one PID and mount namespace, a network of its own or the host's.
//!
//! ```text
//!  executor --socket: Spawn + descriptors--> init (PID 1 of the pod) --clone3 into cgroup--> child: setns, limits, user, execve
//!           <--Spawned + pidfd, Exited------
//! ```

pub mod client;
pub mod init;
pub mod keeper;
pub mod network;
pub mod protocol;
pub mod sockets;
