//! A process of a task: how it is made, signalled, and where its output goes.
//!
//! | module | what it does |
//! |---|---|
//! | [`workplace`] | what the processes of one executor share; a task's folders and environment |
//! | [`instance`] | one process of a task, from its making to its end |
//! | [`command`] | check commands, each in a child cgroup of its task's |
//! | [`account`] | users and groups by name or number |
//! | [`signal`] | signals through pidfds |
//! | [`output`] | stdout and stderr, read and put into rotated files |

pub mod account;
pub mod command;
pub mod instance;
pub mod output;
pub mod signal;
pub mod workplace;
