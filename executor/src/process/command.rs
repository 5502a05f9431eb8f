//! Check commands: each in a child cgroup of its task's, killed with all its children when it is no longer waited for.

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::oneshot;

use super::child_cgroup;
use super::workplace::{Place, Workplace};
use crate::cgroup::CgroupName;
use crate::health::{CommandResult, RunCommand, RunningCommand};
use crate::spec::{Command, KillMode, TaskSpec};
use crate::supervisor::ExitStatus;

/// How much of a check's output is kept.
const OUTPUT: u64 = 10 << 10;

/// Runs the check commands of one task.
#[derive(Debug)]
pub struct TaskCommands {
    workplace: Arc<Workplace>,
    spec: Arc<TaskSpec>,
    place: Place,
}

impl TaskCommands {
    /// Runs the check commands of this task.
    pub fn new(workplace: Arc<Workplace>, spec: Arc<TaskSpec>, place: Place) -> Self {
        Self { workplace, spec, place }
    }
}

impl RunCommand for TaskCommands {
    fn run(&self, command: &Command, environment: &[(String, String)]) -> RunningCommand {
        let number = self.workplace.checks.fetch_add(1, Ordering::Relaxed);
        let name = CgroupName::task(&self.spec.id).child(&format!("check-{number}"));
        let request = self.workplace.spawn_request(&self.spec, &self.place, command, environment);
        let (waiting, dropped) = oneshot::channel::<()>();
        let running = tokio::spawn(run(self.workplace.clone(), name, request, dropped));
        Box::pin(async move {
            let result = running.await.map_err(|error| error.to_string())?;
            drop(waiting);
            result
        })
    }
}

async fn run(
    workplace: Arc<Workplace>,
    name: CgroupName,
    request: crate::pod::protocol::Spawn,
    dropped: oneshot::Receiver<()>,
) -> Result<CommandResult, String> {
    let result = run_in(&workplace, &name, request, dropped).await;
    // Not waited for: the check's outcome is there, and its cgroup is nobody else's.
    tokio::spawn(workplace.clear(name, KillMode::Cgroup));
    result
}

async fn run_in(
    workplace: &Arc<Workplace>,
    name: &CgroupName,
    request: crate::pod::protocol::Spawn,
    dropped: oneshot::Receiver<()>,
) -> Result<CommandResult, String> {
    let (reader, stdio) = output_pipe().map_err(|error| format!("open its output: {error}"))?;
    let child = child_cgroup::spawn(workplace, name, request, stdio).await?;
    let mut output = Vec::new();
    let mut reader = Receiver::from_owned_fd(reader).map_err(|error| error.to_string())?.take(OUTPUT);
    let ended = async {
        // Read while waiting: a command that writes more than a pipe holds would never end.
        let read = async {
            if reader.read_to_end(&mut output).await.is_ok() {
                let mut rest = [0; 4096];
                while matches!(reader.get_mut().read(&mut rest).await, Ok(1..)) {}
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            status = child.exit => status.unwrap_or(ExitStatus::PodEnded),
            () = read => ExitStatus::PodEnded,
        }
    };
    let status = tokio::select! {
        status = ended => status,
        _ = dropped => return Err("no longer waited for".to_owned()),
    };
    drain(reader.get_ref(), &mut output);
    let code = match status {
        ExitStatus::Code(code) => code,
        ExitStatus::Signal { number, .. } => 128 + number,
        ExitStatus::PodEnded => return Err("the pod ended".to_owned()),
    };
    Ok(CommandResult { code, output })
}

/// Takes what is in the pipe now, up to the limit.
fn drain(reader: &Receiver, output: &mut Vec<u8>) {
    let most = usize::try_from(OUTPUT).unwrap_or(usize::MAX);
    let mut chunk = [0; 4096];
    // Past tokio, which says that there is nothing until its reactor has looked.
    while let Ok(count @ 1..) = rustix::io::read(reader.as_fd(), &mut chunk) {
        let room = most.saturating_sub(output.len());
        output.extend_from_slice(&chunk[..count.min(room)]);
    }
}

fn output_pipe() -> std::io::Result<(OwnedFd, [OwnedFd; 3])> {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let stdin = std::fs::File::open("/dev/null")?.into();
    Ok((reader, [stdin, writer.try_clone()?, writer]))
}
