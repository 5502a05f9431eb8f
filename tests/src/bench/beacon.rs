//! A program that says when it runs: the first thing it does is to read the clock and to send what it read.
//!
//! ```text
//!  bench --beacon SOCKET NAME:  "started", then waits for SIGTERM:  "terminated", and ends
//!        \--datagram: what, time, name; the kernel adds the sender's process id--> Beacons
//! ```

use std::ffi::OsStr;
use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use nix::cmsg_space;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, UnixAddr, UnixCredentials, recvmsg, setsockopt, sockopt::PassCred,
};
use tokio::io::Interest;
use tokio::time::timeout;

use super::clock;

/// The first argument that makes the bench a beacon; the socket and a name follow.
pub const ARGUMENT: &str = "--beacon";
/// How long a beacon is waited for.
const PATIENCE: Duration = Duration::from_secs(20);
/// The longest datagram.
const LONGEST: usize = 512;

/// Runs as a beacon.
pub fn main(socket: &OsStr, name: &OsStr) -> ExitCode {
    let started = clock::now();
    match run(Path::new(socket), &name.to_string_lossy(), started) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("beacon: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(path: &Path, name: &str, started: Duration) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    let send = |what: &str, at: Duration| {
        socket.send_to(format!("{what} {} {name}", at.as_nanos()).as_bytes(), path)
    };
    send(What::Started.word(), started)?;
    let mut awaited = SigSet::empty();
    awaited.add(Signal::SIGTERM);
    awaited.thread_block()?;
    awaited.wait()?;
    send(What::Terminated.word(), clock::now()).map(drop)
}

/// What a beacon can say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// It runs.
    Started,
    /// It was asked to end.
    Terminated,
}

impl What {
    fn word(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Terminated => "terminated",
        }
    }
}

/// What a beacon said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// What.
    pub what: What,
    /// When, by [`clock::now`].
    pub at: Duration,
    /// Its name.
    pub name: String,
    /// Its process id as it is here, whatever namespace it is in.
    pub process: i32,
}

/// The end at which all beacons are heard. Make it inside a tokio runtime.
#[derive(Debug)]
pub struct Beacons {
    socket: tokio::net::UnixDatagram,
    path: PathBuf,
}

impl Beacons {
    /// Listens on a socket in `folder`.
    ///
    /// # Errors
    /// The socket cannot be made.
    pub fn listen(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join("beacons.sock");
        let socket =
            tokio::net::UnixDatagram::bind(&path).with_context(|| format!("listen on {}", path.display()))?;
        setsockopt(&socket, PassCred, &true).context("ask for the senders of datagrams")?;
        Ok(Self { socket, path })
    }

    /// The arguments of a beacon with this name.
    pub fn arguments(&self, name: &str) -> [String; 3] {
        [ARGUMENT.to_owned(), self.path.display().to_string(), name.to_owned()]
    }

    /// Waits until the beacon of this name says this; what others say is dropped.
    ///
    /// # Errors
    /// It did not in 20 s.
    pub async fn wait(&self, name: &str, what: What) -> anyhow::Result<Said> {
        let heard = async {
            loop {
                let said = self.next().await?;
                if said.name == name && said.what == what {
                    return io::Result::Ok(said);
                }
            }
        };
        let heard = timeout(PATIENCE, heard).await;
        heard
            .with_context(|| format!("wait {PATIENCE:?} for beacon {name} to say {}", what.word()))?
            .context("hear beacons")
    }

    async fn next(&self) -> io::Result<Said> {
        loop {
            let received = self.socket.async_io(Interest::READABLE, || receive(self.socket.as_fd()));
            if let Some(said) = received.await? {
                return Ok(said);
            }
        }
    }
}

/// One datagram; `None` for one that no beacon sent.
fn receive(socket: BorrowedFd<'_>) -> io::Result<Option<Said>> {
    let mut bytes = [0; LONGEST];
    let mut control = cmsg_space!(UnixCredentials);
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let message =
        recvmsg::<UnixAddr>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::MSG_DONTWAIT)?;
    let sender = message.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::ScmCredentials(credentials) => Some(credentials.pid()),
        _ => None,
    });
    let length = message.bytes;
    Ok(sender.and_then(|process| parse(bytes.get(..length)?, process)))
}

fn parse(bytes: &[u8], process: i32) -> Option<Said> {
    let mut words = std::str::from_utf8(bytes).ok()?.splitn(3, ' ');
    let word = words.next()?;
    let what = [What::Started, What::Terminated].into_iter().find(|what| what.word() == word)?;
    let at = Duration::from_nanos(words.next()?.parse().ok()?);
    let name = words.next()?.to_owned();
    Some(Said { what, at, name, process })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_beacon_is_heard_with_its_process_id_and_others_are_not_mistaken_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let beacons = Beacons::listen(folder.path()).unwrap();
        let sender = UnixDatagram::unbound().unwrap();
        for text in ["nonsense", "started x a", "started 5 b", "terminated 6 a", "started 7 a"] {
            sender.send_to(text.as_bytes(), folder.path().join("beacons.sock")).unwrap();
        }
        let said = beacons.wait("a", What::Started).await.unwrap();
        assert_eq!(said.at, Duration::from_nanos(7));
        assert_eq!(u32::try_from(said.process), Ok(std::process::id()));
    }
}
