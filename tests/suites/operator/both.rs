//! A real agent and an endpoint that know the same containers, asked for the same and compared.

use std::cell::RefCell;
use std::collections::BTreeSet;

use kube_executor_tests::describe::argv_task;
use kube_executor_tests::endpoint::{self, Endpoint};
use kube_executor_tests::operator::{Answered, Asked, Input, Output, Server, differences};
use kube_executor_tests::stage::{PATIENCE, Stage};
use mesos::common::{ContainerInfo, TaskId, TaskState, TtyInfo};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::necessary::{EVERYWHERE, Necessary};
use crate::requests::{INPUT, JSON, PATH, STREAM, of_container};

/// How often an input is tried that an agent loses.
pub(crate) const ATTEMPTS: usize = 10;

/// A real agent, and an endpoint, that know the same containers.
pub(crate) struct Both {
    stage: Stage,
    endpoint: Endpoint,
    pub(crate) agent: Server,
    pub(crate) ours: Server,
    pub(crate) container: String,
    task: TaskId,
    pub(crate) terminal: TaskId,
    /// What was not the same, all of it.
    different: RefCell<Vec<String>>,
    /// What differed of necessity.
    needed: RefCell<BTreeSet<(&'static str, &'static str)>>,
    /// What was allowed to.
    allowed: RefCell<BTreeSet<(&'static str, &'static str)>>,
}

impl Both {
    pub(crate) async fn start() -> Self {
        let stage = Stage::start().await;
        stage.open_to_all();
        let program = stage.program().clone().argument("--exec-user").argument(endpoint::USER.0);
        let pod = program.pod("operator-0");
        let idle = argv_task("operator-0-idle", &["sleep", "100000"]);
        let mut terminal = argv_task("operator-0-terminal", &["cat"]);
        terminal.container = Some(ContainerInfo {
            kind: Some("MESOS".to_owned()),
            tty_info: Some(TtyInfo::default()),
            ..ContainerInfo::default()
        });
        let tasks = [idle.task_id.clone(), terminal.task_id.clone()];
        stage.launch(&pod, vec![idle, terminal]).await;
        for task in &tasks {
            stage.state(task, TaskState::Running).await;
        }
        let endpoint = Endpoint::start(&stage.rig.folder().join("state/control")).await;
        let alice = endpoint.client("alice", "ops");
        let [task, terminal] = tasks;
        let both = Self {
            agent: Server::agent(stage.rig.master()),
            ours: Server::endpoint(&endpoint, &alice).expect("a client"),
            container: stage.container(&pod.executor_id),
            stage,
            endpoint,
            task,
            terminal,
            different: RefCell::default(),
            needed: RefCell::default(),
            allowed: RefCell::default(),
        };
        both.nest(
            &both.task(),
            &json!({"value": "sleep", "arguments": ["sleep", "100000"], "shell": false}),
            None,
        )
        .await;
        let cat = json!({"value": "cat", "arguments": ["cat"], "shell": false});
        both.nest(&both.terminal(), &cat, Some(&json!({"type": "MESOS", "tty_info": {}}))).await;
        both.until_known().await;
        both
    }

    /// Starts at the agent what the executor has started already.
    async fn nest(&self, id: &Value, command: &Value, container: Option<&Value>) {
        let launch = json!({"type": "LAUNCH_NESTED_CONTAINER",
            "launch_nested_container": {"container_id": id, "command": command, "container": container}});
        let launch = without_nulls(launch).to_string();
        let answered = self.agent.send(&post(JSON, launch.as_bytes())).await.expect("an answer");
        assert_eq!(answered.status, 200, "{}", answered.decoded());
    }

    /// Waits until the endpoint has heard of the executor.
    async fn until_known(&self) {
        let end = Instant::now() + PATIENCE;
        let body = br#"{"type":"GET_TASKS"}"#;
        loop {
            let tasks = self.ours.send(&post(JSON, body)).await.expect("an answer").decoded();
            let launched = tasks.pointer("/get_tasks/launched_tasks").and_then(Value::as_array).map(Vec::len);
            if launched == Some(2) {
                return;
            }
            assert!(Instant::now() < end, "{tasks}");
            sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    pub(crate) fn task(&self) -> Value {
        json!({"value": self.task.as_str(), "parent": {"value": self.container}})
    }

    pub(crate) fn terminal(&self) -> Value {
        json!({"value": self.terminal.as_str(), "parent": {"value": self.container}})
    }

    /// An id for a session in the task.
    pub(crate) fn fresh(&self) -> Value {
        json!({"value": uuid::Uuid::new_v4().to_string(), "parent": self.task()})
    }

    /// Asks both for the same and compares; returns the endpoint's answer.
    pub(crate) async fn same(&self, headers: &[(&str, &str)], body: &[u8], but: Necessary) -> Answered {
        self.same_at(&post(headers, body), but).await
    }

    pub(crate) async fn same_at(&self, asked: &Asked<'_>, but: Necessary) -> Answered {
        for _ in 0..ATTEMPTS {
            let [theirs, ours] = self.once(asked).await;
            if !is_lost(&theirs) {
                self.compare(&what(asked), &ours, &theirs, but);
                return ours;
            }
        }
        panic!("{}: lost {ATTEMPTS} times", what(asked))
    }

    /// What the agent answers, and what the endpoint does.
    pub(crate) async fn once(&self, asked: &Asked<'_>) -> [Answered; 2] {
        let (theirs, ours) = tokio::join!(self.agent.send(asked), self.ours.send(asked));
        // Without one of them there is nothing more to compare.
        [theirs, ours].map(|answered| {
            answered.unwrap_or_else(|error| panic!("{}: {error:#}\n{}", what(asked), self.report()))
        })
    }

    pub(crate) async fn call(&self, kind: &str, container: &Value, but: Necessary) -> Answered {
        self.same(JSON, of_container(kind, container).as_bytes(), but).await
    }

    pub(crate) fn compare(&self, what: &str, ours: &Answered, theirs: &Answered, but: Necessary) {
        self.allowed.borrow_mut().extend(but);
        let mut lines = Vec::new();
        for (name, sentence) in differences(ours, theirs) {
            match EVERYWHERE.iter().chain(but).find(|(allowed, _)| covers(allowed, &name)) {
                Some(necessary) => drop(self.needed.borrow_mut().insert(*necessary)),
                None => lines.push(format!("\n    {sentence}")),
            }
        }
        if !lines.is_empty() {
            self.different.borrow_mut().push(format!("{what}{}", lines.concat()));
        }
    }

    /// Starts a session at both and leaves their streams open.
    pub(crate) async fn sessions(&self, body: &Value) -> [Output; 2] {
        let body = body.to_string();
        let asked = post(STREAM, body.as_bytes());
        let (theirs, ours) = tokio::join!(self.agent.start(&asked), self.ours.start(&asked));
        [theirs.expect("the agent's session"), ours.expect("the endpoint's session")]
    }

    /// Begins an input at both.
    pub(crate) async fn inputs(&self, first: &[u8]) -> [Input; 2] {
        let asked = post(INPUT, first);
        let (theirs, ours) = tokio::join!(self.agent.hold(&asked), self.ours.hold(&asked));
        [theirs.expect("an input to the agent"), ours.expect("an input to the endpoint")]
    }

    /// Ends both and compares.
    pub(crate) async fn finish(&self, what: &str, [theirs, ours]: [Input; 2], but: Necessary) {
        let (theirs, ours) = tokio::join!(theirs.finish(), ours.finish());
        self.compare(what, &ours.expect(what), &theirs.expect(what), but);
    }

    /// Waits for the end of both and compares; returns what they say.
    pub(crate) async fn rest(&self, what: &str, [theirs, ours]: [Output; 2], but: Necessary) -> Value {
        let (theirs, ours) = tokio::join!(theirs.rest(), ours.rest());
        self.compare(what, &ours, &theirs, but);
        ours.decoded()
    }

    fn report(&self) -> String {
        let different = self.different.borrow();
        format!("{} answers differ:\n{}", different.len(), different.join("\n"))
    }

    pub(crate) async fn end(self) {
        assert!(self.different.borrow().is_empty(), "{}", self.report());
        let unneeded: Vec<_> = self.allowed.borrow().difference(&self.needed.borrow()).copied().collect();
        assert!(unneeded.is_empty(), "these differences are no longer necessary: {unneeded:#?}");
        drop(self.endpoint);
        self.stage.end().await;
    }
}

/// Whether the agent's switchboard had answered and hung up while the agent still wrote to it: then the agent does not have the
/// answer, and there is nothing to compare with.
pub(crate) fn is_lost(theirs: &Answered) -> bool {
    theirs.status == 500 && theirs.decoded() == "Broken pipe"
}

pub(crate) fn what(asked: &Asked<'_>) -> String {
    let Asked { method, path, headers, body } = asked;
    format!("{method} {path} {headers:?} {}", String::from_utf8_lossy(body))
}

/// Whether a name is meant; a star at one end stands for anything.
fn covers(allowed: &str, name: &str) -> bool {
    match (allowed.strip_prefix('*'), allowed.strip_suffix('*')) {
        (Some(end), _) => name.ends_with(end),
        (None, Some(beginning)) => name.starts_with(beginning),
        (None, None) => allowed == name,
    }
}

pub(crate) fn post<'a>(headers: &'a [(&'a str, &'a str)], body: &'a [u8]) -> Asked<'a> {
    Asked { method: "POST", path: PATH, headers, body }
}

fn without_nulls(mut value: Value) -> Value {
    if let Value::Object(fields) = &mut value {
        fields.retain(|_, value| !value.is_null());
        for value in fields.values_mut() {
            *value = without_nulls(value.take());
        }
    }
    value
}
