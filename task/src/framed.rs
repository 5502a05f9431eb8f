//! Messages over a Unix stream socket, with descriptors.
//!
//! A message is its length (four bytes, little-endian), then JSON. The descriptors it needs come with its first byte, in
//! the order its documentation gives (`unix(7)`, SCM_RIGHTS).

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The most descriptors in one message: stdio, one cgroup2 folder, a `tasks` file per v1 hierarchy; or the files of a log.
pub const MOST_DESCRIPTORS: usize = 24;
/// The longest message: the kernel takes no longer argument list anyway.
const LONGEST: usize = 8 << 20;

/// A message that says how many descriptors come with it.
pub trait Carries {
    /// How many descriptors come with it.
    fn descriptors(&self) -> usize;
}

/// A message as it is written.
///
/// # Errors
/// One that is too long, or that JSON cannot hold.
pub fn encode(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, message)?;
    let length = u32::try_from(bytes.len() - 4).ok().filter(|&length| length as usize <= LONGEST);
    let length =
        length.ok_or_else(|| io::Error::other(format!("a message of {} bytes is too long", bytes.len())))?;
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    Ok(bytes)
}

/// Writes as much as goes; the descriptors go with the first byte.
///
/// # Errors
/// What the kernel says, `WouldBlock` included.
pub fn write_some(socket: BorrowedFd<'_>, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::other(format!("{} descriptors in one message", descriptors.len())));
    }
    Ok(sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL)?)
}

/// Writes a whole message to a blocking socket.
///
/// # Errors
/// What the kernel says.
pub fn write(
    socket: BorrowedFd<'_>,
    message: &impl Serialize,
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let bytes = encode(message)?;
    let mut written = write_some(socket, &bytes, descriptors)?;
    while written < bytes.len() {
        written += write_some(socket, &bytes[written..], &[])?;
    }
    Ok(())
}

/// The reading end of a socket: bytes and descriptors that have come and are not yet used.
#[derive(Debug)]
pub struct Inbox {
    bytes: Vec<u8>,
    descriptors: VecDeque<OwnedFd>,
    longest: usize,
    wanted: Wanted,
}

/// What becomes of descriptors that come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Kept,
    Dropped,
}

impl Default for Inbox {
    fn default() -> Self {
        Self { bytes: Vec::new(), descriptors: VecDeque::new(), longest: LONGEST, wanted: Wanted::Kept }
    }
}

/// What reading brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// Bytes.
    Some,
    /// The other end is closed.
    End,
}

impl Inbox {
    /// An inbox for somebody who is not to be trusted: messages of at most `longest` bytes, and descriptors that come are
    /// closed.
    pub fn guarded(longest: usize) -> Self {
        Self { longest, wanted: Wanted::Dropped, ..Self::default() }
    }

    /// Reads what is there.
    ///
    /// # Errors
    /// What the kernel says, `WouldBlock` included.
    pub fn fill(&mut self, socket: BorrowedFd<'_>) -> io::Result<Read> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut buffer = [0_u8; 16384];
        let received = loop {
            match recvmsg(
                socket,
                &mut [IoSliceMut::new(&mut buffer)],
                &mut ancillary,
                RecvFlags::CMSG_CLOEXEC,
            ) {
                Err(Errno::INTR) => {}
                other => break other?,
            }
        };
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message
                && self.wanted == Wanted::Kept
            {
                self.descriptors.extend(descriptors);
            }
        }
        if received.flags.contains(ReturnFlags::CTRUNC) && self.wanted == Wanted::Kept {
            return Err(io::Error::other("descriptors were lost on the way: too many open files"));
        }
        self.bytes.extend_from_slice(&buffer[..received.bytes]);
        Ok(if received.bytes == 0 { Read::End } else { Read::Some })
    }

    /// The next whole message.
    ///
    /// # Errors
    /// One that is too long or not the JSON expected.
    pub fn next_message<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        let Some(header) = self.bytes.first_chunk::<4>() else {
            return Ok(None);
        };
        let length = u32::from_le_bytes(*header) as usize;
        if length > self.longest {
            return Err(io::Error::other(format!("a message of {length} bytes is too long")));
        }
        let Some(body) = self.bytes.get(4..4 + length) else {
            return Ok(None);
        };
        let message = serde_json::from_slice(body)?;
        self.bytes.drain(..4 + length);
        Ok(Some(message))
    }

    /// The next `count` descriptors, which came with the message just read.
    ///
    /// # Errors
    /// Fewer came.
    pub fn take(&mut self, count: usize) -> io::Result<Vec<OwnedFd>> {
        if self.descriptors.len() < count {
            return Err(io::Error::other(format!(
                "{} descriptors came, not {count}",
                self.descriptors.len()
            )));
        }
        Ok(self.descriptors.drain(..count).collect())
    }
}

/// A pair of connected sockets: the executor's end, which does not block, and init's, which does.
///
/// # Errors
/// What the kernel says.
pub fn socket_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    rustix::io::ioctl_fionbio(ours.as_fd(), true)?;
    Ok((ours, theirs))
}
