//! `kubex task logs`.

use clap::Args;
use http_body_util::BodyExt as _;
use hyper::Method;

use crate::client::{Client, task_path};
use crate::duration::{Since, parse_since};
use crate::failure::Failure;
use crate::output;
use crate::percent::Query;

/// Of what, and which part.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Go on until the task has ended
    #[arg(long, short)]
    follow: bool,
    /// Only what is not older (90s, 5m, 1h30m, 2d) or was written since then (2026-01-31T12:00:00Z)
    #[arg(long, value_name = "DURATION|TIME", value_parser = parse_since)]
    since: Option<Since>,
    /// Only so many of the last lines
    #[arg(long, value_name = "N")]
    tail: Option<u64>,
    /// Begin each line with its time
    #[arg(long)]
    timestamps: bool,
    /// Of the process before the present one
    #[arg(long, short)]
    previous: bool,
    /// Only what was written to stderr
    #[arg(long, conflicts_with = "stdout")]
    stderr: bool,
    /// Only what was written to stdout
    #[arg(long)]
    stdout: bool,
    /// The task: its name, its id, or a unique prefix of either
    task: String,
}

/// Writes them to stdout.
pub(crate) async fn run(client: &Client, arguments: &Arguments) -> Result<u8, Failure> {
    let task = &arguments.task;
    let mut connection = client.connect().await?;
    let response = match connection.ask(Method::GET, &task_path(task, "log", query(arguments).text())).await {
        Ok(response) => response,
        Err(failure) => return Err(super::with_near_names(failure, client, task).await),
    };
    let mut body = response.into_body();
    while let Some(frame) = body.frame().await {
        // Its end by an error is no end of the log.
        let frame = frame.map_err(|error| Failure::Broken(format!("read the log of {task}: {error}")))?;
        if let Ok(data) = frame.into_data() {
            output::print(&data)?;
        }
    }
    Ok(0)
}

fn query(arguments: &Arguments) -> Query {
    let Arguments { follow, since, tail, timestamps, previous, stderr, stdout, task: _ } = arguments;
    let query = Query::default()
        .with_true("follow", *follow)
        .with_true("timestamps", *timestamps)
        .with_true("previous", *previous)
        .with_some("tailLines", tail.map(|lines| lines.to_string()));
    let query = match since {
        Some(Since::Ago(seconds)) => query.with("sinceSeconds", seconds.to_string()),
        Some(Since::Time(time)) => query.with("sinceTime", time),
        None => query,
    };
    match (stdout, stderr) {
        (true, _) => query.with("stream", "stdout"),
        (_, true) => query.with("stream", "stderr"),
        _ => query,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_is_kubectls() {
        let arguments = Arguments {
            follow: true,
            since: Some(Since::Ago(90)),
            tail: Some(5),
            timestamps: true,
            previous: false,
            stderr: true,
            stdout: false,
            task: "t".into(),
        };
        assert_eq!(
            query(&arguments).text(),
            "?follow=true&timestamps=true&tailLines=5&sinceSeconds=90&stream=stderr"
        );
    }
}
