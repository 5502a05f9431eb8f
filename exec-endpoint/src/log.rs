//! Lines of the log, on stderr; and what `--check` prints. Neither tokens nor environment values nor input are ever logged.

use std::io::{IsTerminal, Write};

use crate::config::{Flags, LogFormat};

/// Starts logging.
pub fn start(flags: &Flags) {
    let lines = tracing_subscriber::fmt().with_max_level(flags.log_level).with_writer(std::io::stderr);
    match flags.log_format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
}

/// Prints for people. A closed pipe is not an error: somebody has seen enough.
pub fn print(text: &str) {
    let _ = writeln!(std::io::stdout(), "{}", text.trim_end());
}
