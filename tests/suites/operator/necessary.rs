//! What differs of necessity, and why.

/// Names of differences (a star at one end stands for anything), each with its reason.
pub(crate) type Necessary = &'static [(&'static str, &'static str)];

pub(crate) const EVERYWHERE: Necessary = &[("header date", "the time of the answer, to the second")];

pub(crate) const CLOSING: Necessary = &[(
    "header connection",
    "RFC 9112 9.6: who closes a connection after an answer should say so; an agent does not",
)];

pub(crate) const PARSERS_WORDS: Necessary =
    &[("body", "what is wrong with JSON is said in the words of its parser")];

pub(crate) const NOT_STARTED: Necessary =
    &[("STDERR", "why a command cannot be executed is said in the executor's words")];

pub(crate) const NO_SUCH_USER: Necessary =
    &[("body", "an agent says so of the folder that it could not give to that user")];

pub(crate) const FIRST_SIZE: Necessary =
    &[("STDOUT", "an agent takes no terminal's size from a launch: it is 0 0 until an input tells one")];

pub(crate) const VERSION: Necessary = &[
    ("get_version.version_info.build_*", "this is no build of Mesos"),
    ("get_version.version_info.git_*", "this is no build of Mesos"),
];

const UUID: (&str, &str) = (
    "*.launched_tasks[].statuses[].uuid",
    "a uuid is for acknowledgements, which an executor gets from its agent",
);
const LAST_UUID: (&str, &str) = (
    "*.launched_tasks[].status_update_uuid",
    "a uuid is for acknowledgements, which an executor gets from its agent",
);
const STATES: (&str, &str) = (
    "*.launched_tasks[].statuses[].state",
    "an agent keeps the last status of each state, an executor tells the present one",
);
const TIMES: (&str, &str) =
    ("*.launched_tasks[].statuses[].timestamp", "as the states; and an executor tells milliseconds");

pub(crate) const TASKS: Necessary = &[UUID, LAST_UUID, STATES, TIMES];

const NOT_TOLD: &str =
    "the framework told the agent only: an executor does not know it of itself, or tells nobody";

pub(crate) const STATE: Necessary = &[
    UUID,
    LAST_UUID,
    STATES,
    TIMES,
    ("get_state.get_executors.executors[].executor_info.command.*", NOT_TOLD),
    ("get_state.get_executors.executors[].executor_info.data", NOT_TOLD),
    ("get_state.get_executors.executors[].executor_info.resources*", NOT_TOLD),
    ("get_state.get_frameworks.frameworks[].framework_info.capabilities*", NOT_TOLD),
    ("get_state.get_frameworks.frameworks[].framework_info.checkpoint", NOT_TOLD),
    ("get_state.get_frameworks.frameworks[].framework_info.failover_timeout", NOT_TOLD),
    ("get_state.get_frameworks.frameworks[].framework_info.roles*", NOT_TOLD),
];

const PROCESS: (&str, &str) = (
    "get_containers.containers[].container_status.executor_pid",
    "an executor tells its tasks' processes, not its own; and a task's process is another with an agent",
);
const STATISTICS: (&str, &str) = (
    "get_containers.containers[].resource_statistics.*",
    "what a task uses is measured when it is asked for: /metrics and metrics.k8s.io",
);

pub(crate) const CONTAINERS: Necessary = &[PROCESS, STATISTICS];

pub(crate) const NESTED: Necessary = &[
    PROCESS,
    STATISTICS,
    (
        "get_containers.containers[].container_id.parent.value",
        "an agent leaves the parent out here, and has it in container_status, which is equal",
    ),
];
