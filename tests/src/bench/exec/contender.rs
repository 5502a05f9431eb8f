//! A way to run a command somewhere: kubex, kubectl, dcos, ssh. Each is a command line.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::Contest;
use super::site::TOKEN;

/// Whether input is passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// It is not.
    None,
    /// It is.
    Piped,
}

/// Makes the command line for words that are to be run there.
type Maker<'a> = Box<dyn Fn(Input, &[&str]) -> Command + Sync + 'a>;

/// One of them; or why it is not there.
pub struct Contender<'a> {
    /// For the table.
    pub name: &'static str,
    /// How it does it.
    pub how: &'static str,
    make: Result<Maker<'a>, String>,
}

impl std::fmt::Debug for Contender<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Contender").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<'a> Contender<'a> {
    fn new(name: &'static str, how: &'static str, make: Result<Maker<'a>, String>) -> Self {
        Self { name, how, make }
    }

    /// The command line.
    ///
    /// # Errors
    /// It is not there, and why.
    pub fn command(&self, input: Input, words: &[&str]) -> anyhow::Result<Command> {
        let make = self.make.as_ref().map_err(|why| anyhow::anyhow!("{why}"))?;
        Ok(make(input, words))
    }
}

impl Contest {
    /// kubex, which all others are compared with.
    pub fn kubex(&self) -> Contender<'_> {
        let make = move |input, words: &[&str]| {
            let mut command = self.site.client.kubex(&["task", "exec"]);
            command.args(input_flag(input)).arg(&self.site.task).arg("--").args(words);
            command
        };
        Contender::new("kubex", "kubex task exec", Ok(Box::new(make)))
    }

    /// kubectl.
    pub fn kubectl(&self) -> Contender<'_> {
        let make = move |input, words: &[&str]| {
            let (pod, framework) = &self.site.pod;
            let mut command = self.site.client.kubectl(Path::new("kubectl"), &["exec"]);
            command
                .args(input_flag(input))
                .args(["-n", framework, pod, "-c", &self.site.task, "--"])
                .args(words);
            command
        };
        Contender::new("  kubectl exec", "stock kubectl, the same endpoint", Ok(Box::new(make)))
    }

    /// ssh on a new connection each time.
    pub fn ssh(&self) -> Contender<'_> {
        let make = self
            .sshd
            .as_ref()
            .map(|sshd| -> Maker<'_> { Box::new(|input, words| sshd.new_connection(input, words)) });
        Contender::new("  ssh", "a new connection to a private sshd", make.map_err(Clone::clone))
    }

    /// ssh over a connection that is there.
    pub fn ssh_mux(&self) -> Contender<'_> {
        let make = self
            .sshd
            .as_ref()
            .map(|sshd| -> Maker<'_> { Box::new(|input, words| sshd.multiplexed(input, words)) });
        Contender::new(
            "  ssh, ControlMaster",
            "over one connection to a private sshd",
            make.map_err(Clone::clone),
        )
    }

    /// The dcos CLI on our endpoint.
    pub fn dcos(&self) -> Contender<'_> {
        let make = move |input, words: &[&str]| {
            let arguments =
                [&["task", "exec"], input_flag(input), &[self.site.task.as_str()], words].concat();
            self.site.client.dcos(TOKEN, &arguments)
        };
        let there = crate::rig::cache_folder().join("dcos/site/bin/dcos").is_file();
        let make: Result<Maker<'_>, _> = if there {
            Ok(Box::new(make))
        } else {
            Err("it is not installed: run tests/dcos/setup".to_owned())
        };
        Contender::new("  dcos task exec", "stock dcos CLI, the same endpoint", make)
    }

    /// The dcos CLI on a real agent.
    pub fn dcos_on_mesos(&self) -> Contender<'_> {
        let make = self.agent.as_ref().map_err(Clone::clone).and_then(|agent| {
            if self.dcos().make.is_err() {
                return Err("it is not installed: run tests/dcos/setup".to_owned());
            }
            let make: Maker<'_> = Box::new(move |input, words: &[&str]| {
                agent.dcos(&[&["task", "exec"], input_flag(input), &[agent.task()], words].concat())
            });
            Ok(make)
        });
        Contender::new("  dcos task exec, Mesos agent", "stock dcos CLI, a real Mesos agent", make)
    }
}

fn input_flag(input: Input) -> &'static [&'static str] {
    match input {
        Input::None => &[],
        Input::Piped => &["-i"],
    }
}

/// Runs a command to its end; how long that took.
///
/// # Errors
/// It did not succeed; with what it said.
pub fn timed(mut command: Command) -> anyhow::Result<Duration> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let began = Instant::now();
    let output = command.output().with_context(|| format!("start {:?}", command.get_program()))?;
    let took = began.elapsed();
    anyhow::ensure!(
        output.status.success(),
        "{:?}: {}: {}{}",
        command.get_program(),
        output.status,
        String::from_utf8_lossy(&output.stdout).trim(),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(took)
}
