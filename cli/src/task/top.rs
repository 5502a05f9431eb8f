//! `kubex task top`: what tasks use now, from two samples; drawn again and again on a terminal.

use std::collections::HashMap;
use std::io::IsTerminal as _;
use std::time::Duration;

use serde_json::json;
use task::control::Pod;
use tokio::time::Instant;

use crate::arguments::Format;
use crate::client::Client;
use crate::failure::Failure;
use crate::output;
use crate::table::{self, Cell, Colors, Side};
use crate::terminal;

/// Between two samples.
const PERIOD: Duration = Duration::from_secs(2);

/// Shows it until it is interrupted, or once.
pub(crate) async fn run(client: &Client, format: Format) -> Result<u8, Failure> {
    let again = format == Format::Table && std::io::stdout().is_terminal();
    let mut connection = client.connect().await?;
    let mut before = (Instant::now(), connection.pods().await?);
    loop {
        tokio::time::sleep(PERIOD).await;
        let now = (Instant::now(), connection.pods().await?);
        let lines = lines(&before.1, &now.1, now.0 - before.0);
        match (format, again) {
            (Format::Json, _) => output::print(json_text(&lines).as_bytes())?,
            (_, false) => output::print(text(&lines).as_bytes())?,
            (_, true) => output::print(
                screen(&text(&lines), terminal::size().map(|size| size.rows.into())).as_bytes(),
            )?,
        }
        if !again {
            return Ok(0);
        }
        before = now;
    }
}

/// What a task uses now.
#[derive(Debug, PartialEq, Eq)]
struct Line<'a> {
    pod: &'a str,
    task: &'a str,
    /// Thousandths of a processor.
    cpu_milli: u64,
    memory: u64,
    processes: u64,
}

/// The tasks that were there both times, the busiest first. Time that went back (another process) counts as none.
fn lines<'a>(before: &[Pod], now: &'a [Pod], between: Duration) -> Vec<Line<'a>> {
    let tasks = |pods: &'a [Pod]| pods.iter().flat_map(|pod| pod.tasks.iter().map(move |task| (pod, task)));
    let used: HashMap<_, u64> = before
        .iter()
        .flat_map(|pod| &pod.tasks)
        .filter_map(|task| Some((task.id.as_str(), task.usage?.cpu_micros)))
        .collect();
    let micros = u64::try_from(between.as_micros()).unwrap_or(u64::MAX).max(1);
    let mut lines: Vec<Line<'a>> = tasks(now)
        .filter_map(|(pod, task)| {
            let usage = task.usage?;
            let more = usage.cpu_micros.saturating_sub(*used.get(task.id.as_str())?);
            Some(Line {
                pod: &pod.name,
                task: &task.name,
                cpu_milli: more.saturating_mul(1000) / micros,
                memory: usage.memory_bytes,
                processes: usage.processes,
            })
        })
        .collect();
    lines
        .sort_by(|a, b| b.cpu_milli.cmp(&a.cpu_milli).then(b.memory.cmp(&a.memory)).then(a.task.cmp(b.task)));
    lines
}

fn text(lines: &[Line<'_>]) -> String {
    let columns = [
        ("POD", Side::Left),
        ("TASK", Side::Left),
        ("CPU%", Side::Right),
        ("MEMORY", Side::Right),
        ("PROCESSES", Side::Right),
    ];
    let row = |line: &Line<'_>| -> Vec<Cell> {
        let percent = format!("{}.{}", line.cpu_milli / 10, line.cpu_milli % 10);
        vec![
            line.pod.into(),
            line.task.into(),
            percent.into(),
            table::bytes(line.memory).into(),
            line.processes.to_string().into(),
        ]
    };
    table::render(&columns, &lines.iter().map(row).collect::<Vec<_>>(), Colors::None)
}

fn json_text(lines: &[Line<'_>]) -> String {
    let list: Vec<_> = lines
        .iter()
        .map(|line| {
            let Line { pod, task, cpu_milli, memory, processes } = line;
            json!({ "pod": pod, "task": task, "cpu_milli": cpu_milli, "memory_bytes": memory, "processes": processes })
        })
        .collect();
    format!("{}\n", serde_json::Value::from(list))
}

/// The text over what stood there before: from the top, each line to its end, as many as fit.
fn screen(text: &str, rows: Option<usize>) -> String {
    let lines: Vec<&str> = text.lines().take(rows.unwrap_or(24).saturating_sub(1).max(1)).collect();
    format!("\x1b[H{}\x1b[K\n\x1b[J", lines.join("\x1b[K\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_now_is_the_difference_of_two_samples() {
        let before = [crate::task::tests::pod("p", &["a", "b", "c"])];
        let mut now = [crate::task::tests::pod("p", &["a", "b", "new"])];
        now[0].tasks[1].usage.as_mut().unwrap().cpu_micros += 3_000_000;
        now[0].tasks[0].usage.as_mut().unwrap().cpu_micros = 0;
        let lines = lines(&before, &now, Duration::from_secs(2));
        assert_eq!(
            lines.iter().map(|line| (line.task, line.cpu_milli)).collect::<Vec<_>>(),
            [("b", 1500), ("a", 0)]
        );
        assert!(text(&lines).contains("150.0"));
    }

    #[test]
    fn a_screen_is_drawn_over_the_last_one_and_never_scrolls() {
        assert_eq!(screen("a\nb\nc\n", Some(3)), "\x1b[Ha\x1b[K\nb\x1b[K\n\x1b[J");
    }
}
