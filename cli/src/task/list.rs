//! `kubex task list`.

use task::control::{Pod, Task};

use crate::arguments::Format;
use crate::client::Client;
use crate::duration::age;
use crate::failure::Failure;
use crate::output;
use crate::table::{self, Cell, Colors, Mood, Side};

/// Writes the tasks.
pub(crate) async fn run(client: &Client, format: Format) -> Result<u8, Failure> {
    let bytes = client.connect().await?.tasks().await?;
    if format == Format::Json {
        output::print(&bytes)?;
        output::print(if bytes.ends_with(b"\n") { b"" } else { b"\n" })?;
    } else {
        let pods = client.pods(&bytes)?;
        output::print(text(&pods, super::now(), Colors::of_stdout()).as_bytes())?;
    }
    Ok(0)
}

fn text(pods: &[Pod], now: u64, colors: Colors) -> String {
    let columns = [
        ("POD", Side::Left),
        ("TASK", Side::Left),
        ("STATE", Side::Left),
        ("HEALTH", Side::Left),
        ("PID", Side::Right),
        ("RESTARTS", Side::Right),
        ("CPU", Side::Right),
        ("MEMORY", Side::Right),
        ("AGE", Side::Right),
    ];
    let mut rows: Vec<Vec<Cell>> = Vec::new();
    for pod in pods {
        rows.extend(pod.tasks.iter().map(|task| row(pod, task, now)));
    }
    table::render(&columns, &rows, colors)
}

fn row(pod: &Pod, task: &Task, now: u64) -> Vec<Cell> {
    let usage = |show: fn(&task::control::Usage) -> String| {
        Cell::from(task.usage.as_ref().map_or("-".to_owned(), show))
    };
    vec![
        (&pod.name).into(),
        (&task.name).into(),
        state(task),
        health(task),
        task.pid.map_or("-".to_owned(), |pid| pid.to_string()).into(),
        task.restarts.to_string().into(),
        usage(|usage| processor_time(usage.cpu_micros)),
        usage(|usage| table::bytes(usage.memory_bytes)),
        age(now.saturating_sub(task.launched_at) / 1000).into(),
    ]
}

fn state(task: &Task) -> Cell {
    let name = task.state.name();
    let short = name.strip_prefix("TASK_").unwrap_or(name);
    let mood = match short {
        "RUNNING" | "FINISHED" => Mood::Good,
        "STAGING" | "STARTING" | "KILLING" | "KILLED" => Mood::Uncertain,
        _ => Mood::Bad,
    };
    Cell::new(short.to_lowercase(), mood)
}

fn health(task: &Task) -> Cell {
    match (task.healthy, task.ready) {
        (Some(false), _) => Cell::new("unhealthy", Mood::Bad),
        (_, Some(false)) => Cell::new("not ready", Mood::Uncertain),
        (Some(true), _) => Cell::new("healthy", Mood::Good),
        (None, Some(true)) => Cell::new("ready", Mood::Good),
        (None, None) => Cell::from("-"),
    }
}

/// Processor time so far: tenths of seconds below two minutes.
pub(crate) fn processor_time(micros: u64) -> String {
    let tenths = micros / 100_000;
    if tenths < 1200 { format!("{}.{}s", tenths / 10, tenths % 10) } else { age(tenths / 10) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::tests::pod;

    #[test]
    fn a_line_for_each_task() {
        let mut pods = vec![pod("etcd-0", &["etcd-0-peer"]), pod("web-12", &["web-12-server"])];
        let ended = &mut pods[1].tasks[0];
        (ended.pid, ended.healthy, ended.ready, ended.usage) = (None, Some(false), None, None);
        ended.state = mesos_state("TASK_FAILED");
        insta::assert_snapshot!(text(&pods, 186_000, Colors::None), @r"
        POD      TASK            STATE     HEALTH      PID   RESTARTS    CPU   MEMORY    AGE
        etcd-0   etcd-0-peer     running   healthy      42          2   1.5s     12Mi   3m5s
        web-12   web-12-server   failed    unhealthy     -          2      -        -   3m5s
        ");
    }

    fn mesos_state<T: serde::de::DeserializeOwned>(name: &str) -> T {
        serde_json::from_value(name.into()).unwrap()
    }

    #[test]
    fn processor_time_is_short() {
        assert_eq!(
            [0, 99_999, 1_540_000, 119_900_000, 125_000_000].map(processor_time),
            ["0.0s", "0.0s", "1.5s", "119.9s", "2m5s"]
        );
    }
}
