//! Which of Mesos's servers and endpoints a path means: pure.

/// What a path means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route {
    /// The agent's operator API.
    Api(Agent),
    /// A master's whole state.
    MasterState,
    /// A master's state in short.
    MasterSummary,
    /// A master's agents.
    MasterSlaves,
    /// An agent's state.
    AgentState(Agent),
    /// An agent's files.
    Files(Agent, File),
}

/// Which agent a path means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Agent {
    /// The one of this host; with several, all of them.
    Here,
    /// The one with this id.
    Named(String),
}

/// What is wanted of an agent's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum File {
    Read,
    Browse,
    Download,
    Debug,
}

/// What a path means, if it means anything.
pub(super) fn route(path: &str) -> Option<Route> {
    if path == "/api/v1" {
        return Some(Route::Api(Agent::Here));
    }
    if let Some(rest) = path.strip_prefix("/slave(") {
        let (number, rest) = rest.split_once(")/")?;
        number.parse::<u32>().ok()?;
        return of_agent(rest, Agent::Here);
    }
    if let Some(rest) = path.strip_prefix("/slave/").or_else(|| path.strip_prefix("/agent/")) {
        let (id, rest) = rest.split_once('/')?;
        // DC/OS passes an agent's own paths on behind its id.
        let rest = rest.strip_prefix("slave(1)/").unwrap_or(rest);
        return of_agent(rest, Agent::Named(id.to_owned()));
    }
    if let Some(file) = path.strip_prefix("/files/") {
        return Some(Route::Files(Agent::Here, file_of(file)?));
    }
    let rest = path.strip_prefix("/mesos").unwrap_or(path);
    match rest.strip_suffix(".json").unwrap_or(rest) {
        "/master/state" => Some(Route::MasterState),
        "/state" if rest != path => Some(Route::MasterState),
        "/master/state-summary" => Some(Route::MasterSummary),
        "/master/slaves" => Some(Route::MasterSlaves),
        "/slaves" if rest != path => Some(Route::MasterSlaves),
        _ => None,
    }
}

fn of_agent(rest: &str, agent: Agent) -> Option<Route> {
    if rest == "api/v1" {
        return Some(Route::Api(agent));
    }
    if rest == "state" || rest == "state.json" {
        return Some(Route::AgentState(agent));
    }
    Some(Route::Files(agent, file_of(rest.strip_prefix("files/")?)?))
}

fn file_of(name: &str) -> Option<File> {
    match name.strip_suffix(".json").unwrap_or(name) {
        "read" => Some(File::Read),
        "browse" => Some(File::Browse),
        "download" => Some(File::Download),
        "debug" => Some(File::Debug),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_paths_of_stock_clients_are_known_and_no_others() {
        let named = || Agent::Named("S0".to_owned());
        for (path, expected) in [
            ("/api/v1", Some(Route::Api(Agent::Here))),
            ("/slave(1)/api/v1", Some(Route::Api(Agent::Here))),
            ("/slave(12)/api/v1", Some(Route::Api(Agent::Here))),
            ("/slave(x)/api/v1", None),
            ("/slave/S0/api/v1", Some(Route::Api(named()))),
            ("/slave/S0/slave(1)/api/v1", Some(Route::Api(named()))),
            ("/slave/S0/api/v1/executor", None),
            ("/slave/S0/state.json", Some(Route::AgentState(named()))),
            ("/slave/S0/files/read.json", Some(Route::Files(named(), File::Read))),
            ("/slave/S0/files/browse", Some(Route::Files(named(), File::Browse))),
            ("/slave/S0/files/../x", None),
            ("/files/download", Some(Route::Files(Agent::Here, File::Download))),
            ("/mesos/master/state.json", Some(Route::MasterState)),
            ("/mesos/state", Some(Route::MasterState)),
            ("/master/state", Some(Route::MasterState)),
            ("/mesos/master/state-summary", Some(Route::MasterSummary)),
            ("/mesos/master/slaves", Some(Route::MasterSlaves)),
            ("/state", None),
            ("/mesos/", None),
            ("/", None),
        ] {
            assert_eq!(route(path), expected, "{path}");
        }
    }
}
