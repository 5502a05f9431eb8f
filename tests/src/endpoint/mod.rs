//! An exec endpoint as a child of the test, as an unprivileged user, and its clients: kubex, kubectl, dcos.
//!
//! ```text
//!  Endpoint::start(control folder) -> Files: certificates, policy -> exec-endpoint as nobody -> /readyz answers
//!  Endpoint::client("alice", "ops") -> Client -> kubex | kubectl | dcos, each a Command
//! ```

mod client;
mod files;
mod raw;
mod siege;
mod stand;

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::describe::built;
use crate::rig::{free_ports, tail};
use crate::stage::until;

pub use client::Client;
pub use files::{Files, POLICY};
pub use raw::{Answered, Ended, Raw, Socket, frame};
pub use siege::Siege;
pub use stand::{POD, Spoken, Stand};

/// The user that endpoints of tests run as, by name and number. Executors are told the name: `--exec-user`.
pub const USER: (&str, u32) = ("nobody", 65534);

/// An endpoint. Dropped, it is killed; when the test has failed, it prints its log.
#[derive(Debug)]
pub struct Endpoint {
    child: Child,
    files: Files,
    folder: TempDir,
}

impl Endpoint {
    /// One that serves the executors of this control folder, with [`POLICY`].
    ///
    /// # Panics
    /// It is not built, or does not become ready.
    pub async fn start(control: &Path) -> Self {
        Self::with(control, POLICY, &[]).await
    }

    /// One with this policy and further arguments.
    ///
    /// # Panics
    /// As [`Endpoint::start`].
    pub async fn with(control: &Path, policy: &str, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the endpoint");
        let port = free_ports(1).expect("a free port")[0];
        let files = Files::new(folder.path(), USER.1, port, policy).expect("the endpoint's files");
        let log = File::create(folder.path().join("log")).expect("a log");
        let child = Command::new(built("exec-endpoint").expect("a built endpoint"))
            .args(files.arguments(control))
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .uid(USER.1)
            .gid(USER.1)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("share the log"))
            .stderr(log)
            .spawn()
            .expect("start the endpoint");
        let this = Self { child, files, folder };
        let client = this.client("ready", "none");
        until("an endpoint that is ready", || {
            client
                .curl(&["-sf", "-o", "/dev/null"], "/readyz")
                .status()
                .ok()
                .filter(|status| status.success())
        })
        .await;
        this
    }

    /// Its files.
    pub fn files(&self) -> &Files {
        &self.files
    }

    /// Its process id.
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// The lines of its audit.
    ///
    /// # Panics
    /// One is not JSON.
    pub fn audit(&self) -> Vec<serde_json::Value> {
        let text = fs::read_to_string(self.files.audit()).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
    }

    /// Somebody with a new certificate as this user of this group.
    ///
    /// # Panics
    /// Its files cannot be written.
    pub fn client(&self, user: &str, group: &str) -> Client {
        self.files.client(user, group).expect("a client")
    }
}

impl Endpoint {
    /// Sends it a signal.
    ///
    /// # Panics
    /// It has ended.
    pub fn signal(&self, signal: crate::pod::Signal) {
        crate::pod::send(i32::try_from(self.process()).expect("a process id"), signal);
    }

    /// Waits until it has ended by itself.
    ///
    /// # Panics
    /// It does not within 30 s.
    pub async fn exited(&mut self) -> std::process::ExitStatus {
        until("the endpoint's end", || self.child.try_wait().expect("ask for the endpoint's end")).await
    }

    /// Its metrics, as `client` may read them: the sum of all samples whose line begins so.
    ///
    /// # Panics
    /// It may not.
    pub async fn metric(&self, client: &Client, beginning: &str) -> f64 {
        let answered = client.ask("GET", "/metrics", &[]).await;
        assert_eq!(answered.code, 200, "{answered:?}");
        let ours = answered.body.lines().filter(|line| line.starts_with(beginning));
        ours.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the endpoint's log:\n{}", tail(&self.folder.path().join("log"), 60));
        }
        // It can only fail because it has ended, which is what is wanted.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
