//! What the suites share: a fake agent, a real Mesos, a framework on it, and the check that nothing is left.
//!
//! ```text
//!  Framework --scheduler API--> Rig: Mesos master and agent --starts--> kube-executor --> tasks
//!      |                         |                                                          |
//!      +-> Log, waited on        +-> Marks: what belongs to this test  <---- Leftovers -----+
//! ```
//!
//! | module | what it holds |
//! |---|---|
//! | [`fake_agent`] | the agent's side of the executor API, scripted, for faults that cannot be staged |
//! | [`rig`] | a real Mesos master and agent in a folder of their own |
//! | [`framework`] | a framework over the v1 scheduler API |
//! | [`log`] | what a framework has heard, to wait on |
//! | [`offers`] | the offers a framework holds, and which of them hold a launch |
//! | [`describe`] | `TaskInfo`s and `ExecutorInfo`s in few words |
//! | [`marks`] | what tells a test's processes and cgroups from everybody else's |
//! | [`cgroups`] | the cgroups of all hierarchies, found by name, emptied and removed |
//! | [`leftovers`] | the check for the end of every test |
//! | [`http`] | one request on a connection of its own |
//! | [`pki`] | certificates and keys |
//! | [`kubernetes`] | etcd and kube-apiserver as tasks, and kubectl |
//! | [`up`] | `make up`, told while it happens |

pub mod cgroups;
pub mod describe;
pub mod fake_agent;
pub mod framework;
pub mod http;
pub mod kubernetes;
pub mod leftovers;
pub mod log;
pub mod marks;
pub mod offers;
pub mod pki;
pub mod rig;
pub mod up;
