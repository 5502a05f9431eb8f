//! A Unix stream socket that carries framed messages both ways, on tokio's reactor.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::Interest;
use tokio::net::UnixStream;

use crate::framed::{self, Carries, Inbox, Read};

/// Splits a socket into what sends and what receives. The socket is closed when both are dropped.
pub fn split(stream: UnixStream) -> (Sender, Receiver) {
    split_with(stream, Inbox::default())
}

/// [`split`] with the inbox that is to take what comes.
pub fn split_with(stream: UnixStream, inbox: Inbox) -> (Sender, Receiver) {
    let stream = Arc::new(stream);
    (Sender { stream: stream.clone() }, Receiver { stream, inbox })
}

/// Sends messages.
#[derive(Debug)]
pub struct Sender {
    stream: Arc<UnixStream>,
}

impl Sender {
    /// Lets hardly more than one message wait in the socket for the other side to read it: what it does not read, and the
    /// descriptors with it, stays with who sends.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn keep_back(&self) -> io::Result<()> {
        // The kernel raises it to the least it allows.
        Ok(rustix::net::sockopt::set_socket_send_buffer_size(&self.stream, 0)?)
    }

    /// Sends one message with its descriptors. Not to be given up half-way: the other side would read nonsense.
    ///
    /// # Errors
    /// What the kernel says, or a message that is too long.
    pub async fn send(&mut self, message: &impl Serialize, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let bytes = framed::encode(message)?;
        let (mut written, mut descriptors) = (0, descriptors);
        while written < bytes.len() {
            let rest = &bytes[written..];
            written += self
                .stream
                .async_io(Interest::WRITABLE, || framed::write_some(self.stream.as_fd(), rest, descriptors))
                .await?;
            descriptors = &[];
        }
        Ok(())
    }
}

/// Receives messages.
#[derive(Debug)]
pub struct Receiver {
    stream: Arc<UnixStream>,
    inbox: Inbox,
}

impl Receiver {
    /// The next message and its descriptors; `None` when the other side has closed. May be given up and called again.
    ///
    /// # Errors
    /// What the kernel says; a message that is too long, or not the JSON expected; fewer descriptors than it needs.
    pub async fn receive<T: DeserializeOwned + Carries>(&mut self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        loop {
            if let Some(message) = self.inbox.next_message::<T>()? {
                let descriptors = self.inbox.take(message.descriptors())?;
                return Ok(Some((message, descriptors)));
            }
            let inbox = &mut self.inbox;
            let read = self.stream.async_io(Interest::READABLE, || inbox.fill(self.stream.as_fd())).await?;
            if read == Read::End {
                return Ok(None);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Seek as _, Write as _};

    use crate::control::{Answer, LogFile, Request, Stream};

    #[tokio::test]
    async fn messages_arrive_whole_and_in_order_with_their_descriptors() {
        let (one, other) = UnixStream::pair().unwrap();
        let ((mut sender, _kept), (_, mut receiver)) = (split(one), split(other));
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"a line").unwrap();
        let sending = tokio::spawn(async move {
            let files = vec![LogFile { stream: Stream::Stderr, times: false, moved: 0 }];
            sender.send(&Answer::Lost { bytes: 1 << 40 }, &[]).await.unwrap();
            sender.send(&Answer::Files { files, more: false }, &[file.as_fd()]).await.unwrap();
        });
        let (lost, none) = receiver.receive::<Answer>().await.unwrap().unwrap();
        assert_eq!((lost, none.len()), (Answer::Lost { bytes: 1 << 40 }, 0));
        let (_, descriptors) = receiver.receive::<Answer>().await.unwrap().unwrap();
        sending.await.unwrap();
        let mut file = std::fs::File::from(descriptors.into_iter().next().unwrap());
        file.rewind().unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "a line");
    }

    #[tokio::test]
    async fn a_guarded_inbox_closes_descriptors_and_takes_no_long_message() {
        let (one, other) = UnixStream::pair().unwrap();
        let (mut sender, _kept) = split(one);
        let (_, mut receiver) = split_with(other, Inbox::guarded(100));
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        sender.send(&Request::List, &[writer.as_fd()]).await.unwrap();
        drop(writer);
        let (request, descriptors) = receiver.receive::<Request>().await.unwrap().unwrap();
        assert_eq!((request, descriptors.len()), (Request::List, 0));
        let end = tokio::task::spawn_blocking(move || rustix::io::read(reader, &mut [0_u8; 1])).await;
        assert_eq!(end.unwrap(), Ok(0), "nobody has the writing end");
        let task = mesos::common::TaskId::new("x".repeat(100));
        sender.send(&Request::Logs { task, follow: true }, &[]).await.unwrap();
        let error = receiver.receive::<Request>().await.unwrap_err();
        assert!(error.to_string().ends_with("is too long"), "{error}");
    }

    #[tokio::test]
    async fn a_message_larger_than_the_sockets_buffer_arrives() {
        let (one, other) = UnixStream::pair().unwrap();
        let ((mut sender, _kept), (_, mut receiver)) = (split(one), split(other));
        let task = mesos::common::TaskId::new("x".repeat(3 << 20));
        let request = Request::Logs { task, follow: true };
        let sent = request.clone();
        tokio::spawn(async move { sender.send(&sent, &[]).await });
        assert_eq!(receiver.receive::<Request>().await.unwrap().unwrap().0, request);
    }
}
