//! Sockets inside a pod instance's network namespace, for checks.

use std::io;
use std::net::{IpAddr, TcpStream};
use std::os::fd::OwnedFd;

use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use tokio::net::TcpSocket;
use tokio::sync::{mpsc, oneshot};

/// Requests that wait for the thread; each takes it some microseconds.
const QUEUE: usize = 16;
/// What the thread needs is far less, in a debug build too.
const STACK: usize = 64 * 1024;

/// Opens sockets in one network namespace. A socket belongs to the namespace it was made in, wherever it is used.
///
/// A clone opens them in the same namespace, on the same thread, which ends with the last clone.
#[derive(Debug, Clone)]
pub struct PodSockets {
    /// To the thread in the namespace; `None` for the executor's own network.
    requests: Option<mpsc::Sender<Request>>,
}

#[derive(Debug)]
struct Request {
    family: AddressFamily,
    reply: oneshot::Sender<io::Result<OwnedFd>>,
}

impl PodSockets {
    /// Sockets of the executor's own network.
    pub fn host() -> Self {
        Self { requests: None }
    }

    /// Sockets of another network namespace, which lives at least as long as a clone of this.
    ///
    /// # Errors
    /// When the namespace cannot be entered, or no thread started.
    pub fn namespace(net_namespace: OwnedFd) -> io::Result<Self> {
        let (requests, mut queue) = mpsc::channel::<Request>(QUEUE);
        let (entered, outcome) = std::sync::mpsc::sync_channel(1);
        std::thread::Builder::new().name("pod-sockets".to_owned()).stack_size(STACK).spawn(move || {
            let result = setns(&net_namespace, CloneFlags::CLONE_NEWNET);
            drop(net_namespace);
            let _ = entered.send(result);
            while let Some(Request { family, reply }) = queue.blocking_recv() {
                let _ = reply.send(open(family));
            }
        })?;
        outcome.recv().map_err(|_| thread_gone())?.map_err(|errno| {
            io::Error::new(io::Error::from(errno).kind(), format!("enter a pod's network namespace: {errno}"))
        })?;
        Ok(Self { requests: Some(requests) })
    }

    /// A TCP socket of the family that `target` needs, not yet connected.
    ///
    /// # Errors
    /// What the kernel says.
    pub async fn tcp(&self, target: IpAddr) -> io::Result<TcpSocket> {
        let Some(requests) = &self.requests else {
            return if target.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
        };
        let family = if target.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let (reply, result) = oneshot::channel();
        requests.send(Request { family, reply }).await.map_err(|_| thread_gone())?;
        let socket = result.await.map_err(|_| thread_gone())??;
        Ok(TcpSocket::from_std_stream(TcpStream::from(socket)))
    }
}

fn open(family: AddressFamily) -> io::Result<OwnedFd> {
    Ok(socket(family, SockType::Stream, SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC, None)?)
}

fn thread_gone() -> io::Error {
    io::Error::new(
        io::ErrorKind::BrokenPipe,
        "open a socket in a pod's network namespace: its thread has ended",
    )
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::net::Ipv4Addr;

    use nix::sched::unshare;

    use super::*;

    /// A network namespace of its own, and the number by which the kernel knows it.
    fn new_namespace() -> (OwnedFd, String) {
        std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("root may make a network namespace");
            let number = std::fs::read_link("/proc/thread-self/ns/net").expect("a thread has one");
            (
                File::open("/proc/thread-self/ns/net").expect("a thread has one").into(),
                number.display().to_string(),
            )
        })
        .join()
        .expect("the thread does not panic")
    }

    fn threads_in(namespace: &str) -> usize {
        std::fs::read_dir("/proc/self/task")
            .expect("a process has threads")
            .filter_map(|task| std::fs::read_link(task.ok()?.path().join("ns/net")).ok())
            .filter(|found| found.display().to_string() == namespace)
            .count()
    }

    #[tokio::test]
    async fn a_socket_is_in_the_namespace_and_its_maker_is_not() {
        let (namespace, number) = new_namespace();
        let own = std::fs::read_link("/proc/thread-self/ns/net").expect("a thread has one");
        let sockets = PodSockets::namespace(namespace).expect("it can be entered");
        assert_eq!(threads_in(&number), 1);
        assert_eq!(std::fs::read_link("/proc/thread-self/ns/net").expect("a thread has one"), own);
        // Loopback of a new namespace is down, that of the host is up.
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let socket = sockets.tcp(address.ip()).await.expect("a socket");
        let error = socket.connect(address).await.expect_err("there is no way to it");
        assert_eq!(error.kind(), io::ErrorKind::NetworkUnreachable, "{error}");
        let socket = PodSockets::host().tcp(address.ip()).await.expect("a socket");
        socket.connect(address).await.expect("the host's network reaches it");
    }

    #[tokio::test]
    async fn the_thread_ends_with_the_last_clone() {
        let (namespace, number) = new_namespace();
        let sockets = PodSockets::namespace(namespace).expect("it can be entered");
        let clone = sockets.clone();
        drop(sockets);
        clone.tcp(Ipv4Addr::LOCALHOST.into()).await.expect("the thread still works");
        drop(clone);
        let gone = async {
            while threads_in(&number) > 0 {
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(20), gone).await.expect("the thread has ended");
    }

    #[tokio::test]
    async fn a_thread_that_is_gone_is_an_error() {
        let (requests, queue) = mpsc::channel(1);
        drop(queue);
        let sockets = PodSockets { requests: Some(requests) };
        let error = sockets.tcp(Ipv4Addr::LOCALHOST.into()).await.expect_err("nobody answers");
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }

    #[tokio::test]
    async fn what_is_no_network_namespace_is_refused() {
        let file = File::open("/proc/self/ns/uts").expect("a process has one");
        let error = PodSockets::namespace(file.into()).expect_err("it is of another kind");
        assert!(error.to_string().starts_with("enter a pod's network namespace: EINVAL"), "{error}");
    }
}
