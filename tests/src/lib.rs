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
//! | [`pod`] | the executor as a process on a fake agent of its own, and tasks in few words |
//! | [`control`] | a client of executors' control sockets |
//! | [`rig`] | a real Mesos master and agent in a folder of their own |
//! | [`framework`] | a framework over the v1 scheduler API |
//! | [`log`] | what a framework has heard, to wait on |
//! | [`offers`] | the offers a framework holds, and which of them hold a launch |
//! | [`describe`] | `TaskInfo`s and `ExecutorInfo`s in few words |
//! | [`marks`] | what tells a test's processes and cgroups from everybody else's |
//! | [`cgroups`] | the cgroups of all hierarchies, found by name, emptied and removed |
//! | [`leftovers`] | the check for the end of every test |
//! | [`child`] | an executor as a child of the test, for a fake agent |
//! | [`endpoint`] | an exec endpoint as a child of the test, and its clients |
//! | [`golden`] | golden files: what differs from run to run has names in them |
//! | [`http`] | one request on a connection of its own |
//! | [`pki`] | certificates and keys |
//! | [`operator`] | requests to the byte, to an agent and to an endpoint, and what of the answers differs |
//! | [`process`] | a process, named for all time |
//! | [`streams`] | what goes through commands |
//! | [`stage`] | a rig, a framework, and the check at the end, for a story |
//! | [`tap`] | a proxy between executor and agent that keeps what both say |
//! | [`terminal`] | a terminal: what a user would see and type |
//! | [`kubernetes`] | etcd and kube-apiserver as tasks, and kubectl |
//! | [`up`] | `make up`, told while it happens |
//! | [`mod@bench`] | `make bench`: what is measured, and how |

pub mod bench;
pub mod cgroups;
pub mod child;
pub mod control;
pub mod describe;
pub mod endpoint;
pub mod fake_agent;
pub mod framework;
pub mod golden;
pub mod http;
pub mod kubernetes;
pub mod leftovers;
pub mod log;
pub mod marks;
pub mod offers;
pub mod operator;
pub mod pki;
pub mod pod;
pub mod process;
pub mod rig;
pub mod stage;
pub mod streams;
pub mod tap;
pub mod terminal;
pub mod up;
