//! kubex: what an operator types.
//!
//! ```text
//!  arguments -> noun (task, config, completion) -> config (which server) -> client (TLS, HTTP) -> session (WebSocket)
//! ```
//!
//! Exit codes: the command's own for `task exec` (128 and the signal's number if it died of one); 125 where kubex itself
//! could not do it; 255 where a session ended without an exit code (connection lost, task ended); 141 where nobody reads
//! the output any more; 0 otherwise.

mod arguments;
mod client;
mod completion;
mod config;
mod duration;
mod failure;
mod output;
mod percent;
mod session;
mod table;
mod task;
mod terminal;
mod websocket;

use std::process::ExitCode;

use clap::Parser as _;

use arguments::{Kubex, Noun};
use failure::{Failure, KUBEX_FAILED};

fn main() -> ExitCode {
    let arguments = match Kubex::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Nothing is left to tell if this fails: help to a closed pipe.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { KUBEX_FAILED } else { 0 });
        }
    };
    match run(arguments) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            failure.tell();
            ExitCode::from(failure.code())
        }
    }
}

fn run(Kubex { global, noun }: Kubex) -> Result<u8, Failure> {
    match noun {
        Noun::Task(verb) => task::run(&global, verb),
        Noun::Config(verb) => config::command::run(&global, verb),
        Noun::Completion(shell) => completion::run(&shell),
    }
}
