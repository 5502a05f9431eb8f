//! PID 1 of a pod: a small single-threaded re-execution of our own binary that forks, reaps and reports.
//!
//! ```text
//!  executor --exec--> stage one: unshare(pid, mount[, net]) --clone3--> PID 1: private /proc; then, for ever:
//!                     sends PID 1's pidfd, exits                          request -> clone3 into cgroup -> child -> execve
//!                                                                         child ended -> Exited;  orphans: reaped
//!                                                                         socket closed -> exit, and with it the pod
//! ```
//! It holds no policy. As it has one thread only, a child may do ordinary work between clone3 and execve.

#![expect(unsafe_code, reason = "clone3, and what a child does between it and execve")]

use std::collections::HashMap;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::process::ExitCode;

use caps::{CapSet, Capability};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::{Gid, Uid};
use task::framed::{self, Inbox, Read};

use super::protocol::{Lookup, Reply, Spawn};

/// The argument that makes the binary a pod's init, as its first.
pub const ARGUMENT: &str = "--pod-init";
/// The second argument of a pod that has a network namespace of its own.
pub const OWN_NETWORK: &str = "own-network";

/// Runs as a pod's init, whose socket is stdin. Returns in the first stage only, or when the pod is over.
pub fn main(own_network: bool) -> ExitCode {
    let Ok(socket) = io::stdin().as_fd().try_clone_to_owned() else {
        return ExitCode::FAILURE;
    };
    match run(&socket, own_network) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The socket is the only way out that is left.
            let reply = Reply::Failed { id: 0, error: format!("pod init: {error}") };
            let _ = framed::write(socket.as_fd(), &reply, &[]);
            ExitCode::FAILURE
        }
    }
}

fn run(socket: &OwnedFd, own_network: bool) -> io::Result<()> {
    let network = if own_network { CloneFlags::CLONE_NEWNET } else { CloneFlags::empty() };
    unshare(CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNS | network)
        .map_err(|errno| step("unshare", errno))?;
    if let Cloned::Parent { pidfd, .. } = clone_process(None)? {
        return framed::write(socket.as_fd(), &Reply::Ready, &[pidfd.as_fd()]);
    }
    let nothing = std::fs::File::open("/dev/null")?;
    nix::unistd::dup2_stdin(&nothing)?;
    let none = None::<&str>;
    // Slave first: a mount made in here must not appear on the host, one made there must appear here.
    for flags in [MsFlags::MS_SLAVE, MsFlags::MS_SHARED] {
        mount(none, "/", none, MsFlags::MS_REC | flags, none).map_err(|errno| step("remount /", errno))?;
    }
    mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), none)
        .map_err(|errno| step("mount /proc", errno))?;
    let mut chld = SigSet::empty();
    chld.add(Signal::SIGCHLD);
    chld.thread_block()?;
    let signals = SignalFd::with_flags(&chld, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    Init { socket: socket.as_fd(), inbox: Inbox::default(), children: HashMap::new() }.serve(&signals)
}

struct Init<'a> {
    socket: BorrowedFd<'a>,
    inbox: Inbox,
    children: HashMap<i32, u64>,
}

impl Init<'_> {
    fn serve(&mut self, signals: &SignalFd) -> io::Result<()> {
        loop {
            let mut ready = [
                PollFd::new(self.socket, PollFlags::POLLIN),
                PollFd::new(signals.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut ready, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            let [requested, ended] = ready.map(|one| one.any().unwrap_or(false));
            if ended {
                while signals.read_signal()?.is_some() {}
                self.reap()?;
            }
            if requested && self.answer()? == Read::End {
                return Ok(());
            }
        }
    }

    fn answer(&mut self) -> io::Result<Read> {
        let read = self.inbox.fill(self.socket)?;
        while let Some(request) = self.inbox.next_message::<Spawn>()? {
            let descriptors = self.inbox.take(request.descriptors)?;
            self.spawn(&request, &descriptors)?;
        }
        Ok(read)
    }

    fn spawn(&mut self, request: &Spawn, descriptors: &[OwnedFd]) -> io::Result<()> {
        match start(request, descriptors) {
            Ok((pid, pidfd, outcome)) => {
                self.children.insert(pid, request.id);
                framed::write(
                    self.socket,
                    &Reply::Spawned { id: request.id },
                    &[pidfd.as_fd(), outcome.as_fd()],
                )
            }
            Err(error) => {
                let reply = Reply::Failed { id: request.id, error: error.to_string() };
                framed::write(self.socket, &reply, &[])
            }
        }
    }

    fn reap(&mut self) -> io::Result<()> {
        loop {
            let (pid, code, signal) = match waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, Some(code), None),
                Ok(WaitStatus::Signaled(pid, signal, core)) => (pid, None, Some((signal as i32, core))),
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(()),
                Ok(_) | Err(Errno::EINTR) => continue,
                Err(errno) => return Err(errno.into()),
            };
            if let Some(id) = self.children.remove(&pid.as_raw()) {
                framed::write(self.socket, &Reply::Exited { id, code, signal }, &[])?;
            }
        }
    }
}

/// Makes the child; the pipe returned ends at its execve.
fn start(request: &Spawn, descriptors: &[OwnedFd]) -> io::Result<(i32, OwnedFd, OwnedFd)> {
    let stdio = descriptors.get(..3).ok_or_else(|| io::Error::other("stdio is missing"))?;
    let (into, tasks) = match request.into_cgroup {
        true => (descriptors.get(3).map(AsFd::as_fd), descriptors.get(4..).unwrap_or_default()),
        false => (None, &descriptors[3..]),
    };
    let (outcome, report) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    match clone_process(into)? {
        Cloned::Parent { pid, pidfd } => Ok((pid, pidfd, outcome)),
        Cloned::Child => {
            let error =
                become_task(request, stdio, tasks).err().map_or_else(String::new, |error| error.to_string());
            let _ = nix::unistd::write(&report, error.as_bytes());
            // SAFETY: _exit ends the process at once; nothing of the copied parent may run its destructors.
            unsafe { libc::_exit(127) }
        }
    }
}

/// Everything between clone3 and execve, in the order that rights allow. Returns only if a step fails.
fn become_task(request: &Spawn, stdio: &[OwnedFd], tasks: &[OwnedFd]) -> io::Result<()> {
    for file in tasks {
        nix::unistd::write(file, b"0").map_err(|errno| step("write 0 to a cgroup's tasks", errno))?;
    }
    reset_signals()?;
    nix::unistd::setsid().map_err(|errno| step("setsid", errno))?;
    if request.terminal {
        rustix::process::ioctl_tiocsctty(&stdio[0]).map_err(|errno| step("take the terminal", errno))?;
    }
    nix::unistd::dup2_stdin(&stdio[0])?;
    nix::unistd::dup2_stdout(&stdio[1])?;
    nix::unistd::dup2_stderr(&stdio[2])?;
    if let Some(score) = request.oom_score_adj {
        std::fs::write("/proc/self/oom_score_adj", score.to_string())
            .map_err(|error| step(format!("write {score} to /proc/self/oom_score_adj"), error))?;
    }
    set_rlimits(&request.rlimits)?;
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(request.umask));
    std::env::set_current_dir(&request.folder)
        .map_err(|error| step(format!("change to folder {}", request.folder), error))?;
    set_identity(request)?;
    close_on_exec()?;
    execute(request)
}

fn reset_signals() -> io::Result<()> {
    SigSet::empty().thread_set_mask()?;
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    for signal in Signal::iterator().filter(|one| !matches!(one, Signal::SIGKILL | Signal::SIGSTOP)) {
        // SAFETY: SIG_DFL runs no code of ours. An ignored signal (SIGPIPE by Rust, SIGHUP by nohup) stays so over execve.
        unsafe { sigaction(signal, &default) }?;
    }
    Ok(())
}

fn set_rlimits(rlimits: &[(u32, u64, u64)]) -> io::Result<()> {
    for &(resource, soft, hard) in rlimits {
        let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
        // SAFETY: the kernel reads one rlimit structure, which lives on this stack.
        Errno::result(unsafe { libc::setrlimit(resource, &raw const limit) }).map_err(|errno| {
            step(format!("set resource limit {resource} to {soft} of at most {hard}"), errno)
        })?;
    }
    Ok(())
}

fn set_identity(request: &Spawn) -> io::Result<()> {
    let capabilities = request.capabilities;
    if let Some((bounding, _)) = capabilities {
        for capability in caps::all().into_iter().filter(|capability| bounding & capability.bitmask() == 0) {
            if caps::has_cap(None, CapSet::Bounding, capability).unwrap_or(false) {
                caps::drop(None, CapSet::Bounding, capability)
                    .map_err(|error| step(format!("drop {capability}"), error))?;
            }
        }
    }
    let ambient = capabilities.map_or(0, |(_, ambient)| ambient);
    if let Some(account) = &request.account {
        if account.uid != 0 && ambient != 0 {
            nix::sys::prctl::set_keepcaps(true)?;
        }
        let groups: Vec<Gid> = account.groups.iter().copied().map(Gid::from_raw).collect();
        nix::unistd::setgroups(&groups).map_err(|errno| step("set the supplementary groups", errno))?;
        let (gid, uid) = (Gid::from_raw(account.gid), Uid::from_raw(account.uid));
        nix::unistd::setresgid(gid, gid, gid)
            .map_err(|errno| step(format!("switch to group {gid}"), errno))?;
        nix::unistd::setresuid(uid, uid, uid)
            .map_err(|errno| step(format!("switch to user {uid}"), errno))?;
    }
    if let Some((bounding, ambient)) = capabilities {
        let kept = if nix::unistd::geteuid().is_root() { bounding } else { ambient };
        set_capabilities(kept, ambient).map_err(|error| step("set the capabilities", error))?;
    }
    if request.no_new_privileges {
        nix::sys::prctl::set_no_new_privs().map_err(|errno| step("set no_new_privs", errno))?;
    }
    Ok(())
}

fn set_capabilities(kept: u64, ambient: u64) -> Result<(), caps::errors::CapsError> {
    let of = |mask: u64| caps::all().into_iter().filter(move |capability| mask & capability.bitmask() != 0);
    let possible = caps::read(None, CapSet::Permitted)?;
    let kept: caps::CapsHashSet = of(kept).filter(|capability| possible.contains(capability)).collect();
    caps::set(None, CapSet::Inheritable, &of(ambient).collect())?;
    of(ambient).try_for_each(|capability: Capability| caps::raise(None, CapSet::Ambient, capability))?;
    caps::set(None, CapSet::Effective, &kept)?;
    caps::set(None, CapSet::Permitted, &kept)
}

fn close_on_exec() -> io::Result<()> {
    // SAFETY: only flags of descriptors change.
    let result = unsafe { libc::close_range(3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC.cast_signed()) };
    Errno::result(result).map(drop).map_err(|errno| step("mark descriptors close-on-exec", errno))
}

fn execute(request: &Spawn) -> io::Result<()> {
    let text = |text: &str| CString::new(text).map_err(io::Error::from);
    let arguments: Vec<CString> = request.arguments.iter().map(|one| text(one)).collect::<io::Result<_>>()?;
    let variables = request.environment.iter().map(|(name, value)| text(&format!("{name}={value}")));
    let environment: Vec<CString> = variables.collect::<io::Result<_>>()?;
    let mut denied = None;
    for candidate in candidates(request) {
        match nix::unistd::execve(&text(&candidate)?, &arguments, &environment) {
            Err(errno @ (Errno::ENOENT | Errno::ENOTDIR)) => denied = denied.or(Some((candidate, errno))),
            Err(Errno::EACCES) => denied = Some((candidate, Errno::EACCES)),
            Err(errno) => return Err(step(format!("execute {candidate}"), errno)),
            Ok(never) => match never {},
        }
    }
    let (candidate, errno) = denied.unwrap_or((request.file.clone(), Errno::ENOENT));
    let shown = if errno == Errno::EACCES { candidate } else { request.file.clone() };
    Err(step(format!("execute {shown}"), errno))
}

/// Where the file may be.
fn candidates(request: &Spawn) -> Vec<String> {
    if request.file.contains('/') {
        return vec![request.file.clone()];
    }
    let path = request.environment.iter().rev().find(|(name, _)| name == "PATH").map_or("", |(_, path)| path);
    let folders = path.split(':').filter(|folder| !folder.is_empty()).map(Path::new);
    let found = folders.map(|folder| folder.join(&request.file).to_string_lossy().into_owned());
    let here = (request.lookup == Lookup::FolderAndPath).then(|| format!("./{}", request.file));
    here.into_iter().chain(found).collect()
}

enum Cloned {
    Parent { pid: i32, pidfd: OwnedFd },
    Child,
}

/// fork(2) by clone3(2), into a cgroup2 folder if one is given.
fn clone_process(into: Option<BorrowedFd<'_>>) -> io::Result<Cloned> {
    // linux/sched.h; libc's constant of this name is 0 in some versions, as it does not fit its type.
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    let mut pidfd: libc::c_int = -1;
    // SAFETY: clone_args is plain numbers, for which zero means "not asked for".
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = u64::from(libc::CLONE_PIDFD.cast_unsigned());
    arguments.pidfd = (&raw mut pidfd) as u64;
    arguments.exit_signal = u64::from(libc::SIGCHLD.cast_unsigned());
    if let Some(folder) = into {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = u64::from(folder.as_raw_fd().cast_unsigned());
    }
    // SAFETY: without CLONE_VM this is fork(2): the child has its own copy of everything, and as this process has one
    // thread only, no lock can be held by anybody else in that copy.
    let result =
        unsafe { libc::syscall(libc::SYS_clone3, &raw mut arguments, size_of::<libc::clone_args>()) };
    match Errno::result(result).map_err(|errno| step("clone3", errno))? {
        0 => Ok(Cloned::Child),
        pid => {
            let pid = i32::try_from(pid).map_err(io::Error::other)?;
            // SAFETY: the kernel put a new descriptor there, which nobody else owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Cloned::Parent { pid, pidfd })
        }
    }
}

fn step(what: impl Into<String>, error: impl std::fmt::Display) -> io::Error {
    io::Error::other(format!("{}: {error}", what.into()))
}
