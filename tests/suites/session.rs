//! The executor's session with its agent, in process, against the fake agent.

use std::collections::BTreeMap;
use std::time::Duration;

use kube_executor::agent::environment::AgentEnvironment;
use kube_executor::agent::session::{Session, SessionConfig};
use kube_executor::agent::{AgentEvent, ShutdownCause, Text};
use kube_executor_tests::fake_agent::{
    Acknowledge, ClientCertificate, FakeAgent, Log, Options, PATIENCE, Received, Reply, Transport, Via,
    status, task_info,
};
use mesos::common::{TaskId, TaskState, TaskStatus};
use mesos::executor::CallType;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::timeout;

struct Rig {
    agent: FakeAgent,
    session: Session,
    events: mpsc::Receiver<AgentEvent>,
}

fn config(variables: &BTreeMap<String, String>) -> SessionConfig {
    let environment = AgentEnvironment::parse(variables).expect("the environment of an agent");
    SessionConfig::new(&environment).expect("usable certificates")
}

impl Rig {
    async fn start(options: Options) -> Self {
        Self::with(options, |_| {}).await
    }

    /// Subscribed, with the event read.
    async fn with(options: Options, change: impl FnOnce(&mut SessionConfig)) -> Self {
        let agent = FakeAgent::start(options).await;
        let mut config = config(&agent.environment());
        change(&mut config);
        let (session, events) = Session::start(config);
        let mut rig = Self { agent, session, events };
        assert!(matches!(rig.event().await, AgentEvent::Subscribed(_)));
        rig
    }

    async fn event(&mut self) -> AgentEvent {
        next(&mut self.events).await
    }

    /// Launches a task and waits until the driver would have it.
    async fn launch(&mut self, task_id: &str) {
        self.agent.launch(&task_info(task_id, &json!({})));
        assert!(matches!(self.event().await, AgentEvent::Launch(tasks) if tasks.len() == 1));
    }

    fn status(&self, task_id: &str, state: TaskState) -> TaskStatus {
        status(&self.agent.ids().0, task_id, state)
    }

    async fn push(&self, task_id: &str, state: TaskState) -> TaskStatus {
        let status = self.status(task_id, state);
        self.session.updates().send(status.clone()).await.expect("a session that takes updates");
        status
    }

    async fn wait_outstanding(&self, count: usize) {
        let mut counters = self.session.counters();
        let wait = timeout(PATIENCE, counters.wait_for(|counters| counters.outstanding == count)).await;
        drop(wait.unwrap_or_else(|_| panic!("waited for {count} outstanding:\n{}", self.agent.log())));
    }
}

async fn next(events: &mut mpsc::Receiver<AgentEvent>) -> AgentEvent {
    let event = timeout(PATIENCE, events.recv()).await.expect("waited for an event");
    event.expect("a session that runs")
}

fn states(statuses: &[TaskStatus]) -> Vec<&str> {
    statuses.iter().map(|status| status.state.name()).collect()
}

fn attempts(log: &Log, status: &TaskStatus) -> Vec<u16> {
    let updates = log.calls_of(CallType::Update);
    updates
        .filter(|call| call.update().is_some_and(|one| one.uuid == status.uuid))
        .map(|call| call.status)
        .collect()
}

#[tokio::test]
async fn a_subscribe_has_the_path_and_headers_that_the_agent_wants() {
    let rig = Rig::start(Options::default()).await;
    let log = rig.agent.log();
    let subscribe = log.calls_of(CallType::Subscribe).next().unwrap();
    assert_eq!(subscribe.path, "/slave(1)/api/v1/executor");
    assert_eq!(subscribe.headers["content-type"], "application/json");
    assert_eq!(subscribe.headers["accept"], "application/json");
    assert!(!subscribe.headers.contains_key("authorization"));
    assert_eq!(log.subscriptions, 1);
}

#[tokio::test]
async fn updates_arrive_in_order_on_one_connection_of_their_own() {
    let mut rig = Rig::start(Options::default()).await;
    for task in ["a", "b"] {
        rig.launch(task).await;
    }
    let mut pushed = Vec::new();
    for state in [TaskState::Starting, TaskState::Running, TaskState::Killing, TaskState::Killed] {
        for task in ["a", "b"] {
            pushed.push(rig.push(task, state).await);
        }
    }
    for left in (0..pushed.len()).rev() {
        let AgentEvent::Acknowledged { outstanding, .. } = rig.event().await else { panic!("another event") };
        assert!(outstanding >= left);
    }
    let log = rig.agent.log();
    assert_eq!(log.statuses, pushed);
    let connections =
        |kind| log.calls_of(kind).map(|call| call.connection).collect::<std::collections::BTreeSet<_>>();
    let updates = connections(CallType::Update);
    assert_eq!(updates.len(), 1);
    assert!(updates.is_disjoint(&connections(CallType::Subscribe)));
    assert!(log.calls_of(CallType::Update).all(|call| !call.headers.contains_key("accept")));
}

#[tokio::test]
async fn an_update_that_is_not_taken_is_sent_again_with_the_same_uuid_and_before_all_others() {
    let mut rig = Rig::start(Options::default()).await;
    rig.launch("a").await;
    rig.agent.script_updates([
        Reply::Status(503),
        Reply::Status(404),
        Reply::Status(403),
        Reply::Reset,
        Reply::Reset,
    ]);
    let first = rig.push("a", TaskState::Starting).await;
    let second = rig.push("a", TaskState::Running).await;
    rig.agent.wait_status("a", TaskState::Running).await;
    let log = rig.agent.log();
    let all: Vec<_> =
        log.calls_of(CallType::Update).map(|call| call.update().unwrap().uuid.clone()).collect();
    assert_eq!(all.split_last().unwrap(), (&second.uuid, &vec![first.uuid.clone(); all.len() - 1][..]));
    assert_eq!(attempts(&log, &first), [503, 404, 403, 0, 0, 202]);
    assert_eq!(rig.agent.statuses("a"), [first, second]);
}

#[tokio::test]
async fn an_update_without_an_answer_is_sent_again() {
    let mut rig =
        Rig::with(Options::default(), |config| config.limits.call = Duration::from_millis(100)).await;
    rig.launch("a").await;
    rig.agent.script_updates([Reply::Silence]);
    let status = rig.push("a", TaskState::Running).await;
    rig.agent.wait_status("a", TaskState::Running).await;
    assert_eq!(attempts(&rig.agent.log(), &status), [0, 202]);
}

#[tokio::test]
async fn a_refused_update_blocks_no_other_and_gets_one_more_chance() {
    let mut rig = Rig::start(Options::default()).await;
    rig.launch("a").await;
    rig.launch("b").await;
    rig.agent.script_updates([Reply::Status(400)]);
    let refused = rig.push("a", TaskState::Finished).await;
    rig.push("b", TaskState::Running).await;
    rig.agent.wait_status("b", TaskState::Running).await;
    rig.wait_outstanding(1).await;
    assert_eq!(attempts(&rig.agent.log(), &refused), [400]);

    rig.agent.script_updates([Reply::Status(400)]);
    rig.agent.drop_stream();
    rig.agent.wait_subscriptions(2).await;
    rig.wait_outstanding(0).await;
    let log = rig.agent.log();
    assert_eq!(attempts(&log, &refused), [400, 400]);
    let resubscribe = log.calls_of(CallType::Subscribe).next_back().unwrap().subscribe().unwrap();
    assert!(resubscribe.unacknowledged_updates.is_empty());
    assert_eq!(rig.session.counters().borrow().updates_dropped, 1);
}

#[tokio::test]
async fn an_update_that_is_refused_or_dropped_is_not_waited_for_by_the_driver() {
    let mut rig = Rig::start(Options::default()).await;
    rig.launch("a").await;
    let not_accepted = |event: AgentEvent| match event {
        AgentEvent::NotAccepted { task_id, outstanding } => (task_id.value, outstanding),
        other => panic!("another event: {other:?}"),
    };
    rig.agent.script_updates([Reply::Status(400)]);
    rig.push("a", TaskState::Finished).await;
    assert_eq!(not_accepted(rig.event().await), ("a".to_owned(), 0), "kept back");
    rig.agent.script_updates([Reply::Status(400)]);
    rig.agent.drop_stream();
    assert!(matches!(rig.event().await, AgentEvent::Subscribed(_)));
    assert_eq!(not_accepted(rig.event().await), ("a".to_owned(), 0), "dropped");
    rig.push("phantom", TaskState::Running).await;
    assert_eq!(not_accepted(rig.event().await), ("phantom".to_owned(), 0), "never received");
}

#[tokio::test]
async fn a_refused_update_does_not_hold_up_the_end_of_the_session() {
    let mut rig = Rig::start(Options::default()).await;
    rig.launch("a").await;
    rig.agent.script_updates([Reply::Status(400)]);
    rig.push("a", TaskState::Finished).await;
    assert!(matches!(rig.event().await, AgentEvent::NotAccepted { .. }));
    let drained = timeout(PATIENCE, rig.session.drain(2 * PATIENCE)).await.expect("an end");
    assert_eq!(drained, 1, "it is told as not acknowledged");
}

#[tokio::test]
async fn a_task_that_is_not_utf_8_is_delivered_as_such_and_resent_as_utf_8() {
    let mut rig = Rig::start(Options { acknowledge: Acknowledge::None, ..Options::default() }).await;
    let mut record = br#"{"type":"LAUNCH","launch":{"task":{"task_id":{"value":"a"},"name":"n"#.to_vec();
    record.extend_from_slice(b"\xff\"}}}");
    rig.agent.launch_raw(&["a"], &record);
    let AgentEvent::Launch(tasks) = rig.event().await else { panic!("another event") };
    assert_eq!((tasks.len(), tasks[0].text), (1, Text::Repaired));
    // No update could carry such an id.
    rig.agent
        .send_raw_record(b"{\"type\":\"LAUNCH\",\"launch\":{\"task\":{\"task_id\":{\"value\":\"\xff\"}}}}");
    rig.agent.drop_stream();
    assert!(matches!(rig.event().await, AgentEvent::Subscribed(_)));
    let log = rig.agent.log();
    let body = log.calls_of(CallType::Subscribe).next_back().unwrap().subscribe().unwrap();
    let tasks: Vec<_> = body.unacknowledged_tasks.iter().map(|task| task.get()).collect();
    assert_eq!(tasks, ["{\"task_id\":{\"value\":\"a\"},\"name\":\"n\u{fffd}\"}"]);
}

#[tokio::test]
async fn a_resubscription_carries_what_is_not_acknowledged_in_order_and_to_the_byte() {
    let mut rig = Rig::start(Options { acknowledge: Acknowledge::None, ..Options::default() }).await;
    let launched = task_info("new", &json!({"field_of_a_later_version": [1, "x"]}));
    rig.launch("old").await;
    rig.agent.launch(&launched);
    rig.event().await;
    let starting = rig.push("old", TaskState::Starting).await;
    rig.agent.wait_status("old", TaskState::Starting).await;
    rig.agent.acknowledge(&starting);
    assert!(matches!(rig.event().await, AgentEvent::Acknowledged { outstanding: 0, .. }));
    // A repeated acknowledgement is nothing.
    rig.agent.acknowledge(&starting);
    let running = rig.push("old", TaskState::Running).await;
    let failed = rig.push("old", TaskState::Failed).await;
    rig.agent.wait_status("old", TaskState::Failed).await;

    rig.agent.drop_stream();
    assert!(matches!(rig.event().await, AgentEvent::Subscribed(_)));
    let log = rig.agent.log();
    let body = log.calls_of(CallType::Subscribe).next_back().unwrap().subscribe().unwrap();
    let updates: Vec<_> = body.unacknowledged_updates.iter().map(|update| update.status.clone()).collect();
    assert_eq!(updates, [running.clone(), failed.clone()]);
    let tasks: Vec<_> = body.unacknowledged_tasks.iter().map(|task| task.get()).collect();
    assert_eq!(tasks, [launched.to_string()]);

    // What went with the subscription is not sent again by itself.
    rig.agent.acknowledge(&running);
    rig.agent.acknowledge(&failed);
    rig.wait_outstanding(0).await;
    assert_eq!(attempts(&rig.agent.log(), &failed), [202]);
}

#[tokio::test]
async fn updates_made_while_the_agent_is_away_arrive_in_order_when_it_is_back() {
    let mut rig = Rig::start(Options::default()).await;
    rig.launch("a").await;
    rig.push("a", TaskState::Starting).await;
    rig.agent.wait_status("a", TaskState::Starting).await;
    rig.wait_outstanding(0).await;
    rig.agent.down().await;
    let mut counters = rig.session.counters();
    for state in [TaskState::Running, TaskState::Killing, TaskState::Killed] {
        rig.push("a", state).await;
    }
    // It does not give up at the first refused connection.
    timeout(PATIENCE, counters.wait_for(|counters| counters.failed_attempts >= 2)).await.unwrap().unwrap();
    rig.agent.script_subscribes([Reply::Status(503), Reply::Status(404), Reply::Reset]);
    rig.agent.up().await;
    rig.agent.wait_status("a", TaskState::Killed).await;
    assert_eq!(
        states(&rig.agent.statuses("a")),
        ["TASK_STARTING", "TASK_RUNNING", "TASK_KILLING", "TASK_KILLED"]
    );
    rig.wait_outstanding(0).await;
    let log = rig.agent.log();
    let at: Vec<_> = log.calls_of(CallType::Subscribe).map(|call| call.at).collect();
    assert!(
        at[1..].windows(2).all(|pair| pair[1] - pair[0] < Duration::from_secs(2)),
        "attempts too far apart"
    );
}

#[tokio::test]
async fn a_record_that_cannot_be_read_costs_the_connection_and_nothing_else() {
    let limit = |config: &mut SessionConfig| config.limits.record = 1024 * 1024;
    let mut rig = Rig::with(Options::default(), limit).await;
    let bad: [&[u8]; 4] = [b"no number\n", b"1048577\n", b"9\nnot json!", b"123456789012345678901234567890"];
    for (number, bytes) in bad.into_iter().enumerate() {
        rig.agent.send_raw_bytes(bytes);
        assert!(matches!(rig.event().await, AgentEvent::Subscribed(_)), "{bytes:?}");
        assert_eq!(rig.agent.log().subscriptions, number + 2);
    }
    rig.launch("a").await;
}

#[tokio::test]
async fn an_event_that_makes_no_sense_is_ignored_alone() {
    let mut rig = Rig::start(Options::default()).await;
    for record in [
        &b""[..],
        br#"{"type":"LATER","later":{}}"#,
        br#"{"type":"KILL"}"#,
        br#"{"type":"LAUNCH","launch":{"task":{"name":"without an id"}}}"#,
        br#"{"type":"MESSAGE","message":{"data":"aGVsbG8="}}"#,
        br#"{"type":"ERROR","error":{"message":"bad"}}"#,
        br#"{"type":"HEARTBEAT"}"#,
        br#"["no object"]"#,
    ] {
        rig.agent.send_raw_record(record);
    }
    rig.agent.kill("never launched", Some(Duration::from_secs(7)));
    let AgentEvent::Kill { task_id, grace_period } = rig.event().await else { panic!("another event") };
    assert_eq!((task_id.as_str(), grace_period), ("never launched", Some(Duration::from_secs(7))));
    assert_eq!(rig.agent.log().subscriptions, 1);
}

#[tokio::test]
async fn a_task_is_launched_once_in_an_executors_life() {
    let mut rig = Rig::start(Options::default()).await;
    let task = |task_id| task_info(task_id, &json!({}));
    rig.launch("a").await;
    rig.push("a", TaskState::Finished).await;
    assert!(matches!(rig.event().await, AgentEvent::Acknowledged { .. }));
    rig.agent.launch(&task("a"));
    rig.agent.launch_group(&[task("a")]);
    rig.agent.launch_group(&[task("a"), task("b"), task("b"), task("c")]);
    let AgentEvent::Launch(tasks) = rig.event().await else { panic!("another event") };
    let ids: Vec<_> = tasks.iter().map(|task| task.raw.get().contains(r#""name":"b""#)).collect();
    assert_eq!(ids, [true, false]);
}

#[tokio::test]
async fn an_update_of_a_task_that_was_never_received_is_not_sent() {
    let mut rig = Rig::start(Options::default()).await;
    rig.push("phantom", TaskState::Running).await;
    assert!(matches!(rig.event().await, AgentEvent::NotAccepted { .. }));
    rig.launch("a").await;
    rig.push("a", TaskState::Running).await;
    rig.agent.wait_status("a", TaskState::Running).await;
    assert!(rig.agent.statuses("phantom").is_empty());
    assert_eq!(rig.session.counters().borrow().updates_dropped, 1);
}

#[tokio::test]
async fn an_agent_that_never_answers_is_given_up_after_the_recovery_timeout() {
    let options = Options { recovery_timeout: Duration::from_millis(300), ..Options::default() };
    let mut agent = FakeAgent::start(options.clone()).await;
    agent.down().await;
    let (_session, mut events) = Session::start(config(&agent.environment()));
    assert!(matches!(next(&mut events).await, AgentEvent::Shutdown(ShutdownCause::RecoveryTimeout)));

    // Connections are accepted, SUBSCRIBE is not answered: it is SUBSCRIBED that counts.
    let agent = FakeAgent::start(options).await;
    agent.script_subscribes([Reply::Silence; 100]);
    let (_session, mut events) = Session::start(config(&agent.environment()));
    assert!(matches!(next(&mut events).await, AgentEvent::Shutdown(ShutdownCause::RecoveryTimeout)));
    assert_eq!(agent.log().calls.len(), 1, "attempts pile up");
}

#[tokio::test]
async fn the_recovery_timeout_counts_from_the_loss_and_ends_with_a_subscription() {
    let options = Options { recovery_timeout: Duration::from_millis(1500), ..Options::default() };
    let mut rig = Rig::start(options).await;
    for _ in 0..3 {
        rig.agent.down().await;
        rig.agent.up().await;
        assert!(matches!(rig.event().await, AgentEvent::Subscribed(_)));
    }
    rig.agent.down().await;
    assert!(matches!(rig.event().await, AgentEvent::Shutdown(ShutdownCause::RecoveryTimeout)));
}

#[tokio::test]
async fn an_unanswered_subscribe_is_given_up_and_made_again() {
    let agent = FakeAgent::start(Options::default()).await;
    agent.script_subscribes([Reply::Silence]);
    let mut config = config(&agent.environment());
    config.limits.subscribe = Duration::from_millis(100);
    config.limits.resubscribe = Duration::from_millis(100);
    let (_session, mut events) = Session::start(config);
    assert!(matches!(next(&mut events).await, AgentEvent::Subscribed(_)));
    assert_eq!(agent.log().calls_of(CallType::Subscribe).count(), 2);
}

#[tokio::test]
async fn without_checkpointing_a_lost_stream_is_the_end_and_updates_still_go_out() {
    let mut rig = Rig::start(Options { checkpoint: false, ..Options::default() }).await;
    rig.launch("a").await;
    rig.agent.drop_stream();
    assert!(matches!(rig.event().await, AgentEvent::Shutdown(ShutdownCause::NotCheckpointing)));
    rig.push("a", TaskState::Killed).await;
    rig.agent.wait_status("a", TaskState::Killed).await;
    assert_eq!(rig.agent.log().subscriptions, 1);
}

#[tokio::test]
async fn without_checkpointing_a_bad_record_is_not_the_end() {
    let mut rig = Rig::start(Options { checkpoint: false, ..Options::default() }).await;
    rig.agent.send_raw_bytes(b"bad\n");
    assert!(matches!(rig.event().await, AgentEvent::Subscribed(_)));
}

#[tokio::test]
async fn after_a_shutdown_updates_go_out_although_the_stream_is_closed() {
    let mut rig = Rig::start(Options::default()).await;
    rig.launch("a").await;
    rig.agent.shutdown();
    assert!(matches!(rig.event().await, AgentEvent::Shutdown(ShutdownCause::Agent)));
    rig.agent.drop_stream();
    rig.push("a", TaskState::Killing).await;
    rig.push("a", TaskState::Killed).await;
    rig.agent.wait_status("a", TaskState::Killed).await;
    assert_eq!(rig.agent.log().calls_of(CallType::Subscribe).count(), 1, "reconnects in a hurry");
    // An agent that comes back acknowledges them after all.
    assert!(matches!(rig.event().await, AgentEvent::Subscribed(_)));
    rig.wait_outstanding(0).await;
}

#[tokio::test]
async fn every_call_carries_the_token() {
    let mut rig = Rig::start(Options { token: Some("a.b.c".to_owned()), ..Options::default() }).await;
    rig.launch("a").await;
    rig.push("a", TaskState::Running).await;
    rig.agent.wait_status("a", TaskState::Running).await;
    assert!(rig.agent.log().calls.iter().all(|call| call.headers["authorization"] == "Bearer a.b.c"));
}

#[tokio::test]
async fn the_unix_socket_is_taken_where_there_is_one() {
    let mut rig = Rig::start(Options { transport: Transport::Unix, ..Options::default() }).await;
    rig.launch("a").await;
    rig.push("a", TaskState::Running).await;
    rig.agent.wait_status("a", TaskState::Running).await;
    assert!(matches!(rig.event().await, AgentEvent::Acknowledged { .. }));
    rig.agent.down().await;
    rig.agent.up().await;
    assert!(matches!(rig.event().await, AgentEvent::Subscribed(_)));
    assert!(rig.agent.log().calls.iter().all(|call| call.via == Via::Unix));
}

#[tokio::test]
async fn tcp_is_taken_where_the_unix_socket_is_missing() {
    let agent = FakeAgent::start(Options { transport: Transport::Unix, ..Options::default() }).await;
    let mut environment = agent.environment();
    environment.insert("MESOS_DOMAIN_SOCKET".to_owned(), "/nonexistent/agent.sock".to_owned());
    let (_session, mut events) = Session::start(config(&environment));
    assert!(matches!(next(&mut events).await, AgentEvent::Subscribed(_)));
    assert!(agent.log().calls.iter().all(|call| call.via == Via::Tcp));
}

#[tokio::test]
async fn a_unix_socket_may_have_a_path_that_is_too_long_for_an_address() {
    let agent = FakeAgent::start(Options { transport: Transport::Unix, ..Options::default() }).await;
    let mut environment = agent.environment();
    let folder = tempfile::tempdir().unwrap();
    let long = folder.path().join("x".repeat(120));
    let socket = environment["MESOS_DOMAIN_SOCKET"].clone();
    std::os::unix::fs::symlink(std::path::Path::new(&socket).parent().unwrap(), &long).unwrap();
    environment.insert("MESOS_DOMAIN_SOCKET".to_owned(), long.join("agent.sock").display().to_string());
    let (_session, mut events) = Session::start(config(&environment));
    assert!(matches!(next(&mut events).await, AgentEvent::Subscribed(_)));
    assert!(agent.log().calls.iter().all(|call| call.via == Via::Unix));
}

#[tokio::test]
async fn by_tls_both_sides_prove_who_they_are() {
    let transport = Transport::Tls(ClientCertificate::Required);
    let mut rig = Rig::start(Options { transport, ..Options::default() }).await;
    rig.launch("a").await;
    rig.push("a", TaskState::Running).await;
    rig.agent.wait_status("a", TaskState::Running).await;
    assert!(rig.agent.log().calls.iter().all(|call| call.via == Via::Tls));
}

#[tokio::test]
async fn an_agent_of_another_authority_gets_no_call_unless_verification_is_off() {
    let transport = Transport::Tls(ClientCertificate::NotAsked);
    let agent = FakeAgent::start(Options { transport, ..Options::default() }).await;
    let mut environment = agent.environment();
    environment.insert("LIBPROCESS_SSL_CA_FILE".to_owned(), agent.other_authority().display().to_string());
    let (session, _events) = Session::start(config(&environment));
    let mut counters = session.counters();
    timeout(PATIENCE, counters.wait_for(|counters| counters.failed_attempts >= 1)).await.unwrap().unwrap();
    agent.wait_for("a failed handshake", |log| (!log.failed_handshakes.is_empty()).then_some(())).await;
    assert!(agent.log().calls.is_empty());
    drop(session);

    environment.insert("LIBPROCESS_SSL_VERIFY_SERVER_CERT".to_owned(), "false".to_owned());
    let (_session, mut events) = Session::start(config(&environment));
    assert!(matches!(next(&mut events).await, AgentEvent::Subscribed(_)));
}

#[tokio::test]
async fn an_executor_without_the_certificate_that_the_agent_requires_is_not_subscribed() {
    let transport = Transport::Tls(ClientCertificate::Required);
    let agent = FakeAgent::start(Options { transport, ..Options::default() }).await;
    let mut environment = agent.environment();
    environment.remove("LIBPROCESS_SSL_CERT_FILE");
    environment.remove("LIBPROCESS_SSL_KEY_FILE");
    let (session, _events) = Session::start(config(&environment));
    let mut counters = session.counters();
    timeout(PATIENCE, counters.wait_for(|counters| counters.failed_attempts >= 1)).await.unwrap().unwrap();
    assert!(agent.log().calls.is_empty());
}

#[tokio::test]
async fn a_drain_ends_with_the_last_acknowledgement() {
    let mut rig = Rig::start(Options { acknowledge: Acknowledge::None, ..Options::default() }).await;
    rig.launch("a").await;
    let running = rig.push("a", TaskState::Running).await;
    let killed = rig.push("a", TaskState::Killed).await;
    let Rig { agent, session, events: _events } = rig;
    let drained = tokio::spawn(session.drain(PATIENCE));
    agent.wait_status("a", TaskState::Killed).await;
    agent.acknowledge(&running);
    agent.acknowledge(&killed);
    assert_eq!(drained.await.unwrap(), 0);
}

#[tokio::test]
async fn a_drain_that_takes_too_long_says_what_is_left() {
    let mut rig = Rig::start(Options { acknowledge: Acknowledge::None, ..Options::default() }).await;
    rig.launch("a").await;
    rig.push("a", TaskState::Running).await;
    rig.push("a", TaskState::Killed).await;
    rig.agent.wait_status("a", TaskState::Killed).await;
    assert_eq!(rig.session.drain(Duration::from_millis(50)).await, 2);
}

#[tokio::test]
async fn a_driver_that_reads_no_events_still_gets_its_updates_out() {
    let mut rig = Rig::start(Options::default()).await;
    rig.launch("a").await;
    for number in 0..2000 {
        rig.agent.kill(&format!("t-{number}"), None);
    }
    for _ in 0..300 {
        rig.push("a", TaskState::Running).await;
    }
    rig.push("a", TaskState::Finished).await;
    rig.agent.wait_status("a", TaskState::Finished).await;
    assert_eq!(rig.agent.statuses("a").len(), 301);
    for number in 0..2000 {
        let AgentEvent::Kill { task_id, .. } = rig.event().await else { panic!("another event") };
        assert_eq!(task_id, TaskId::new(format!("t-{number}")));
    }
}

#[tokio::test]
async fn a_silent_stream_is_made_anew() {
    let mut rig =
        Rig::with(Options::default(), |config| config.limits.silence = Duration::from_millis(200)).await;
    assert!(matches!(rig.event().await, AgentEvent::Subscribed(_)));
    assert_eq!(rig.session.counters().borrow().subscriptions, 2);
}

#[tokio::test]
async fn heartbeats_go_out_for_as_long_as_the_stream_lives() {
    let rig =
        Rig::with(Options::default(), |config| config.limits.heartbeat = Duration::from_millis(20)).await;
    let beats = |log: &Log| {
        let beats: Vec<Received> = log.calls_of(CallType::Heartbeat).cloned().collect();
        (beats.len() >= 3).then_some(beats)
    };
    let beats = rig.agent.wait_for("three heartbeats", beats).await;
    assert!(beats.iter().all(|call| call.status == 202));
}

#[tokio::test]
async fn an_agent_that_answers_with_shutdown_is_heard() {
    let mut agent = FakeAgent::start(Options::default()).await;
    agent.down().await;
    let listener =
        tokio::net::TcpListener::bind(agent.environment()["MESOS_AGENT_ENDPOINT"].as_str()).await.unwrap();
    let (_session, mut events) = Session::start(config(&agent.environment()));
    let (mut stream, _) = listener.accept().await.unwrap();
    let record = mesos::recordio::encode(br#"{"type":"SHUTDOWN"}"#);
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", record.len());
    tokio::io::AsyncWriteExt::write_all(&mut stream, &[head.as_bytes(), &record].concat()).await.unwrap();
    assert!(matches!(next(&mut events).await, AgentEvent::Shutdown(ShutdownCause::Agent)));
}
