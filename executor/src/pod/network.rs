//! A pod instance's place on its cluster's bridge.
//!
//! ```text
//!  network namespace kx-<cluster>              the pod instance's own network namespace
//!  br0, the gateway's address --- pod<hash> ======== eth0, the pod instance's address, default route to the gateway
//! ```
//!
//! The namespace of the cluster is a bind mount in `/run/netns`, as `ip netns` makes them: it outlives executors and
//! goes with [`Networks::remove_cluster`]. A veth pair goes by itself when the pod's namespace ends. What several
//! executors may do at once is done under a file lock.
//!
//! All of it happens on threads of its own, which end in whatever namespace they are: the network namespace of no other
//! thread ever changes.

mod error;
pub(crate) mod links;
mod namespace;
#[cfg(test)]
mod tests;

use std::fs::{self, File, OpenOptions};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MntFlags, umount2};
use rtnetlink::packet_route::link::{InfoData, InfoVeth, LinkMessage};
use rtnetlink::{LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::oneshot;

pub use error::NetworkError;

use crate::spec::pod::BridgeSpec;
use crate::text::hex;
use error::At;
use links::Links;

/// The bridge in a cluster's namespace.
const BRIDGE: &str = "br0";
/// The pod instance's end of its veth pair.
const POD_LINK: &str = "eth0";
/// How the names of the bridge's ports to pod instances begin; what begins otherwise is not a pod instance's.
const PORT_PREFIX: &str = "pod";

/// A joined pod instance: what [`Networks::leave`] needs, also after the executor was executed anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined {
    /// Its cluster.
    pub cluster: String,
    /// The bridge's port to it.
    pub link: String,
    /// The port's number, which tells it from a later one of the same name.
    pub index: u32,
}

/// What became of a cluster's namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// It is removed.
    Removed,
    /// There was none.
    Absent,
    /// It stays, since so many pod instances are on its bridge. One that has just ended counts until the kernel has
    /// taken its namespace apart.
    InUse(usize),
}

/// The bridges of this host's clusters.
///
/// Every call runs on a thread of its own and goes on to its end when its future is dropped.
#[derive(Debug, Clone)]
pub struct Networks {
    lock: PathBuf,
    names: PathBuf,
}

impl Default for Networks {
    fn default() -> Self {
        Self::new(Path::new("/run/kube-executor"))
    }
}

impl Networks {
    /// Those of the executors that keep the lock file `network.lock` in `folder`, which is made when it is not there.
    pub fn new(folder: &Path) -> Self {
        Self { lock: folder.join("network.lock"), names: PathBuf::from("/run/netns") }
    }

    /// Connects a pod instance's network namespace to the bridge of its cluster, both of which are made when they are
    /// not there. A connection that another instance left under the same `label` is replaced. The namespace forwards
    /// packets afterwards.
    ///
    /// # Errors
    /// The step that failed; then the pod instance is not on the bridge. A cluster that had no namespace may have one.
    pub async fn join(
        &self,
        place: &BridgeSpec,
        pod_namespace: OwnedFd,
        label: &str,
    ) -> Result<Joined, NetworkError> {
        let (networks, place, label) = (self.clone(), place.clone(), label.to_owned());
        on_thread(move || networks.join_here(&place, &pod_namespace, &label)).await
    }

    /// Disconnects a pod instance, whose namespace may have ended already. A later instance's connection stays.
    ///
    /// # Errors
    /// The step that failed.
    pub async fn leave(&self, joined: &Joined) -> Result<(), NetworkError> {
        let (networks, joined) = (self.clone(), joined.clone());
        on_thread(move || networks.leave_here(&joined)).await
    }

    /// Removes what a dead pod left: its link, which the kernel would remove some time after the pod's namespace, and the
    /// bridge if it was the last one's. `label` is the one that the pod joined with.
    ///
    /// # Errors
    /// [`NetworkError`]
    pub async fn remove_dead(&self, cluster: &str, label: &str) -> Result<Removal, NetworkError> {
        let (networks, name, link) = (self.clone(), cluster.to_owned(), port_name(label));
        on_thread(move || networks.delete_here(&name, &link, |_| true)).await?;
        self.remove_cluster(cluster).await
    }

    /// Removes the namespace of a cluster, its bridge with it, unless a pod instance is on it.
    ///
    /// # Errors
    /// The step that failed.
    pub async fn remove_cluster(&self, cluster: &str) -> Result<Removal, NetworkError> {
        let (networks, cluster) = (self.clone(), cluster.to_owned());
        on_thread(move || networks.remove_here(&cluster)).await
    }

    fn join_here(&self, place: &BridgeSpec, pod: &OwnedFd, label: &str) -> Result<Joined, NetworkError> {
        let path = self.namespace_path(&place.cluster)?;
        let _lock = self.lock()?;
        let namespace = match namespace::open(&path)? {
            Some(namespace) => namespace,
            None => namespace::make(&path)?,
        };
        namespace::enter(&namespace, &path.display().to_string())?;
        runtime()?.block_on(async {
            let bridge = open_links(&path.display().to_string())?;
            let bridge_index = set_up_bridge(&bridge, place).await?;
            let joined = add_port(&bridge, bridge_index, place, pod, label).await?;
            match set_up_pod(pod, place).await {
                Ok(()) => Ok(joined),
                Err(error) => {
                    if let Err(left) = bridge.delete(joined.index).await {
                        tracing::warn!(link = joined.link, error = %left, "a failed join left its link");
                    }
                    Err(error)
                }
            }
        })
    }

    fn leave_here(&self, joined: &Joined) -> Result<(), NetworkError> {
        self.delete_here(&joined.cluster, &joined.link, |index| index == joined.index)
    }

    fn delete_here(
        &self,
        cluster: &str,
        link: &str,
        is_it: impl Fn(u32) -> bool,
    ) -> Result<(), NetworkError> {
        let path = self.namespace_path(cluster)?;
        let _lock = self.lock()?;
        let Some(namespace) = namespace::open(&path)? else {
            return Ok(());
        };
        namespace::enter(&namespace, &path.display().to_string())?;
        let Some(index) = index_of(link)?.filter(|&index| is_it(index)) else {
            return Ok(());
        };
        runtime()?.block_on(async {
            let bridge = open_links(&path.display().to_string())?;
            delete(&bridge, link, index).await
        })
    }

    fn remove_here(&self, cluster: &str) -> Result<Removal, NetworkError> {
        let path = self.namespace_path(cluster)?;
        let _lock = self.lock()?;
        if !path.exists() {
            return Ok(Removal::Absent);
        }
        if let Some(namespace) = namespace::open(&path)? {
            namespace::enter(&namespace, &path.display().to_string())?;
            let ports = links::names()
                .at(|| format!("list the links of {}", path.display()))?
                .iter()
                .filter(|name| name.starts_with(PORT_PREFIX))
                .count();
            if ports > 0 {
                return Ok(Removal::InUse(ports));
            }
            umount2(&path, MntFlags::MNT_DETACH).at(|| format!("unmount {}", path.display()))?;
        }
        fs::remove_file(&path).at(|| format!("remove {}", path.display()))?;
        Ok(Removal::Removed)
    }

    fn namespace_path(&self, cluster: &str) -> Result<PathBuf, NetworkError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if cluster.is_empty() || cluster.len() > 200 || !cluster.chars().all(allowed) {
            return Err(NetworkError::Cluster(cluster.to_owned()));
        }
        Ok(self.names.join(format!("kx-{cluster}")))
    }

    fn lock(&self) -> Result<Flock<File>, NetworkError> {
        if let Some(folder) = self.lock.parent() {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(folder)
                .at(|| format!("create {}", folder.display()))?;
        }
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&self.lock)
            .at(|| format!("open {}", self.lock.display()))?;
        Flock::lock(file, FlockArg::LockExclusive)
            .map_err(|(_, errno)| errno)
            .at(|| format!("lock {}", self.lock.display()))
    }
}

/// Makes the bridge, or finishes making it: another executor may have died in between. Returns its number.
async fn set_up_bridge(bridge: &Links, place: &BridgeSpec) -> Result<u32, NetworkError> {
    let step = |what: &str| format!("{what} {BRIDGE} of cluster {}", place.cluster);
    if index_of(BRIDGE)?.is_none() {
        // Without an address of its own a bridge takes that of a port, and changes it as ports come and go.
        let message = LinkBridge::new(BRIDGE).address(hardware_address(place.gateway)).build();
        bridge.add(message).await.at(|| step("create bridge"))?;
    }
    let index = existing(BRIDGE)?;
    bridge.change(up(index)).await.at(|| step("set up bridge"))?;
    ignore(bridge.add_address(index, place.gateway, place.prefix).await, Errno::EEXIST)
        .at(|| step(&format!("add address {}/{} to bridge", place.gateway, place.prefix)))?;
    bridge.change(up(existing("lo")?)).await.at(|| step("set up lo beside bridge"))?;
    Ok(index)
}

/// Makes the veth pair, its other end in the pod's namespace already.
async fn add_port(
    bridge: &Links,
    bridge_index: u32,
    place: &BridgeSpec,
    pod: &OwnedFd,
    label: &str,
) -> Result<Joined, NetworkError> {
    let link = port_name(label);
    if let Some(old) = index_of(&link)? {
        delete(bridge, &link, old).await?;
    }
    let peer = LinkUnspec::new_with_name(POD_LINK)
        .address(hardware_address(place.address))
        .setns_by_fd(pod.as_raw_fd())
        .build();
    let message = LinkMessageBuilder::<LinkVeth>::new(&link, POD_LINK)
        .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
        .controller(bridge_index)
        .up()
        .build();
    bridge.add(message).await.at(|| {
        format!("create link {link} on {BRIDGE} of cluster {} with {POD_LINK} in pod {label}", place.cluster)
    })?;
    let index = existing(&link)?;
    // Only for whoever looks with `ip link`.
    let alias: String = label.chars().take(60).collect();
    if let Err(error) = bridge.change(LinkUnspec::new_with_index(index).alias(alias).build()).await {
        tracing::debug!(link, %error, "the link has no alias");
    }
    Ok(Joined { cluster: place.cluster.clone(), link, index })
}

async fn set_up_pod(pod: &OwnedFd, place: &BridgeSpec) -> Result<(), NetworkError> {
    let (address, prefix) = (place.address, place.prefix);
    let step = |what: String| format!("{what} in the network namespace of {address}");
    namespace::enter(pod, &format!("of {address}"))?;
    let links = open_links(&format!("of {address}"))?;
    links.change(up(existing("lo")?)).await.at(|| step("set up lo".to_owned()))?;
    let index = existing(POD_LINK)?;
    links
        .add_address(index, address, prefix)
        .await
        .at(|| step(format!("add address {address}/{prefix} to {POD_LINK}")))?;
    links.change(up(index)).await.at(|| step(format!("set up {POD_LINK}")))?;
    let everything = match address {
        IpAddr::V4(_) => IpAddr::from([0_u8; 4]),
        IpAddr::V6(_) => IpAddr::from([0_u8; 16]),
    };
    for (network, prefix, hop) in [(everything, 0, place.gateway)].iter().chain(&place.routes) {
        links
            .put_route(index, *network, *prefix, *hop)
            .await
            .at(|| step(format!("add route {network}/{prefix} via {hop} dev {POD_LINK}")))?;
    }
    let forward = match address {
        IpAddr::V4(_) => "/proc/sys/net/ipv4/ip_forward",
        IpAddr::V6(_) => "/proc/sys/net/ipv6/conf/all/forwarding",
    };
    fs::write(forward, "1").at(|| step(format!("write 1 to {forward}")))
}

async fn delete(links: &Links, link: &str, index: u32) -> Result<(), NetworkError> {
    // The kernel takes a dead pod's link away whenever it gets to it.
    ignore(links.delete(index).await, Errno::ENODEV).at(|| format!("delete link {link}"))
}

fn up(index: u32) -> LinkMessage {
    LinkUnspec::new_with_index(index).up().build()
}

fn open_links(name: &str) -> Result<Links, NetworkError> {
    Links::open().at(|| format!("open a netlink socket in the network namespace {name}"))
}

fn index_of(link: &str) -> Result<Option<u32>, NetworkError> {
    links::index_of(link).at(|| format!("look up link {link}"))
}

fn existing(link: &str) -> Result<u32, NetworkError> {
    index_of(link)?.ok_or_else(|| NetworkError::Step {
        step: format!("look up link {link}"),
        source: Errno::ENODEV.into(),
    })
}

/// The name of the bridge's port to a pod instance: 15 characters, the most that a link's name has.
fn port_name(label: &str) -> String {
    format!("{PORT_PREFIX}{}", hex(&Sha256::digest(label.as_bytes())[..6]))
}

/// The hardware address of whoever has this address: a relaunched pod instance keeps it, so that no neighbour sends to
/// that of its predecessor until a cache expires.
fn hardware_address(address: IpAddr) -> Vec<u8> {
    // Bit 1 of the first byte: chosen by an administrator, not by a manufacturer.
    let mut bytes = vec![0x02, b'k'];
    match address {
        IpAddr::V4(address) => bytes.extend(address.octets()),
        IpAddr::V6(address) => bytes.extend(Sha256::digest(address.octets()).iter().take(4)),
    }
    bytes
}

async fn on_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, NetworkError> + Send + 'static,
) -> Result<T, NetworkError> {
    let (reply, result) = oneshot::channel();
    std::thread::Builder::new()
        .name("network".to_owned())
        .spawn(move || {
            let _ = reply.send(work());
        })
        .at(|| "start the network thread".to_owned())?;
    result.await.map_err(|_| NetworkError::Thread)?
}

fn runtime() -> Result<tokio::runtime::Runtime, NetworkError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .at(|| "start a runtime for netlink".to_owned())
}

fn ignore(result: io::Result<()>, errno: Errno) -> io::Result<()> {
    match result {
        Err(error) if error.raw_os_error() == Some(errno as i32) => Ok(()),
        result => result,
    }
}
