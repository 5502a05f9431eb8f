//! What this project's own programs say to each other about tasks and pods.
//!
//! ```text
//!  framework: TaskSettings -> JSON -> TaskInfo.data      -> executor: checked once into its own types
//!             PodSettings  -> JSON -> ExecutorInfo.data  ->
//! ```
//!
//! | module | what it holds |
//! |---|---|
//! | [`settings`] | what Mesos has no field for: of a task, and of a pod instance |

pub mod settings;
