//! What all of Mesos's APIs share: ids, tasks, statuses, resources, commands, checks.
//!
//! Source: `include/mesos/v1/mesos.proto` of Mesos 1.11. Only the fields that this project reads or writes are here;
//! whoever must pass a message on unchanged keeps its JSON ([`crate::executor::Event`] does so with tasks).

mod check;
mod command;
mod container;
mod id;
mod info;
mod named;
mod parse;
mod status;
mod value;

pub use check::*;
pub use command::*;
pub use container::*;
pub use id::*;
pub use info::*;
pub use named::*;
pub(crate) use named::{name_of, named};
pub use parse::*;
pub use status::*;
pub use value::*;
