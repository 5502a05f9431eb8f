//! A session: a process in a task, asked for from outside, from its start to the removal of its cgroup.
//!
//! ```text
//!  rights, account --> seat --> stdio --> init: <task>/exec-<n> --Started + our ends--> wait
//!      its end: Exited        the task's: Ended        the peer closes: SIGHUP, a moment        then, always: the cgroup is killed
//! ```
//! Its streams never pass through here: the ends that are handed over are the only ones there are.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use task::connection::{Receiver, Sender};
use task::control::{Answer, EndReason, Exec, Refusal, RefusalKind, Wish};

use super::{Source, last, rights};
use crate::pod::client::Child;
use crate::pod::protocol::Lookup;
use crate::process::account::{self, Person};
use crate::process::sessions::{Cut, Living, Seat};
use crate::process::workplace::{Place, Workplace};
use crate::process::{child_cgroup, signal, terminal};
use crate::spec::exec::Users;
use crate::spec::{Command, Identity, KillMode, Owner, TerminalSize};
use crate::status::{end_of, now};
use crate::supervisor::ExitStatus;

/// The first that the kernel ends when memory runs out: it must not be the task.
const OOM_SCORE: i16 = 1000;
/// How much a pipe holds, where the kernel lets it: fewer switches between those who use it.
const PIPE: usize = 1 << 20;
/// How long a process may take to end after SIGHUP, when nobody listens to it any longer.
const HANGUP: Duration = Duration::from_millis(100);

/// A session that runs.
#[derive(Debug)]
pub struct Session {
    workplace: Arc<Workplace>,
    living: Living,
    seat: Seat,
    child: Child,
    /// What is handed over.
    ends: Vec<OwnedFd>,
    began: u64,
}

/// Starts the process.
///
/// # Errors
/// Why there is none; then nothing of it is left.
pub async fn start(source: &Source, exec: Exec) -> Result<Session, Refusal> {
    let living = source.living(&exec.task)?;
    rights::may_start(&living.spec.exec, &exec)?;
    let place = place(&living, exec.user.as_deref()).await?;
    // Joined before it is started: an end of the task, and of the process itself, is missed by nobody.
    let (living, mut seat) =
        source.workplace.sessions.join(&exec.task).ok_or_else(|| source.not_running(&exec.task))?;
    let Stdio { ends, stdio } =
        Stdio::open(&exec, place.owner()).map_err(|error| failed(format!("open its stdio: {error}")))?;
    let workplace = source.workplace.clone();
    let request = request(&workplace, &living, &place, &exec);
    let cgroup = seat.cgroup.clone();
    let started = tokio::select! {
        biased;
        started = child_cgroup::spawn(&workplace, &cgroup, request, stdio) => started.map_err(failed),
        _ = seat.cut() => Err(source.not_running(&exec.task)),
    };
    match started {
        Ok(child) => Ok(Session { workplace, living, seat, child, ends, began: now() }),
        Err(refusal) => {
            clear(workplace, seat);
            Err(refusal)
        }
    }
}

/// The task's folders, with the account that the process runs as.
async fn place(living: &Living, user: Option<&str>) -> Result<Place, Refusal> {
    let Some(user) = user else { return Ok(living.place.clone()) };
    let named = match &living.spec.exec.users {
        Users::Any => Vec::new(),
        Users::Listed(names) => names.clone(),
    };
    let asked = user.to_owned();
    let look_up = move || -> Result<(Option<Person>, Vec<u32>), String> {
        let of =
            |name: &str| account::look_up(&Identity { user: Some(name.to_owned()), ..Identity::default() });
        let uid = |person: Option<Person>| person.map(|person| person.account.uid);
        // A user in the settings who does not exist is no reason to refuse another.
        let listed = named.iter().filter_map(|name| of(name).ok().and_then(uid)).collect();
        Ok((of(&asked)?, listed))
    };
    let (person, listed) = tokio::task::spawn_blocking(look_up)
        .await
        .map_err(|error| failed(format!("look up user {user}: {error}")))?
        .map_err(failed)?;
    let own = living.place.owner().uid;
    let uid = person.as_ref().map_or(own, |person| person.account.uid);
    rights::may_run_as(&living.spec.exec, (user, uid), own, &listed)?;
    // The task's own user has the groups that the task has.
    if uid == own {
        return Ok(living.place.clone());
    }
    Ok(Place { person, ..living.place.clone() })
}

fn request(
    workplace: &Workplace,
    living: &Living,
    place: &Place,
    exec: &Exec,
) -> crate::pod::protocol::Spawn {
    let command =
        Command { file: exec.command.first().cloned().unwrap_or_default(), arguments: exec.command.clone() };
    let is_set = |(name, _): &(String, String)| name == "TERM";
    let mut more = exec.environment.clone();
    if exec.terminal.is_some() && !more.iter().chain(&living.spec.environment).any(is_set) {
        more.push(("TERM".to_owned(), "xterm".to_owned()));
    }
    let mut request = workplace.spawn_request(&living.spec, place, &command, &more);
    request.lookup = Lookup::Path;
    request.terminal = exec.terminal.is_some();
    request.oom_score_adj = Some(OOM_SCORE);
    if let Some(folder) = &exec.folder {
        request.folder = place.sandbox.join(folder).to_string_lossy().into_owned();
    }
    request
}

/// Both sides of a process's stdin, stdout and stderr.
struct Stdio {
    ends: Vec<OwnedFd>,
    stdio: [OwnedFd; 3],
}

impl Stdio {
    fn open(exec: &Exec, owner: Owner) -> io::Result<Self> {
        if let Some(size) = exec.terminal {
            let size = TerminalSize { rows: size.rows, columns: size.columns };
            let (master, stdio) = terminal::open(size, owner)?;
            return Ok(Self { ends: vec![master], stdio });
        }
        let (out_end, stdout) = pipe()?;
        let (err_end, stderr) = pipe()?;
        if !exec.stdin {
            let stdin = std::fs::File::open("/dev/null")?.into();
            return Ok(Self { ends: vec![out_end, err_end], stdio: [stdin, stdout, stderr] });
        }
        let (stdin, in_end) = pipe()?;
        Ok(Self { ends: vec![in_end, out_end, err_end], stdio: [stdin, stdout, stderr] })
    }
}

/// A pipe's reading and writing ends.
fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    // 64 KiB will do where the kernel grants no more.
    let _ = rustix::pipe::fcntl_setpipe_size(&writer, PIPE);
    Ok((reader, writer))
}

/// How a session ends.
enum Ending {
    Exited(ExitStatus),
    Cut(Cut),
    /// The peer has gone.
    Abandoned,
}

impl Session {
    /// Tells that it runs, does what the peer wishes, and tells how it ended. Nothing of it is left when this returns, or
    /// soon after.
    ///
    /// # Errors
    /// The peer has gone.
    pub async fn run(mut self, mut sender: Sender, mut receiver: Receiver) -> io::Result<()> {
        let task = self.living.spec.id.clone();
        let told = self.tell(&mut sender).await;
        let ending = match &told {
            Ok(()) => self.wait(&mut receiver).await,
            Err(_) => Ending::Abandoned,
        };
        let answer = match ending {
            Ending::Exited(status) => match end_of(status) {
                Some(end) => Some(Answer::Exited(end)),
                None => Some(Answer::Ended(EndReason::PodEnded)),
            },
            Ending::Cut(Cut::TaskEnded) => Some(Answer::Ended(EndReason::TaskEnded)),
            Ending::Cut(Cut::PodEnded) => Some(Answer::Ended(EndReason::PodEnded)),
            Ending::Abandoned => {
                self.hang_up().await;
                None
            }
        };
        let lasted = now().saturating_sub(self.began);
        tracing::info!(task = %task, cgroup = %self.seat.cgroup, milliseconds = lasted, ?answer, "session ended");
        let sent = match &answer {
            Some(answer) => last(&mut sender, answer).await,
            None => told,
        };
        clear(self.workplace, self.seat);
        sent
    }

    async fn tell(&mut self, sender: &mut Sender) -> io::Result<()> {
        // One that has ended already has no id any longer.
        let pid = signal::host_pid(&self.child.pidfd).and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0);
        tracing::info!(task = %self.living.spec.id, cgroup = %self.seat.cgroup, pid, "session");
        // Closed here once they are sent: only so can their other sides end.
        let ends = std::mem::take(&mut self.ends);
        let borrowed: Vec<_> = ends.iter().map(|end| end.as_fd()).collect();
        let started = Answer::Started { pid, descriptors: borrowed.len() };
        tokio::time::timeout(super::LAST_ANSWER, sender.send(&started, &borrowed))
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    async fn wait(&mut self, receiver: &mut Receiver) -> Ending {
        loop {
            let wish = tokio::select! {
                biased;
                status = &mut self.child.exit => {
                    return Ending::Exited(status.unwrap_or(ExitStatus::PodEnded));
                }
                why = self.seat.cut() => return Ending::Cut(why),
                wish = receiver.receive::<Wish>() => wish,
            };
            match wish {
                Ok(Some((Wish::Signal(number), _))) => self.signal(number),
                // The peer has the terminal's master, and sets the size itself.
                Ok(Some((Wish::Resize(_), _))) => {}
                Ok(None) | Err(_) => return Ending::Abandoned,
            }
        }
    }

    fn signal(&self, number: i32) {
        let sent = rights::may_signal(&self.living.spec.exec, number)
            .map_err(|refusal| refusal.message)
            .and_then(|wanted| signal::send(&self.child.pidfd, wanted));
        if let Err(error) = sent {
            tracing::warn!(task = %self.living.spec.id, cgroup = %self.seat.cgroup, error, "no signal to a session");
        }
    }

    /// What a terminal's end does by itself, for those who have none.
    async fn hang_up(&mut self) {
        if let Err(error) = signal::send(&self.child.pidfd, Signal::HUP) {
            tracing::warn!(cgroup = %self.seat.cgroup, error, "tell a session that nobody listens");
        }
        let _ = tokio::time::timeout(HANGUP, &mut self.child.exit).await;
    }
}

/// Kills what a session left and removes its cgroup. Its seat is held until then: its task's end waits for that.
fn clear(workplace: Arc<Workplace>, seat: Seat) {
    tokio::spawn(async move {
        workplace.clear(seat.cgroup.clone(), KillMode::Cgroup).await;
        drop(seat);
    });
}

fn failed(message: impl Into<String>) -> Refusal {
    Refusal { kind: RefusalKind::Failed, message: message.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesos::common::TaskId;

    fn exec(stdin: bool, terminal: Option<task::control::WindowSize>) -> Exec {
        let command = vec!["true".to_owned()];
        let task = TaskId::new("a");
        Exec { task, command, user: None, environment: Vec::new(), folder: None, stdin, terminal }
    }

    #[test]
    fn what_is_handed_over_is_stdin_if_asked_for_stdout_and_stderr_or_a_terminal_of_the_size_asked() {
        let owner = Owner { uid: nix::unistd::getuid().as_raw(), gid: nix::unistd::getgid().as_raw() };
        assert_eq!(Stdio::open(&exec(false, None), owner).unwrap().ends.len(), 2);
        let Stdio { ends, stdio } = Stdio::open(&exec(true, None), owner).unwrap();
        rustix::io::write(&ends[0], b"x").unwrap();
        assert_eq!(rustix::io::read(&stdio[0], &mut [0_u8; 9]), Ok(1));
        let size = task::control::WindowSize { rows: 11, columns: 222 };
        let Stdio { ends, stdio } = Stdio::open(&exec(true, Some(size)), owner).unwrap();
        let window = rustix::termios::tcgetwinsize(&stdio[1]).unwrap();
        assert_eq!((ends.len(), window.ws_row, window.ws_col), (1, 11, 222));
    }
}
