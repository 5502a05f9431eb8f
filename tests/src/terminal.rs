//! A terminal for a command of the test: what a user would see and type.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use nix::pty::{Winsize, openpty};
use rustix::termios::tcsetwinsize;

use crate::stage::until;

/// A terminal.
#[derive(Debug)]
pub struct Terminal {
    master: File,
    slave: OwnedFd,
    shown: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    /// One of this size.
    ///
    /// # Panics
    /// The machine has none.
    pub fn open(rows: u16, columns: u16) -> Self {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let pair = openpty(&size, None).expect("a terminal");
        let master = File::from(pair.master);
        let shown = Arc::<Mutex<Vec<u8>>>::default();
        let (mut reader, all) = (master.try_clone().expect("a copy"), shown.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                all.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&buffer[..count]);
            }
        });
        Self { master, slave: pair.slave, shown }
    }

    /// Starts a command with it as its stdin, stdout, stderr and controlling terminal.
    ///
    /// # Panics
    /// It cannot be started.
    pub fn spawn(&self, command: Command) -> Child {
        let stdio = || Stdio::from(self.slave.try_clone().expect("a copy"));
        // A session of its own needs a step between fork and execve: setsid makes it.
        let mut wrapped = Command::new("setsid");
        wrapped.args(["--ctty", "--wait"]).arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => wrapped.env(name, value),
                None => wrapped.env_remove(name),
            };
        }
        if let Some(folder) = command.get_current_dir() {
            wrapped.current_dir(folder);
        }
        wrapped
            .process_group(0)
            .stdin(stdio())
            .stdout(stdio())
            .stderr(stdio())
            .spawn()
            .expect("start a command")
    }

    /// Types.
    ///
    /// # Panics
    /// The terminal is gone.
    pub fn type_in(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).expect("type");
    }

    /// Sets another size.
    ///
    /// # Panics
    /// The terminal is gone.
    pub fn resize(&self, rows: u16, columns: u16) {
        let size = rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(self.master.as_fd(), size).expect("set the size");
    }

    /// All that it has shown so far.
    pub fn shown(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    /// Waits until it has shown this text.
    ///
    /// # Panics
    /// It does not.
    pub async fn wait_for(&self, text: &str) {
        until(&format!("{text:?} on the terminal"), || self.shown().contains(text).then_some(())).await;
    }

    /// Waits for a command's end.
    ///
    /// # Panics
    /// It does not come.
    pub async fn wait(&self, child: &mut Child) -> ExitStatus {
        until("the end of a command", || child.try_wait().expect("a child")).await
    }

    /// Its settings now, to be compared.
    ///
    /// # Panics
    /// The terminal is gone.
    pub fn settings(&self) -> String {
        format!("{:?}", rustix::termios::tcgetattr(self.slave.as_fd()).expect("its settings"))
    }
}
