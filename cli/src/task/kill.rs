//! `kubex task kill`.

use std::str::FromStr as _;

use clap::Args;
use hyper::Method;
use nix::sys::signal::Signal;

use crate::client::{Client, task_path};
use crate::failure::{Failure, printable};
use crate::output;
use crate::percent::Query;

/// What, and how.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The signal, by name or number
    #[arg(long, short, default_value = "TERM", value_parser = parse)]
    signal: String,
    /// The task: its name, its id, or a unique prefix of either
    task: String,
}

/// Sends it.
pub(crate) async fn run(client: &Client, Arguments { signal, task }: &Arguments) -> Result<u8, Failure> {
    let query = Query::default().with("signal", signal);
    let mut connection = client.connect().await?;
    let response = match connection.ask(Method::POST, &task_path(task, "signal", query.text())).await {
        Ok(response) => response,
        Err(failure) => return Err(super::with_near_names(failure, client, task).await),
    };
    let whole = response.headers().get("kubex-task").and_then(|name| name.to_str().ok()).unwrap_or(task);
    output::print(format!("{}: {signal} sent\n", printable(whole)).as_bytes())?;
    Ok(0)
}

/// `TERM`, `SIGTERM`, `term` or `15`, as `SIGTERM`; a realtime signal has only a number.
fn parse(text: &str) -> Result<String, String> {
    let wrong = || "give a signal as TERM, SIGTERM or 15".to_owned();
    if let Ok(number) = text.parse::<i32>() {
        return match Signal::try_from(number) {
            Ok(signal) => Ok(signal.as_str().to_owned()),
            Err(_) if (32..=64).contains(&number) => Ok(number.to_string()),
            Err(_) => Err(wrong()),
        };
    }
    let name = text.to_ascii_uppercase();
    let name = if name.starts_with("SIG") { name } else { format!("SIG{name}") };
    Signal::from_str(&name).map(|signal| signal.as_str().to_owned()).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        for text in ["TERM", "SIGTERM", "term", "15"] {
            assert_eq!(parse(text).as_deref(), Ok("SIGTERM"));
        }
        assert_eq!(parse("34").as_deref(), Ok("34"));
        for text in ["", "0", "-1", "65", "TREM", "SIG"] {
            assert!(parse(text).unwrap_err().contains("give a signal"), "{text}");
        }
    }
}
