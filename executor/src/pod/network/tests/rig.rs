//! Namespaces that stand for pods, and bytes between them.

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::mount::{MntFlags, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::Networks;
use crate::pod::sockets::PodSockets;
use crate::spec::pod::BridgeSpec;

pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// A host's bridges with names of their own; what is left of them goes when the test ends.
pub(super) struct Rig {
    pub(super) networks: Networks,
    /// Removed after the rest was unmounted.
    _folder: TempDir,
}

impl Rig {
    pub(super) fn new() -> Self {
        let folder = TempDir::with_prefix("kx-network-").expect("a temporary folder");
        let networks =
            Networks { lock: folder.path().join("lock/network.lock"), names: folder.path().join("netns") };
        Self { networks, _folder: folder }
    }

    pub(super) fn names(&self) -> Vec<String> {
        let names = fs::read_dir(&self.networks.names).into_iter().flatten().flatten();
        names.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        for name in self.names() {
            let _ = umount2(&self.networks.names.join(name), MntFlags::MNT_DETACH);
        }
        // The folder was mounted on itself.
        let _ = umount2(&self.networks.names, MntFlags::MNT_DETACH);
    }
}

pub(super) fn new_namespace() -> OwnedFd {
    std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).expect("root may make a network namespace");
        File::open("/proc/thread-self/ns/net").expect("a thread has one").into()
    })
    .join()
    .expect("the thread does not panic")
}

pub(super) fn copy(namespace: &OwnedFd) -> OwnedFd {
    namespace.as_fd().try_clone_to_owned().expect("a descriptor")
}

pub(super) fn inside<T: Send + 'static>(namespace: &OwnedFd, look: impl FnOnce() -> T + Send + 'static) -> T {
    let namespace = copy(namespace);
    let thread = std::thread::spawn(move || {
        setns(&namespace, CloneFlags::CLONE_NEWNET).expect("it can be entered");
        look()
    });
    thread.join().expect("the thread does not panic")
}

pub(super) fn place(cluster: &str, last: u8) -> BridgeSpec {
    BridgeSpec {
        cluster: cluster.to_owned(),
        address: Ipv4Addr::new(10, 88, 0, last).into(),
        prefix: 16,
        gateway: Ipv4Addr::new(10, 88, 0, 1).into(),
        routes: Vec::new(),
    }
}

pub(super) fn any_port(address: IpAddr) -> SocketAddr {
    SocketAddr::new(address, 0)
}

pub(super) async fn listen(sockets: &PodSockets, address: IpAddr) -> tokio::net::TcpListener {
    let socket = sockets.tcp(address).await.expect("a socket");
    socket.bind(any_port(address)).expect("the namespace has the address");
    socket.listen(8).expect("it can listen")
}

/// A byte goes from one namespace to the other; returns where the listener saw it come from.
pub(super) async fn byte_between(from: &PodSockets, to: &PodSockets, address: IpAddr) -> IpAddr {
    let listener = listen(to, address).await;
    let target = listener.local_addr().expect("it is bound");
    let work = async {
        let connect = async {
            let mut stream =
                from.tcp(address).await.expect("a socket").connect(target).await.expect("reachable");
            stream.write_all(b"x").await.expect("connected");
        };
        let accept = async {
            let (mut stream, peer) = listener.accept().await.expect("a connection");
            let mut byte = [0];
            stream.read_exact(&mut byte).await.expect("a byte");
            peer.ip()
        };
        tokio::join!(connect, accept).1
    };
    tokio::time::timeout(PATIENCE, work).await.expect("the byte arrives")
}

#[expect(clippy::print_stdout, reason = "the reason of a skipped test")]
pub(super) fn println_skipped(reason: &str) {
    println!("skipped: {reason}");
}
