//! The kubectls there are, and what they say.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use kube_executor_tests::endpoint::{Client, Stand};
use kube_executor_tests::kubernetes::Binaries;
use kube_executor_tests::pod::Task;

/// The namespace: the fake agent's framework.
pub(crate) const NAMESPACE: &str = "kubernetes";
/// The pinned version.
const PINNED: &str = "1.36.3";

/// The pinned kubectl, and the machine's if it has one.
pub(crate) fn programs() -> Vec<PathBuf> {
    let pinned = Binaries::built(PINNED, &["kubectl"]).expect("a built kubectl").path("kubectl");
    let folders = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&folders).map(|folder| folder.join("kubectl")).find(|path| path.is_file());
    if found.is_none() {
        eprintln!("skipped for the machine's own kubectl: there is none in PATH");
    }
    std::iter::once(PathBuf::from(pinned)).chain(found).collect()
}

/// A kubectl and who uses it.
#[derive(Debug)]
pub(crate) struct Kubectl {
    /// Another word for each.
    pub(crate) tag: String,
    program: PathBuf,
    client: Client,
}

/// What one has said.
#[derive(Debug)]
pub(crate) struct Done {
    /// Its exit code.
    pub(crate) code: Option<i32>,
    /// Its output.
    pub(crate) stdout: String,
    /// What it complained of.
    pub(crate) said: String,
}

impl Kubectl {
    /// This one for this user.
    pub(crate) fn new(program: &Path, client: &Client) -> Self {
        let tag = uuid::Uuid::new_v4().simple().to_string()[..8].to_owned();
        Self { tag, program: program.to_owned(), client: client.clone() }
    }

    /// It with these arguments.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        self.client.kubectl(&self.program, &[&["-n", NAMESPACE], arguments].concat())
    }

    /// Runs it.
    pub(crate) fn run(&self, arguments: &[&str]) -> Done {
        let output = self.command(arguments).output().expect("run kubectl");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Done { code: output.status.code(), stdout: text(&output.stdout), said: text(&output.stderr) }
    }

    /// Runs it to a good end and returns its output.
    pub(crate) fn text(&self, arguments: &[&str]) -> String {
        let done = self.run(arguments);
        assert_eq!(done.code, Some(0), "kubectl {arguments:?}: {done:?}");
        done.stdout
    }
}

/// Does the same with each kubectl, as somebody who may do everything.
pub(crate) async fn each(stand: &Stand, mut tell: impl AsyncFnMut(&Kubectl)) {
    let client = stand.endpoint.client("alice", "ops");
    for program in programs() {
        eprintln!("with {}", program.display());
        tell(&Kubectl::new(&program, &client)).await;
    }
}

/// A task that idles.
pub(crate) fn idle(name: &str) -> (&str, Task) {
    (name, Task::idle(name))
}
