//! The port: systemd's socket, if it gives one (`sd_listen_fds(3)`), or one of our own.

use std::io;
use std::net::SocketAddr;

use listenfd::ListenFd;
use tokio::net::TcpListener;

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;

/// Why there is no port.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// It cannot be had.
    #[error("listen at {address}: {source}")]
    Own {
        /// Which.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// systemd gave something else.
    #[error("use systemd's socket: {0}")]
    Systemd(#[source] io::Error),
    /// systemd gave several.
    #[error("systemd gave {0} sockets, not one: let the socket unit have a single ListenStream")]
    Several(usize),
}

/// What systemd has given. To be asked once, before there are other threads: it is taken out of the environment.
pub fn given() -> ListenFd {
    ListenFd::from_env()
}

/// Listens. To be called within a runtime.
///
/// # Errors
/// [`ListenError`].
pub fn listen(mut given: ListenFd, address: SocketAddr) -> Result<TcpListener, ListenError> {
    match given.len() {
        0 => own(address).map_err(|source| ListenError::Own { address, source }),
        1 => {
            let listener = given.take_tcp_listener(0).and_then(|one| {
                let listener = one.ok_or(io::ErrorKind::NotFound)?;
                listener.set_nonblocking(true)?;
                TcpListener::from_std(listener)
            });
            listener.map_err(ListenError::Systemd)
        }
        several => Err(ListenError::Several(several)),
    }
}

fn own(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => tokio::net::TcpSocket::new_v4(),
        SocketAddr::V6(_) => tokio::net::TcpSocket::new_v6(),
    }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn without_systemd_the_port_is_our_own_and_one_that_is_taken_is_named() {
        let ours = listen(ListenFd::empty(), "127.0.0.1:0".parse().unwrap()).unwrap();
        let address = ours.local_addr().unwrap();
        let error = listen(ListenFd::empty(), address).unwrap_err().to_string();
        assert!(error.contains(&address.to_string()), "{error}");
    }
}
