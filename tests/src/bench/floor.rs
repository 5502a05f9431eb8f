//! The same things without an executor: a bare parent that forks, kills and waits. What the kernel and the program itself
//! take is in these figures, so the rest is the executor's.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::time::sleep;

use super::beacon::{Beacons, Said, What};
use super::clock;
use super::stand::IDLE;
use super::table::Samples;

/// What a bare parent takes.
#[derive(Debug, Clone, Default)]
pub struct Floor {
    /// From the call that starts the process to its return, which is after execve.
    pub spawned: Samples,
    /// From that call to the beacon's first act.
    pub started: Samples,
    /// From SIGTERM to the beacon's answer.
    pub signalled: Samples,
    /// From SIGKILL until the pidfd is readable.
    pub ended: Samples,
    /// From SIGKILL to the first act of the next process.
    pub restarted: Samples,
}

/// Measures it, in so many rounds.
///
/// # Errors
/// A process could not be started, or was not heard.
pub async fn measure(rounds: usize) -> anyhow::Result<Floor> {
    let folder = tempfile::Builder::new().prefix("kx-bench-").tempdir()?;
    let beacons = Beacons::listen(folder.path())?;
    let mut floor = Floor::default();
    for round in 0..rounds {
        sleep(IDLE).await;
        let asked = clock::now();
        let mut first = Guard::start(&beacons, &format!("first-{round}"))?;
        floor.spawned.push(clock::now().saturating_sub(asked));
        floor.started.push(first.started(&beacons).await?.at.saturating_sub(asked));
        sleep(IDLE).await;
        let (killed, ended) = first.kill()?;
        floor.ended.push(ended.saturating_sub(killed));
        let mut second = Guard::start(&beacons, &format!("second-{round}"))?;
        floor.restarted.push(second.started(&beacons).await?.at.saturating_sub(killed));
        sleep(IDLE).await;
        let asked = clock::now();
        pidfd_send_signal(pidfd(&second.child)?, Signal::TERM)?;
        let said = beacons.wait(&second.name, What::Terminated).await?;
        floor.signalled.push(said.at.saturating_sub(asked));
        second.child.wait()?;
    }
    Ok(floor)
}

/// A beacon as a child; dropped, it is killed.
struct Guard {
    child: Child,
    name: String,
}

impl Guard {
    fn start(beacons: &Beacons, name: &str) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("find the running program")?;
        let child = Command::new(&program)
            .args(beacons.arguments(name))
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("start {}", program.display()))?;
        Ok(Self { child, name: name.to_owned() })
    }

    async fn started(&self, beacons: &Beacons) -> anyhow::Result<Said> {
        beacons.wait(&self.name, What::Started).await
    }

    /// Kills it; returns when it was killed and when its end was known.
    fn kill(&mut self) -> anyhow::Result<(Duration, Duration)> {
        let pidfd = pidfd(&self.child)?;
        let killed = clock::now();
        pidfd_send_signal(&pidfd, Signal::KILL)?;
        poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], None)?;
        let ended = clock::now();
        self.child.wait()?;
        Ok((killed, ended))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Both fail only if it has ended and was waited for.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn pidfd(child: &Child) -> anyhow::Result<std::os::fd::OwnedFd> {
    Ok(pidfd_open(Pid::from_child(child), PidfdFlags::empty())?)
}
