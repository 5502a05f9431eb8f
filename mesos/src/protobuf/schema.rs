//! The messages of the agent's operator API that are read or written here, with their field numbers.
//!
//! Source: `include/mesos/v1/agent/agent.proto` and `include/mesos/v1/mesos.proto` of Mesos 1.11.0. Fields that are not here are
//! skipped when read.

use super::Kind::{Bool, Bytes, Double, Enum, Int32, Int64, String, Submessage, Uint32, Uint64};
use super::Label::{Optional, Repeated, Required};
use super::{Field, Message, Names};

/// What is asked of an agent (`Call`).
pub static CALL: Message = Message {
    fields: &[
        Field::new(1, "type", Enum(CALL_TYPE), Optional),
        Field::new(7, "wait_nested_container", Submessage(&CALL_WAIT_NESTED_CONTAINER), Optional),
        Field::new(8, "kill_nested_container", Submessage(&CALL_KILL_NESTED_CONTAINER), Optional),
        Field::new(
            9,
            "launch_nested_container_session",
            Submessage(&CALL_LAUNCH_NESTED_CONTAINER_SESSION),
            Optional,
        ),
        Field::new(10, "attach_container_input", Submessage(&CALL_ATTACH_CONTAINER_INPUT), Optional),
        Field::new(11, "attach_container_output", Submessage(&CALL_ATTACH_CONTAINER_OUTPUT), Optional),
        Field::new(12, "remove_nested_container", Submessage(&CALL_REMOVE_NESTED_CONTAINER), Optional),
        Field::new(14, "wait_container", Submessage(&CALL_WAIT_CONTAINER), Optional),
        Field::new(15, "kill_container", Submessage(&CALL_KILL_CONTAINER), Optional),
        Field::new(16, "remove_container", Submessage(&CALL_REMOVE_CONTAINER), Optional),
        Field::new(20, "get_containers", Submessage(&CALL_GET_CONTAINERS), Optional),
    ],
};

static CALL_WAIT_NESTED_CONTAINER: Message =
    Message { fields: &[Field::new(1, "container_id", Submessage(&CONTAINER_ID), Required)] };

static CONTAINER_ID: Message = Message {
    fields: &[
        Field::new(1, "value", String, Required),
        Field::new(2, "parent", Submessage(&CONTAINER_ID), Optional),
    ],
};

static CALL_KILL_NESTED_CONTAINER: Message = Message {
    fields: &[
        Field::new(1, "container_id", Submessage(&CONTAINER_ID), Required),
        Field::new(2, "signal", Int32, Optional),
    ],
};

static CALL_LAUNCH_NESTED_CONTAINER_SESSION: Message = Message {
    fields: &[
        Field::new(1, "container_id", Submessage(&CONTAINER_ID), Required),
        Field::new(2, "command", Submessage(&COMMAND_INFO), Optional),
        Field::new(3, "container", Submessage(&CONTAINER_INFO), Optional),
    ],
};

static COMMAND_INFO: Message = Message {
    fields: &[
        Field::new(2, "environment", Submessage(&ENVIRONMENT), Optional),
        Field::new(3, "value", String, Optional),
        Field::new(5, "user", String, Optional),
        Field::new(6, "shell", Bool, Optional),
        Field::new(7, "arguments", String, Repeated),
    ],
};

static ENVIRONMENT: Message =
    Message { fields: &[Field::new(1, "variables", Submessage(&ENVIRONMENT_VARIABLE), Repeated)] };

static ENVIRONMENT_VARIABLE: Message = Message {
    fields: &[
        Field::new(1, "name", String, Required),
        Field::new(2, "value", String, Optional),
        Field::new(3, "type", Enum(ENVIRONMENT_VARIABLE_TYPE), Optional),
    ],
};

static CONTAINER_INFO: Message = Message {
    fields: &[
        Field::new(1, "type", Enum(CONTAINER_INFO_TYPE), Required),
        Field::new(8, "linux_info", Submessage(&LINUX_INFO), Optional),
        Field::new(10, "tty_info", Submessage(&TTY_INFO), Optional),
    ],
};

static LINUX_INFO: Message = Message { fields: &[Field::new(8, "share_cgroups", Bool, Optional)] };

static TTY_INFO: Message =
    Message { fields: &[Field::new(1, "window_size", Submessage(&TTY_INFO_WINDOW_SIZE), Optional)] };

static TTY_INFO_WINDOW_SIZE: Message = Message {
    fields: &[Field::new(1, "rows", Uint32, Required), Field::new(2, "columns", Uint32, Required)],
};

static CALL_ATTACH_CONTAINER_INPUT: Message = Message {
    fields: &[
        Field::new(1, "type", Enum(CALL_ATTACH_CONTAINER_INPUT_TYPE), Optional),
        Field::new(2, "container_id", Submessage(&CONTAINER_ID), Optional),
        Field::new(3, "process_io", Submessage(&PROCESS_IO), Optional),
    ],
};

/// A piece of a process's input or output (`ProcessIO`).
pub static PROCESS_IO: Message = Message {
    fields: &[
        Field::new(1, "type", Enum(PROCESS_IO_TYPE), Optional),
        Field::new(2, "data", Submessage(&PROCESS_IO_DATA), Optional),
        Field::new(3, "control", Submessage(&PROCESS_IO_CONTROL), Optional),
    ],
};

static PROCESS_IO_DATA: Message = Message {
    fields: &[
        Field::new(1, "type", Enum(PROCESS_IO_DATA_TYPE), Optional),
        Field::new(2, "data", Bytes, Optional),
    ],
};

static PROCESS_IO_CONTROL: Message = Message {
    fields: &[
        Field::new(1, "type", Enum(PROCESS_IO_CONTROL_TYPE), Optional),
        Field::new(2, "tty_info", Submessage(&TTY_INFO), Optional),
        Field::new(3, "heartbeat", Submessage(&PROCESS_IO_CONTROL_HEARTBEAT), Optional),
    ],
};

static PROCESS_IO_CONTROL_HEARTBEAT: Message =
    Message { fields: &[Field::new(1, "interval", Submessage(&DURATION_INFO), Optional)] };

static DURATION_INFO: Message = Message { fields: &[Field::new(1, "nanoseconds", Int64, Required)] };

static CALL_ATTACH_CONTAINER_OUTPUT: Message =
    Message { fields: &[Field::new(1, "container_id", Submessage(&CONTAINER_ID), Required)] };

static CALL_REMOVE_NESTED_CONTAINER: Message =
    Message { fields: &[Field::new(1, "container_id", Submessage(&CONTAINER_ID), Required)] };

static CALL_WAIT_CONTAINER: Message =
    Message { fields: &[Field::new(1, "container_id", Submessage(&CONTAINER_ID), Required)] };

static CALL_KILL_CONTAINER: Message = Message {
    fields: &[
        Field::new(1, "container_id", Submessage(&CONTAINER_ID), Required),
        Field::new(2, "signal", Int32, Optional),
    ],
};

static CALL_REMOVE_CONTAINER: Message =
    Message { fields: &[Field::new(1, "container_id", Submessage(&CONTAINER_ID), Required)] };

static CALL_GET_CONTAINERS: Message = Message {
    fields: &[Field::new(1, "show_nested", Bool, Optional), Field::new(2, "show_standalone", Bool, Optional)],
};

/// What an agent answers (`Response`).
pub static RESPONSE: Message = Message {
    fields: &[
        Field::new(1, "type", Enum(RESPONSE_TYPE), Optional),
        Field::new(2, "get_health", Submessage(&RESPONSE_GET_HEALTH), Optional),
        Field::new(4, "get_version", Submessage(&RESPONSE_GET_VERSION), Optional),
        Field::new(9, "get_state", Submessage(&RESPONSE_GET_STATE), Optional),
        Field::new(10, "get_containers", Submessage(&RESPONSE_GET_CONTAINERS), Optional),
        Field::new(11, "get_frameworks", Submessage(&RESPONSE_GET_FRAMEWORKS), Optional),
        Field::new(12, "get_executors", Submessage(&RESPONSE_GET_EXECUTORS), Optional),
        Field::new(13, "get_tasks", Submessage(&RESPONSE_GET_TASKS), Optional),
        Field::new(14, "wait_nested_container", Submessage(&RESPONSE_WAIT_NESTED_CONTAINER), Optional),
        Field::new(16, "wait_container", Submessage(&RESPONSE_WAIT_CONTAINER), Optional),
    ],
};

static RESPONSE_GET_HEALTH: Message = Message { fields: &[Field::new(1, "healthy", Bool, Required)] };

static RESPONSE_GET_VERSION: Message =
    Message { fields: &[Field::new(1, "version_info", Submessage(&VERSION_INFO), Required)] };

static VERSION_INFO: Message = Message {
    fields: &[
        Field::new(1, "version", String, Required),
        Field::new(2, "build_date", String, Optional),
        Field::new(3, "build_time", Double, Optional),
        Field::new(4, "build_user", String, Optional),
        Field::new(5, "git_sha", String, Optional),
        Field::new(6, "git_branch", String, Optional),
        Field::new(7, "git_tag", String, Optional),
    ],
};

static RESPONSE_GET_STATE: Message = Message {
    fields: &[
        Field::new(1, "get_tasks", Submessage(&RESPONSE_GET_TASKS), Optional),
        Field::new(2, "get_executors", Submessage(&RESPONSE_GET_EXECUTORS), Optional),
        Field::new(3, "get_frameworks", Submessage(&RESPONSE_GET_FRAMEWORKS), Optional),
    ],
};

static RESPONSE_GET_TASKS: Message = Message {
    fields: &[
        Field::new(1, "pending_tasks", Submessage(&TASK), Repeated),
        Field::new(2, "queued_tasks", Submessage(&TASK), Repeated),
        Field::new(3, "launched_tasks", Submessage(&TASK), Repeated),
        Field::new(4, "terminated_tasks", Submessage(&TASK), Repeated),
        Field::new(5, "completed_tasks", Submessage(&TASK), Repeated),
    ],
};

static TASK: Message = Message {
    fields: &[
        Field::new(1, "name", String, Required),
        Field::new(2, "task_id", Submessage(&TASK_ID), Required),
        Field::new(3, "framework_id", Submessage(&FRAMEWORK_ID), Required),
        Field::new(4, "executor_id", Submessage(&EXECUTOR_ID), Optional),
        Field::new(5, "agent_id", Submessage(&AGENT_ID), Required),
        Field::new(6, "state", Enum(TASK_STATE), Required),
        Field::new(7, "resources", Submessage(&RESOURCE), Repeated),
        Field::new(8, "statuses", Submessage(&TASK_STATUS), Repeated),
        Field::new(9, "status_update_state", Enum(TASK_STATE), Optional),
        Field::new(10, "status_update_uuid", Bytes, Optional),
        Field::new(11, "labels", Submessage(&LABELS), Optional),
        Field::new(13, "container", Submessage(&CONTAINER_INFO), Optional),
        Field::new(14, "user", String, Optional),
    ],
};

static TASK_ID: Message = Message { fields: &[Field::new(1, "value", String, Required)] };

static FRAMEWORK_ID: Message = Message { fields: &[Field::new(1, "value", String, Required)] };

static EXECUTOR_ID: Message = Message { fields: &[Field::new(1, "value", String, Required)] };

static AGENT_ID: Message = Message { fields: &[Field::new(1, "value", String, Required)] };

static RESOURCE: Message = Message {
    fields: &[
        Field::new(1, "name", String, Required),
        Field::new(2, "type", Enum(VALUE_TYPE), Required),
        Field::new(3, "scalar", Submessage(&VALUE_SCALAR), Optional),
        Field::new(4, "ranges", Submessage(&VALUE_RANGES), Optional),
        Field::new(5, "set", Submessage(&VALUE_SET), Optional),
        Field::new(6, "role", String, Optional),
        Field::new(11, "allocation_info", Submessage(&RESOURCE_ALLOCATION_INFO), Optional),
    ],
};

static VALUE_SCALAR: Message = Message { fields: &[Field::new(1, "value", Double, Required)] };

static VALUE_RANGES: Message =
    Message { fields: &[Field::new(1, "range", Submessage(&VALUE_RANGE), Repeated)] };

static VALUE_RANGE: Message =
    Message { fields: &[Field::new(1, "begin", Uint64, Required), Field::new(2, "end", Uint64, Required)] };

static VALUE_SET: Message = Message { fields: &[Field::new(1, "item", String, Repeated)] };

static RESOURCE_ALLOCATION_INFO: Message = Message { fields: &[Field::new(1, "role", String, Optional)] };

static TASK_STATUS: Message = Message {
    fields: &[
        Field::new(1, "task_id", Submessage(&TASK_ID), Required),
        Field::new(2, "state", Enum(TASK_STATE), Required),
        Field::new(4, "message", String, Optional),
        Field::new(5, "agent_id", Submessage(&AGENT_ID), Optional),
        Field::new(6, "timestamp", Double, Optional),
        Field::new(7, "executor_id", Submessage(&EXECUTOR_ID), Optional),
        Field::new(8, "healthy", Bool, Optional),
        Field::new(9, "source", Enum(TASK_STATUS_SOURCE), Optional),
        Field::new(10, "reason", Enum(TASK_STATUS_REASON), Optional),
        Field::new(11, "uuid", Bytes, Optional),
        Field::new(12, "labels", Submessage(&LABELS), Optional),
        Field::new(13, "container_status", Submessage(&CONTAINER_STATUS), Optional),
    ],
};

static LABELS: Message = Message { fields: &[Field::new(1, "labels", Submessage(&LABEL), Repeated)] };

static LABEL: Message =
    Message { fields: &[Field::new(1, "key", String, Required), Field::new(2, "value", String, Optional)] };

static CONTAINER_STATUS: Message = Message {
    fields: &[
        Field::new(1, "network_infos", Submessage(&NETWORK_INFO), Repeated),
        Field::new(3, "executor_pid", Uint32, Optional),
        Field::new(4, "container_id", Submessage(&CONTAINER_ID), Optional),
    ],
};

static NETWORK_INFO: Message =
    Message { fields: &[Field::new(5, "ip_addresses", Submessage(&NETWORK_INFO_IP_ADDRESS), Repeated)] };

static NETWORK_INFO_IP_ADDRESS: Message = Message {
    fields: &[
        Field::new(1, "protocol", Enum(NETWORK_INFO_PROTOCOL), Optional),
        Field::new(2, "ip_address", String, Optional),
    ],
};

static RESPONSE_GET_EXECUTORS: Message = Message {
    fields: &[
        Field::new(1, "executors", Submessage(&RESPONSE_GET_EXECUTORS_EXECUTOR), Repeated),
        Field::new(2, "completed_executors", Submessage(&RESPONSE_GET_EXECUTORS_EXECUTOR), Repeated),
    ],
};

static RESPONSE_GET_EXECUTORS_EXECUTOR: Message =
    Message { fields: &[Field::new(1, "executor_info", Submessage(&EXECUTOR_INFO), Required)] };

static EXECUTOR_INFO: Message = Message {
    fields: &[
        Field::new(1, "executor_id", Submessage(&EXECUTOR_ID), Required),
        Field::new(5, "resources", Submessage(&RESOURCE), Repeated),
        Field::new(7, "command", Submessage(&COMMAND_INFO), Optional),
        Field::new(8, "framework_id", Submessage(&FRAMEWORK_ID), Optional),
        Field::new(9, "name", String, Optional),
        Field::new(10, "source", String, Optional),
        Field::new(15, "type", Enum(EXECUTOR_INFO_TYPE), Optional),
    ],
};

static RESPONSE_GET_FRAMEWORKS: Message = Message {
    fields: &[
        Field::new(1, "frameworks", Submessage(&RESPONSE_GET_FRAMEWORKS_FRAMEWORK), Repeated),
        Field::new(2, "completed_frameworks", Submessage(&RESPONSE_GET_FRAMEWORKS_FRAMEWORK), Repeated),
    ],
};

static RESPONSE_GET_FRAMEWORKS_FRAMEWORK: Message =
    Message { fields: &[Field::new(1, "framework_info", Submessage(&FRAMEWORK_INFO), Required)] };

static FRAMEWORK_INFO: Message = Message {
    fields: &[
        Field::new(1, "user", String, Required),
        Field::new(2, "name", String, Required),
        Field::new(3, "id", Submessage(&FRAMEWORK_ID), Optional),
        Field::new(4, "failover_timeout", Double, Optional),
        Field::new(5, "checkpoint", Bool, Optional),
        Field::new(7, "hostname", String, Optional),
        Field::new(12, "roles", String, Repeated),
    ],
};

static RESPONSE_GET_CONTAINERS: Message = Message {
    fields: &[Field::new(1, "containers", Submessage(&RESPONSE_GET_CONTAINERS_CONTAINER), Repeated)],
};

static RESPONSE_GET_CONTAINERS_CONTAINER: Message = Message {
    fields: &[
        Field::new(1, "framework_id", Submessage(&FRAMEWORK_ID), Optional),
        Field::new(2, "executor_id", Submessage(&EXECUTOR_ID), Optional),
        Field::new(3, "executor_name", String, Optional),
        Field::new(4, "container_id", Submessage(&CONTAINER_ID), Required),
        Field::new(5, "container_status", Submessage(&CONTAINER_STATUS), Optional),
        Field::new(6, "resource_statistics", Submessage(&RESOURCE_STATISTICS), Optional),
    ],
};

static RESOURCE_STATISTICS: Message = Message {
    fields: &[
        Field::new(1, "timestamp", Double, Required),
        Field::new(2, "cpus_user_time_secs", Double, Optional),
        Field::new(3, "cpus_system_time_secs", Double, Optional),
        Field::new(5, "mem_rss_bytes", Uint64, Optional),
        Field::new(30, "processes", Uint32, Optional),
        Field::new(36, "mem_total_bytes", Uint64, Optional),
    ],
};

static RESPONSE_WAIT_NESTED_CONTAINER: Message = Message {
    fields: &[
        Field::new(1, "exit_status", Int32, Optional),
        Field::new(2, "state", Enum(TASK_STATE), Optional),
        Field::new(3, "reason", Enum(TASK_STATUS_REASON), Optional),
        Field::new(4, "limitation", Submessage(&TASK_RESOURCE_LIMITATION), Optional),
        Field::new(5, "message", String, Optional),
    ],
};

static TASK_RESOURCE_LIMITATION: Message =
    Message { fields: &[Field::new(1, "resources", Submessage(&RESOURCE), Repeated)] };

static RESPONSE_WAIT_CONTAINER: Message = Message {
    fields: &[
        Field::new(1, "exit_status", Int32, Optional),
        Field::new(2, "state", Enum(TASK_STATE), Optional),
        Field::new(3, "reason", Enum(TASK_STATUS_REASON), Optional),
        Field::new(4, "limitation", Submessage(&TASK_RESOURCE_LIMITATION), Optional),
        Field::new(5, "message", String, Optional),
    ],
};

const CALL_TYPE: Names = &[
    (0, "UNKNOWN"),
    (1, "GET_HEALTH"),
    (2, "GET_FLAGS"),
    (3, "GET_VERSION"),
    (4, "GET_METRICS"),
    (5, "GET_LOGGING_LEVEL"),
    (6, "SET_LOGGING_LEVEL"),
    (7, "LIST_FILES"),
    (8, "READ_FILE"),
    (9, "GET_STATE"),
    (10, "GET_CONTAINERS"),
    (11, "GET_FRAMEWORKS"),
    (12, "GET_EXECUTORS"),
    (31, "GET_OPERATIONS"),
    (13, "GET_TASKS"),
    (20, "GET_AGENT"),
    (26, "GET_RESOURCE_PROVIDERS"),
    (14, "LAUNCH_NESTED_CONTAINER"),
    (15, "WAIT_NESTED_CONTAINER"),
    (16, "KILL_NESTED_CONTAINER"),
    (21, "REMOVE_NESTED_CONTAINER"),
    (17, "LAUNCH_NESTED_CONTAINER_SESSION"),
    (18, "ATTACH_CONTAINER_INPUT"),
    (19, "ATTACH_CONTAINER_OUTPUT"),
    (22, "LAUNCH_CONTAINER"),
    (23, "WAIT_CONTAINER"),
    (24, "KILL_CONTAINER"),
    (25, "REMOVE_CONTAINER"),
    (27, "ADD_RESOURCE_PROVIDER_CONFIG"),
    (28, "UPDATE_RESOURCE_PROVIDER_CONFIG"),
    (29, "REMOVE_RESOURCE_PROVIDER_CONFIG"),
    (32, "MARK_RESOURCE_PROVIDER_GONE"),
    (30, "PRUNE_IMAGES"),
];

const ENVIRONMENT_VARIABLE_TYPE: Names = &[(0, "UNKNOWN"), (1, "VALUE"), (2, "SECRET")];

const CONTAINER_INFO_TYPE: Names = &[(1, "DOCKER"), (2, "MESOS")];

const CALL_ATTACH_CONTAINER_INPUT_TYPE: Names = &[(0, "UNKNOWN"), (1, "CONTAINER_ID"), (2, "PROCESS_IO")];

const PROCESS_IO_TYPE: Names = &[(0, "UNKNOWN"), (1, "DATA"), (2, "CONTROL")];

const PROCESS_IO_DATA_TYPE: Names = &[(0, "UNKNOWN"), (1, "STDIN"), (2, "STDOUT"), (3, "STDERR")];

const PROCESS_IO_CONTROL_TYPE: Names = &[(0, "UNKNOWN"), (1, "TTY_INFO"), (2, "HEARTBEAT")];

const RESPONSE_TYPE: Names = &[
    (0, "UNKNOWN"),
    (1, "GET_HEALTH"),
    (2, "GET_FLAGS"),
    (3, "GET_VERSION"),
    (4, "GET_METRICS"),
    (5, "GET_LOGGING_LEVEL"),
    (6, "LIST_FILES"),
    (7, "READ_FILE"),
    (8, "GET_STATE"),
    (9, "GET_CONTAINERS"),
    (10, "GET_FRAMEWORKS"),
    (11, "GET_EXECUTORS"),
    (17, "GET_OPERATIONS"),
    (12, "GET_TASKS"),
    (14, "GET_AGENT"),
    (16, "GET_RESOURCE_PROVIDERS"),
    (13, "WAIT_NESTED_CONTAINER"),
    (15, "WAIT_CONTAINER"),
];

const TASK_STATE: Names = &[
    (6, "TASK_STAGING"),
    (0, "TASK_STARTING"),
    (1, "TASK_RUNNING"),
    (8, "TASK_KILLING"),
    (2, "TASK_FINISHED"),
    (3, "TASK_FAILED"),
    (4, "TASK_KILLED"),
    (7, "TASK_ERROR"),
    (5, "TASK_LOST"),
    (9, "TASK_DROPPED"),
    (10, "TASK_UNREACHABLE"),
    (11, "TASK_GONE"),
    (12, "TASK_GONE_BY_OPERATOR"),
    (13, "TASK_UNKNOWN"),
];

const VALUE_TYPE: Names = &[(0, "SCALAR"), (1, "RANGES"), (2, "SET"), (3, "TEXT")];

const TASK_STATUS_SOURCE: Names = &[(0, "SOURCE_MASTER"), (1, "SOURCE_AGENT"), (2, "SOURCE_EXECUTOR")];

const TASK_STATUS_REASON: Names = &[
    (0, "REASON_COMMAND_EXECUTOR_FAILED"),
    (21, "REASON_CONTAINER_LAUNCH_FAILED"),
    (19, "REASON_CONTAINER_LIMITATION"),
    (20, "REASON_CONTAINER_LIMITATION_DISK"),
    (8, "REASON_CONTAINER_LIMITATION_MEMORY"),
    (17, "REASON_CONTAINER_PREEMPTED"),
    (22, "REASON_CONTAINER_UPDATE_FAILED"),
    (33, "REASON_MAX_COMPLETION_TIME_REACHED"),
    (23, "REASON_EXECUTOR_REGISTRATION_TIMEOUT"),
    (24, "REASON_EXECUTOR_REREGISTRATION_TIMEOUT"),
    (1, "REASON_EXECUTOR_TERMINATED"),
    (2, "REASON_EXECUTOR_UNREGISTERED"),
    (3, "REASON_FRAMEWORK_REMOVED"),
    (4, "REASON_GC_ERROR"),
    (5, "REASON_INVALID_FRAMEWORKID"),
    (6, "REASON_INVALID_OFFERS"),
    (27, "REASON_IO_SWITCHBOARD_EXITED"),
    (7, "REASON_MASTER_DISCONNECTED"),
    (9, "REASON_RECONCILIATION"),
    (18, "REASON_RESOURCES_UNKNOWN"),
    (10, "REASON_AGENT_DISCONNECTED"),
    (34, "REASON_AGENT_DRAINING"),
    (11, "REASON_AGENT_REMOVED"),
    (31, "REASON_AGENT_REMOVED_BY_OPERATOR"),
    (32, "REASON_AGENT_REREGISTERED"),
    (12, "REASON_AGENT_RESTARTED"),
    (13, "REASON_AGENT_UNKNOWN"),
    (30, "REASON_TASK_KILLED_DURING_LAUNCH"),
    (28, "REASON_TASK_CHECK_STATUS_UPDATED"),
    (29, "REASON_TASK_HEALTH_CHECK_STATUS_UPDATED"),
    (25, "REASON_TASK_GROUP_INVALID"),
    (26, "REASON_TASK_GROUP_UNAUTHORIZED"),
    (14, "REASON_TASK_INVALID"),
    (15, "REASON_TASK_UNAUTHORIZED"),
    (16, "REASON_TASK_UNKNOWN"),
];

const NETWORK_INFO_PROTOCOL: Names = &[(1, "IPv4"), (2, "IPv6")];

const EXECUTOR_INFO_TYPE: Names = &[(0, "UNKNOWN"), (1, "DEFAULT"), (2, "CUSTOM")];
