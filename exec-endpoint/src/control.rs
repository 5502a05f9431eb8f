//! The endpoint's side of an executor's control socket: one connection per request.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use task::connection::{self, Receiver, Sender};
use task::control::{Answer, Refusal, Request, Wish};
use tokio::net::UnixStream;

/// How long an executor may take for its first answer. Starting a process is the longest.
const FIRST_ANSWER: Duration = Duration::from_secs(20);

/// Why an executor gave no answer that is of use.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// It cannot be reached, or went away.
    #[error("{verb} {}: {source}", path.display())]
    Io {
        /// What was tried.
        verb: &'static str,
        /// The socket.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Somebody else has its socket.
    #[error("{} belongs to user {uid}, not to root", path.display())]
    Impostor {
        /// The socket.
        path: PathBuf,
        /// Whose it is.
        uid: u32,
    },
    /// It did not answer in time.
    #[error("{}: no answer within {FIRST_ANSWER:?}", .0.display())]
    Silent(PathBuf),
    /// It answered something else than was asked.
    #[error("{}: unexpected answer {answer}", path.display())]
    Unexpected {
        /// The socket.
        path: PathBuf,
        /// What it answered.
        answer: String,
    },
    /// It refused.
    #[error("{}", .0.message)]
    Refused(Refusal),
}

/// A connection to an executor, with one request under way.
#[derive(Debug)]
pub struct Control {
    path: PathBuf,
    sender: Sender,
    receiver: Receiver,
}

impl Control {
    /// Connects, asks, and waits for the first answer and its descriptors.
    ///
    /// # Errors
    /// [`ControlError`]; a refusal is one.
    pub async fn ask(socket: &Path, request: &Request) -> Result<(Self, Answer, Vec<OwnedFd>), ControlError> {
        let stream = connect(socket).await?;
        let (sender, receiver) = connection::split(stream);
        let mut this = Self { path: socket.to_owned(), sender, receiver };
        let asking = async {
            this.sender.send(request, &[]).await.map_err(|source| this.failed("ask", source))?;
            this.answer().await
        };
        let (answer, descriptors) = tokio::time::timeout(FIRST_ANSWER, asking)
            .await
            .map_err(|_| ControlError::Silent(socket.to_owned()))??;
        Ok((this, answer, descriptors))
    }

    /// The next answer. May be given up and called again.
    ///
    /// # Errors
    /// [`ControlError`]; a refusal is one, and so is the end of the connection.
    pub async fn answer(&mut self) -> Result<(Answer, Vec<OwnedFd>), ControlError> {
        match self.receiver.receive().await {
            Ok(Some((Answer::Refused(refusal), _))) => Err(ControlError::Refused(refusal)),
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err(self.failed("hear from", io::ErrorKind::UnexpectedEof.into())),
            Err(source) => Err(self.failed("hear from", source)),
        }
    }

    /// Tells a wish about the request under way.
    ///
    /// # Errors
    /// The connection has ended.
    pub async fn wish(&mut self, wish: Wish) -> Result<(), ControlError> {
        self.sender.send(&wish, &[]).await.map_err(|source| self.failed("tell", source))
    }

    /// Splits it: what tells wishes, and what hears answers.
    pub fn split(self) -> (Wishes, Answers) {
        let Self { path, sender, receiver } = self;
        (Wishes { path: path.clone(), sender }, Answers { path, receiver })
    }

    /// The error for an answer that was not asked for.
    pub fn unexpected(&self, answer: &Answer) -> ControlError {
        ControlError::Unexpected { path: self.path.clone(), answer: format!("{answer:?}") }
    }

    fn failed(&self, verb: &'static str, source: io::Error) -> ControlError {
        ControlError::Io { verb, path: self.path.clone(), source }
    }
}

/// Tells wishes about a request under way.
#[derive(Debug)]
pub struct Wishes {
    path: PathBuf,
    sender: Sender,
}

impl Wishes {
    /// Tells one.
    ///
    /// # Errors
    /// The connection has ended.
    pub async fn tell(&mut self, wish: Wish) -> Result<(), ControlError> {
        let sent = self.sender.send(&wish, &[]).await;
        sent.map_err(|source| ControlError::Io { verb: "tell", path: self.path.clone(), source })
    }
}

/// Hears answers to a request under way.
#[derive(Debug)]
pub struct Answers {
    path: PathBuf,
    receiver: Receiver,
}

impl Answers {
    /// The next one, as of [`Control::answer`].
    ///
    /// # Errors
    /// As of [`Control::answer`].
    pub async fn next(&mut self) -> Result<(Answer, Vec<OwnedFd>), ControlError> {
        let failed = |source| ControlError::Io { verb: "hear from", path: self.path.clone(), source };
        match self.receiver.receive().await {
            Ok(Some((Answer::Refused(refusal), _))) => Err(ControlError::Refused(refusal)),
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err(failed(io::ErrorKind::UnexpectedEof.into())),
            Err(source) => Err(failed(source)),
        }
    }
}

/// Connects through the folder's descriptor: the whole path may be longer than a socket's address holds.
async fn connect(socket: &Path) -> Result<UnixStream, ControlError> {
    let failed = |verb| move |source| ControlError::Io { verb, path: socket.to_owned(), source };
    let (folder, name) = socket
        .parent()
        .zip(socket.file_name())
        .ok_or_else(|| failed("connect to")(io::ErrorKind::InvalidInput.into()))?;
    let folder = std::fs::File::open(folder).map_err(failed("open the folder of"))?;
    let short = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name);
    let stream = UnixStream::connect(short).await.map_err(failed("connect to"))?;
    let uid = stream.peer_cred().map_err(failed("ask who has"))?.uid();
    if uid != 0 {
        return Err(ControlError::Impostor { path: socket.to_owned(), uid });
    }
    Ok(stream)
}
