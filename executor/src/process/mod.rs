//! A process of a task: how it is made, signalled, and where its output goes.
//!
//! | module | what it does |
//! |---|---|
//! | [`workplace`] | what the processes of one executor share; a task's folders and environment |
//! | [`instance`] | one process of a task, from its making to its end |
//! | [`command`] | check commands, each in a child cgroup of its task's |
//! | [`sessions`] | which processes of tasks run now, and whether sessions from outside are in them |
//! | [`child_cgroup`] | a process in a cgroup of its own below its task's |
//! | [`terminal`] | pseudo-terminals |
//! | [`account`] | users and groups by name or number |
//! | [`signal`] | signals through pidfds |
//! | [`output`] | stdout and stderr, read and put into rotated files |

pub mod account;
pub mod child_cgroup;
pub mod command;
pub mod instance;
pub mod output;
pub mod sessions;
pub mod signal;
pub mod terminal;
pub mod workplace;
