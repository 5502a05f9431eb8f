//! Ids of tasks, frameworks, executors, agents, offers and containers.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;

/// Defines an id message: `{"value": "..."}` on the wire.
macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name {
            /// The id as text.
            pub value: String,
        }

        impl $name {
            /// The id with this text.
            pub fn new(value: impl Into<String>) -> Self {
                Self { value: value.into() }
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.value
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(&self.value)
            }
        }
    };
}

id!(
    /// The id of a task, unique in its framework for all time.
    TaskId
);
id!(
    /// The id of a framework, given by the master.
    FrameworkId
);
id!(
    /// The id of an executor, given by the framework.
    ExecutorId
);
id!(
    /// The id of an agent, given by the master.
    AgentId
);
id!(
    /// The id of an offer, given by the master.
    OfferId
);

/// The id of a container, nested below its parent's if it has one.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ContainerId {
    /// The id as text.
    pub value: String,
    /// The container this one is nested in.
    pub parent: Option<Box<ContainerId>>,
}

impl ContainerId {
    /// The id of a top-level container.
    pub fn new(value: impl Into<String>) -> Self {
        Self { value: value.into(), parent: None }
    }

    /// The id `value` nested below this one.
    pub fn nested(&self, value: impl Into<String>) -> Self {
        Self { value: value.into(), parent: Some(Box::new(self.clone())) }
    }
}
