//! Sessions from end to end: a client of another make, HTTP on 127.0.0.1, an executor that starts local processes.

mod attach;
mod clocks;
mod exec;
mod executor;
mod leaks;
mod speed;
mod stand;
mod wrong;

pub(crate) use self::executor::pod;
