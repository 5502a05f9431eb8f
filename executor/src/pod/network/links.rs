//! Links, addresses and routes of one network namespace.

use std::io;
use std::net::IpAddr;

use nix::errno::Errno;
use nix::net::if_::{if_nameindex, if_nametoindex};
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::address::AddressHeaderFlags;
use rtnetlink::packet_route::link::LinkMessage;

/// A netlink socket. It stays in the namespace that it was opened in.
#[derive(Debug)]
pub(crate) struct Links(rtnetlink::Handle);

impl Links {
    /// In the calling thread's present namespace, inside a tokio runtime that drives I/O on this thread only.
    pub(crate) fn open() -> io::Result<Self> {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        tokio::spawn(connection);
        Ok(Self(handle))
    }

    /// Makes a link that is not there yet.
    pub(crate) async fn add(&self, message: LinkMessage) -> io::Result<()> {
        self.0.link().add(message).execute().await.map_err(to_io)
    }

    /// Changes a link.
    pub(crate) async fn change(&self, message: LinkMessage) -> io::Result<()> {
        self.0.link().change(message).execute().await.map_err(to_io)
    }

    /// Deletes a link; the other end of a veth pair goes with it.
    pub(crate) async fn delete(&self, index: u32) -> io::Result<()> {
        self.0.link().del(index).execute().await.map_err(to_io)
    }

    /// Adds an address that can be used at once.
    pub(crate) async fn add_address(&self, index: u32, address: IpAddr, prefix: u8) -> io::Result<()> {
        let mut request = self.0.address().add(index, address, prefix);
        // An IPv6 address is of no use for a second while the kernel looks whether somebody else has it.
        request.message_mut().header.flags |= AddressHeaderFlags::Nodad;
        request.execute().await.map_err(to_io)
    }

    /// Adds a route, or replaces the one to the same network.
    pub(crate) async fn put_route(
        &self,
        index: u32,
        network: IpAddr,
        prefix: u8,
        hop: IpAddr,
    ) -> io::Result<()> {
        let route = RouteMessageBuilder::<IpAddr>::new()
            .destination_prefix(network, prefix)
            .and_then(|route| route.gateway(hop))
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error.to_string()))?
            .output_interface(index)
            .build();
        self.0.route().add(route).replace().execute().await.map_err(to_io)
    }
}

/// The number of a link in the calling thread's namespace.
pub(crate) fn index_of(link: &str) -> io::Result<Option<u32>> {
    match if_nametoindex(link) {
        Ok(index) => Ok(Some(index)),
        Err(Errno::ENODEV) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The names of all links in the calling thread's namespace.
pub(crate) fn names() -> io::Result<Vec<String>> {
    let links = if_nameindex()?;
    Ok(links.iter().map(|link| link.name().to_string_lossy().into_owned()).collect())
}

fn to_io(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        error => io::Error::other(error),
    }
}
