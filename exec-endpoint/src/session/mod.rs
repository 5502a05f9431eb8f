//! What is under way: a process, an attachment, a log.
//!
//! | module | what it holds |
//! |---|---|
//! | [`attachment`] | the streams of a task that runs |
//! | [`ledger`] | its audit line, closed on every path |
//! | [`limits`] | how many there may be |
//! | [`log`] | a log: rotated files and two streams as one stream of lines |
//! | [`process`] | a process that was started in a task: its stdio, and how it ends |
//! | [`registry`] | which there are: for signals, and for the endpoint's end |
//! | [`timing`] | how long one may be quiet, and last |

pub mod attachment;
pub mod ledger;
pub mod limits;
pub mod log;
pub mod process;
pub mod registry;
pub mod timing;
