//! Where audit lines are written to.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;

use super::AuditTo;

/// How long a full syslog may hold a request up.
const SYSLOG_WAIT: Duration = Duration::from_millis(200);
/// Facility authpriv (RFC 3164, 4.1.1), in its place.
const AUTHPRIV: u8 = 10 << 3;
/// Who may read the audit: its owner, and a group for those who collect it.
const FILE_MODE: u32 = 0o640;

/// Why an audit line was not written.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The kernel says no.
    #[error("{verb} audit {}: {source}", path.display())]
    Io {
        /// What was tried.
        verb: &'static str,
        /// Where.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// It is a folder, a pipe, a device.
    #[error("audit {} is not a regular file; for standard output say \"-\"", .0.display())]
    NotFile(PathBuf),
    /// The line is none.
    #[error("write an audit line as JSON: {0}")]
    Json(#[source] serde_json::Error),
}

/// Syslog's severity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Importance {
    Notice,
    Info,
}

/// What lines are written to.
#[derive(Debug)]
pub(super) enum Sink {
    Stdout,
    File(LogFile),
    Syslog { socket: UnixDatagram, path: PathBuf },
}

impl Sink {
    /// `None`: nowhere.
    pub(super) fn open(to: &AuditTo) -> Result<Option<Self>, AuditError> {
        Ok(match to {
            AuditTo::Nowhere => None,
            AuditTo::Stdout => Some(Self::Stdout),
            AuditTo::File(path) => {
                Some(Self::File(LogFile { open: Some(OpenFile::open(path)?), path: path.clone() }))
            }
            AuditTo::Syslog(path) => {
                let socket = UnixDatagram::unbound().map_err(failed("make a socket for", path))?;
                socket.set_write_timeout(Some(SYSLOG_WAIT)).map_err(failed("set up", path))?;
                std::fs::metadata(path).map_err(failed("find", path))?;
                Some(Self::Syslog { socket, path: path.clone() })
            }
        })
    }

    pub(super) fn reopen(&mut self) {
        if let Self::File(file) = self {
            file.open = None;
        }
    }

    /// Writes one line (without its end).
    pub(super) fn write(&mut self, line: &[u8], importance: Importance) -> Result<(), AuditError> {
        match self {
            Self::Stdout => {
                let mut stdout = io::stdout().lock();
                let written = stdout.write_all(&[line, b"\n"].concat()).and_then(|()| stdout.flush());
                written.map_err(failed("write", Path::new("-")))
            }
            Self::File(file) => file.write(line),
            Self::Syslog { socket, path } => {
                let datagram = datagram(line, importance, Timestamp::now(), std::process::id());
                // Addressed each time: whoever listens may have been restarted.
                socket.send_to(&datagram, &*path).map_err(failed("write", path))?;
                Ok(())
            }
        }
    }
}

/// A file that lines are appended to, wherever its path leads at the time.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    open: Option<OpenFile>,
}

#[derive(Debug)]
struct OpenFile {
    file: File,
    inode: (u64, u64),
    /// A line was written in part: the next one begins on a new one.
    torn: bool,
}

impl LogFile {
    fn write(&mut self, line: &[u8]) -> Result<(), AuditError> {
        let now = std::fs::metadata(&self.path).ok().map(|metadata| (metadata.dev(), metadata.ino()));
        let mut open = match self.open.take() {
            Some(open) if Some(open.inode) == now => open,
            _ => OpenFile::open(&self.path)?,
        };
        let written = open.write(line);
        self.open = Some(open);
        written.map_err(failed("write", &self.path))
    }
}

impl OpenFile {
    fn open(path: &Path) -> Result<Self, AuditError> {
        let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        let file = File::options()
            .append(true)
            .create(true)
            .mode(FILE_MODE)
            .custom_flags(nonblocking)
            .open(path)
            .map_err(failed("open", path))?;
        let metadata = file.metadata().map_err(failed("look at", path))?;
        if !metadata.is_file() {
            return Err(AuditError::NotFile(path.to_owned()));
        }
        if metadata.mode() & 0o007 != 0 {
            let mode = format!("{:04o}", metadata.mode() & 0o7777);
            tracing::warn!(path = %path.display(), mode, "everybody on this host can get at the audit; chmod o= it");
        }
        Ok(Self { file, inode: (metadata.dev(), metadata.ino()), torn: false })
    }

    /// One call for one line, so that two writers never mix; a full disk may still cut one.
    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let start: &[u8] = if self.torn { b"\n" } else { b"" };
        let written = self.file.write_all(&[start, line, b"\n"].concat());
        self.torn = written.is_err();
        written
    }
}

/// A message as of RFC 3164 on a local socket, where the host's name is left out (as of `syslog(3)`). The time is UTC; the line
/// has its own.
fn datagram(line: &[u8], importance: Importance, now: Timestamp, pid: u32) -> Vec<u8> {
    let severity = match importance {
        Importance::Notice => 5,
        Importance::Info => 6,
    };
    let time = now.strftime("%b %e %H:%M:%S");
    let mut datagram = format!("<{}>{time} exec-endpoint[{pid}]: ", AUTHPRIV | severity).into_bytes();
    datagram.extend_from_slice(line);
    datagram
}

fn failed(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> AuditError {
    let path = path.to_owned();
    move |source| AuditError::Io { verb, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_is_as_rfc_3164_has_it() {
        let time = "2026-11-02T18:48:39Z".parse().unwrap();
        let bytes = datagram(b"{}", Importance::Notice, time, 7);
        assert_eq!(String::from_utf8(bytes).unwrap(), "<85>Nov  2 18:48:39 exec-endpoint[7]: {}");
    }

    #[test]
    fn a_torn_line_does_not_spoil_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit");
        let mut file = OpenFile::open(&path).unwrap();
        file.file.write_all(b"{\"ev").unwrap();
        file.torn = true;
        file.write(b"{}").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"ev\n{}\n");
    }
}
