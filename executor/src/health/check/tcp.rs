//! TCP: whether a connection is made.

use std::io;
use std::net::SocketAddr;

use nix::errno::Errno;
use tokio::net::{TcpSocket, TcpStream};

use super::Miss;
use super::describe::socket_address;
use crate::health::Observed;
use crate::pod::sockets::PodSockets;
use crate::spec::Address;
use crate::text::io_text;

pub(super) async fn check(address: Address, sockets: &PodSockets) -> Result<Observed, Miss> {
    match connect(address, sockets).await {
        Ok(_) => Ok(Observed::Connected(true)),
        Err(Unconnected::NoSocket(error)) => Err(no_socket(&error)),
        Err(Unconnected::Refused(error)) => {
            Err(Miss::Failure { text: io_text(&error), observed: Observed::Connected(false) })
        }
    }
}

/// A connection for a request.
pub(super) async fn open(address: Address, sockets: &PodSockets) -> Result<TcpStream, Miss> {
    let stream = connect(address, sockets).await.map_err(|error| match error {
        Unconnected::NoSocket(error) => no_socket(&error),
        Unconnected::Refused(error) => Miss::failure(io_text(&error)),
    })?;
    // A request is one small packet: waiting for more to send with it only delays it.
    stream
        .set_nodelay(true)
        .map_err(|error| Miss::failure(format!("set TCP_NODELAY: {}", io_text(&error))))?;
    Ok(stream)
}

/// Why there is no connection.
enum Unconnected {
    /// Our own side lacked the means: it says nothing about the task.
    NoSocket(io::Error),
    /// The task's side.
    Refused(io::Error),
}

fn no_socket(error: &io::Error) -> Miss {
    Miss::Unknown { text: format!("open a socket in the task's network: {}", io_text(error)) }
}

async fn connect(address: Address, sockets: &PodSockets) -> Result<TcpStream, Unconnected> {
    let socket = sockets.tcp(address.ip).await.map_err(Unconnected::NoSocket)?;
    connect_with(socket, socket_address(address)).await.map_err(Unconnected::Refused)
}

async fn connect_with(socket: TcpSocket, target: SocketAddr) -> io::Result<TcpStream> {
    let stream = socket.connect(target).await?;
    // Where nobody listens, the kernel may choose the target as our own port too, and connect us to ourselves.
    if stream.local_addr()? == target {
        return Err(Errno::ECONNREFUSED.into());
    }
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_to_itself_is_refused() {
        let free = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let target = free.local_addr().expect("bound");
        drop(free);
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(target).expect("bind");
        let error = connect_with(socket, target).await.expect_err("only the kernel's trick");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }
}
