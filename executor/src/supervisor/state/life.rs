//! The transition table of the executor's own life: every state with every event.
//!
//! Each row names what follows for each state, in the order of [`STATES`]: the state after, then the effects, those of
//! task `a` that lives in three of the states among them. A pair that does nothing is written as `=`.

use super::super::table::a_task;
use super::super::{Exit, ExitStatus, Instance, ProcessEvent};
use super::*;
use crate::spec::field::Field;

const STATES: [&str; 6] = ["Idle", "Serving", "Unacknowledged", "Stopping", "Forcing", "Over"];

const START: Moment = Moment(Duration::ZERO);
const LATER: Moment = Moment(Duration::from_secs(1));
/// When every deadline of the states has passed.
const END: Moment = Moment(Duration::from_secs(1000));

/// A supervisor brought into a state by the events that lead there.
fn in_state(state: &str) -> Supervisor {
    let mut supervisor = Supervisor::new(Duration::from_secs(300), 0);
    let shutdown = |within: u64| Event::Shutdown { within: Duration::from_secs(within) };
    match state {
        "Idle" => return supervisor,
        "Over" => {
            supervisor.handle(shutdown(10), START);
            return supervisor;
        }
        _ => {}
    }
    supervisor.handle(launch("a"), START);
    supervisor.handle(of_a(ProcessEvent::Started), START);
    match state {
        "Unacknowledged" => drop(supervisor.handle(exited(), START)),
        "Stopping" => drop(supervisor.handle(shutdown(10), START)),
        "Forcing" => drop(supervisor.handle(shutdown(0), START)),
        _ => {}
    }
    supervisor
}

fn launch(id: &str) -> Event {
    Event::Launch(vec![Launched::Valid(Box::new(a_task(id, id)))])
}

fn of_a(event: ProcessEvent) -> Event {
    Event::Process { id: TaskId::new("a"), instance: Instance(1), event }
}

fn exited() -> Event {
    of_a(ProcessEvent::Exited(Exit { status: ExitStatus::Code(0), out_of_memory: None }))
}

fn invalid() -> Event {
    let error = Field::new("data.umask").error("9", "must be octal digits");
    Event::Launch(vec![Launched::Invalid { id: TaskId::new("b"), name: TaskName("b".to_owned()), error }])
}

type Input = (&'static str, fn() -> (Event, Moment));

const INPUTS: [Input; 10] = [
    ("launch", || (launch("b"), LATER)),
    ("launch of a wrong task", || (invalid(), LATER)),
    ("launch of a known task", || (launch("a"), LATER)),
    ("kill", || (Event::Kill { id: TaskId::new("a"), grace: None }, LATER)),
    ("its task ends", || (exited(), LATER)),
    ("all is acknowledged", || (Event::Outstanding(0), LATER)),
    ("one is not acknowledged", || (Event::Outstanding(1), LATER)),
    ("shutdown", || (Event::Shutdown { within: Duration::from_secs(10) }, LATER)),
    ("shutdown at once", || (Event::Shutdown { within: Duration::ZERO }, LATER)),
    ("time passes", || (Event::Tick, END)),
];

#[rustfmt::skip]
const TABLE: [(&str, [&str; 6]); 10] = [
    ("launch", [
        "Serving, STARTING, start", // Idle
        "Serving, STARTING, start", // Serving
        "Serving, STARTING, start", // Unacknowledged
        "Stopping, KILLED", // Stopping
        "Forcing, KILLED", // Forcing
        "Over, KILLED", // Over
    ]),
    ("launch of a wrong task", [
        "Idle, ERROR", // Idle
        "Serving, ERROR", // Serving
        "Unacknowledged, ERROR", // Unacknowledged
        "Stopping, KILLED", // Stopping
        "Forcing, KILLED", // Forcing
        "Over, KILLED", // Over
    ]),
    ("launch of a known task", [
        "Serving, STARTING, start", // Idle
        "=", // Serving
        "=", // Unacknowledged
        "=", // Stopping
        "=", // Forcing
        "Over, KILLED", // Over
    ]),
    ("kill", [
        "=", // Idle
        "Serving, KILLING, SIGTERM", // Serving
        "=", // Unacknowledged
        "=", // Stopping
        "=", // Forcing
        "=", // Over
    ]),
    ("its task ends", [
        "=", // Idle
        "Unacknowledged, FINISHED, release", // Serving
        "=", // Unacknowledged
        "Over, KILLED, release, exit: shutdown", // Stopping
        "Over, KILLED, release, exit: shutdown", // Forcing
        "=", // Over
    ]),
    ("all is acknowledged", [
        "=", // Idle
        "=", // Serving
        "Idle", // Unacknowledged
        "=", // Stopping
        "=", // Forcing
        "=", // Over
    ]),
    ("one is not acknowledged", [
        "Unacknowledged", // Idle
        "=", // Serving
        "=", // Unacknowledged
        "=", // Stopping
        "=", // Forcing
        "=", // Over
    ]),
    ("shutdown", [
        "Over, exit: shutdown", // Idle
        "Stopping, KILLING, SIGTERM", // Serving
        "Over, exit: shutdown", // Unacknowledged
        "=", // Stopping
        "=", // Forcing
        "=", // Over
    ]),
    ("shutdown at once", [
        "Over, exit: shutdown", // Idle
        "Forcing, KILLING, SIGTERM, SIGKILL", // Serving
        "Over, exit: shutdown", // Unacknowledged
        "Forcing, SIGKILL", // Stopping
        "=", // Forcing
        "=", // Over
    ]),
    ("time passes", [
        "Over, exit: idle", // Idle
        "=", // Serving
        "=", // Unacknowledged
        "Forcing, SIGKILL", // Stopping
        "=", // Forcing
        "=", // Over
    ]),
];

fn name(supervisor: &Supervisor) -> &'static str {
    match supervisor.life {
        Life::Idle { .. } => "Idle",
        Life::Serving if supervisor.tasks.values().any(Task::is_living) => "Serving",
        Life::Serving => "Unacknowledged",
        Life::Stopping { .. } => "Stopping",
        Life::Forcing => "Forcing",
        Life::Over => "Over",
    }
}

fn outcome(state: &str, input: &Input) -> String {
    let mut supervisor = in_state(state);
    assert_eq!(name(&supervisor), state);
    let before = supervisor.life;
    let (event, now) = input.1();
    let effects = supervisor.handle(event, now);
    if name(&supervisor) == state && supervisor.life == before && effects.is_empty() {
        return "=".to_owned();
    }
    let effects = effects.iter().filter_map(|effect| match effect {
        Effect::Publish(status) => Some(status.state.as_str().trim_start_matches("TASK_")),
        Effect::Start { .. } => Some("start"),
        Effect::Cancel { .. } => Some("cancel"),
        Effect::Terminate { .. } => Some("SIGTERM"),
        Effect::Kill { .. } => Some("SIGKILL"),
        Effect::StartChecks { .. } | Effect::StopChecks { .. } | Effect::Moved(_) => None,
        Effect::Release { .. } => Some("release"),
        Effect::Exit(ExitCause::Idle) => Some("exit: idle"),
        Effect::Exit(ExitCause::Shutdown) => Some("exit: shutdown"),
    });
    std::iter::once(name(&supervisor)).chain(effects).collect::<Vec<_>>().join(", ")
}

#[test]
fn the_executor_takes_every_event_in_every_state_of_its_life_as_written() {
    let mut wrong = Vec::new();
    for (input, (title, row)) in INPUTS.iter().zip(&TABLE) {
        assert_eq!(input.0, *title, "the rows are in the order of the inputs");
        for (index, state) in STATES.iter().enumerate() {
            let found = outcome(state, input);
            if row[index] != found {
                wrong.push(format!("{state} + {title}: {found}"));
            }
        }
    }
    assert!(wrong.is_empty(), "not as written:\n{}", wrong.join("\n"));
}
