//! The terminal that kubex runs in: raw while a session has it, and restored whatever happens.

use std::io::{self, IsTerminal as _};
use std::sync::{Mutex, Once, PoisonError};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use task::control::WindowSize;

use crate::failure::Failure;

/// How it was before. Outside of [`Raw`], since a panic aborts without dropping anything.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);
static HOOK: Once = Once::new();

/// The terminal at stdin is raw while this lives.
#[derive(Debug)]
pub(crate) struct Raw(());

impl Raw {
    /// Makes it raw: every key goes to the session, none to this machine.
    ///
    /// # Errors
    /// Stdin is no terminal.
    pub(crate) fn enter() -> Result<Self, Failure> {
        let failed = |source: rustix::io::Errno| Failure::Local {
            verb: "make the terminal raw",
            source: source.into(),
        };
        let before = tcgetattr(io::stdin()).map_err(failed)?;
        let mut raw = before.clone();
        raw.make_raw();
        HOOK.call_once(|| {
            let next = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                restore();
                next(panic);
            }));
        });
        *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = Some(before);
        let entered = Self(());
        // Drain: the output before must not get another meaning, what was typed ahead stays.
        tcsetattr(io::stdin(), OptionalActions::Drain, &raw).map_err(failed)?;
        Ok(entered)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        restore();
    }
}

fn restore() {
    if let Some(before) = BEFORE.lock().unwrap_or_else(PoisonError::into_inner).take() {
        // The terminal may be gone; then there is nothing to restore.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &before);
    }
}

/// Whether stdin is a terminal.
pub(crate) fn at_stdin() -> bool {
    io::stdin().is_terminal()
}

/// The size of the terminal at stdin; `None` where it has none.
pub(crate) fn size() -> Option<WindowSize> {
    let size = tcgetwinsize(io::stdin()).ok()?;
    (size.ws_row > 0 && size.ws_col > 0).then_some(WindowSize { rows: size.ws_row, columns: size.ws_col })
}
