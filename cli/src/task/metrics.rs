//! `kubex task metrics`: what tasks have used so far.

use clap::Args;
use serde_json::json;
use task::control::{Pod, Task};

use super::list::processor_time;
use crate::arguments::Format;
use crate::client::Client;
use crate::failure::Failure;
use crate::output;
use crate::table::{self, Cell, Colors, Side};

/// Of which task.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The task: its name, its id, or a unique prefix of either; all if none is given
    task: Option<String>,
}

/// Writes it.
pub(crate) async fn run(client: &Client, arguments: &Arguments, format: Format) -> Result<u8, Failure> {
    let pods = client.connect().await?.pods().await?;
    let tasks: Vec<(&Pod, &Task)> = match &arguments.task {
        Some(name) => vec![super::resolve(name, &pods)?],
        None => pods.iter().flat_map(|pod| pod.tasks.iter().map(move |task| (pod, task))).collect(),
    };
    output::print(
        match format {
            Format::Json => json_text(&tasks),
            Format::Table => text(&tasks),
        }
        .as_bytes(),
    )?;
    Ok(0)
}

fn json_text(tasks: &[(&Pod, &Task)]) -> String {
    let list: Vec<_> = tasks
        .iter()
        .map(|(pod, task)| json!({ "pod": pod.name, "task": task.name, "usage": task.usage }))
        .collect();
    format!("{}\n", serde_json::Value::from(list))
}

fn text(tasks: &[(&Pod, &Task)]) -> String {
    let columns = [
        ("POD", Side::Left),
        ("TASK", Side::Left),
        ("CPU", Side::Right),
        ("MEMORY", Side::Right),
        ("PROCESSES", Side::Right),
    ];
    let row = |(pod, task): &(&Pod, &Task)| -> Vec<Cell> {
        let [cpu, memory, processes] = match task.usage {
            Some(usage) => [
                processor_time(usage.cpu_micros),
                table::bytes(usage.memory_bytes),
                usage.processes.to_string(),
            ],
            None => ["-", "-", "-"].map(str::to_owned),
        };
        vec![(&pod.name).into(), (&task.name).into(), cpu.into(), memory.into(), processes.into()]
    };
    table::render(&columns, &tasks.iter().map(row).collect::<Vec<_>>(), Colors::None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_a_dash_and_null() {
        let mut pod = crate::task::tests::pod("p", &["a", "b"]);
        pod.tasks[1].usage = None;
        let tasks: Vec<_> = pod.tasks.iter().map(|task| (&pod, task)).collect();
        assert_eq!(
            text(&tasks),
            "POD   TASK    CPU   MEMORY   PROCESSES\np     a      1.5s     12Mi           3\np     b         -        -           -\n"
        );
        let json: serde_json::Value = serde_json::from_str(&json_text(&tasks)).unwrap();
        assert_eq!((json[0]["usage"]["processes"].as_u64(), json[1]["usage"].is_null()), (Some(3), true));
    }
}
