//! What this project's own programs say to each other about tasks and pods.
//!
//! ```text
//!  framework: TaskSettings -> JSON -> TaskInfo.data      -> executor: checked once into its own types
//!             PodSettings  -> JSON -> ExecutorInfo.data  ->
//!
//!  exec endpoint: control::Request -> framed over a Unix socket -> executor
//!                                  <- control::Answer + descriptors <-
//! ```
//!
//! | module | what it holds |
//! |---|---|
//! | [`settings`] | what Mesos has no field for: of a task, and of a pod instance |
//! | [`control`] | the messages of an executor's control socket |
//! | [`framed`], [`connection`] | messages with descriptors over a Unix socket: blocking or not; on tokio |

pub mod connection;
pub mod control;
pub mod framed;
pub mod settings;
