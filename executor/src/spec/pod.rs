//! What a pod instance is, checked once.

use std::net::IpAddr;

use mesos::common::ExecutorId;
use task::settings::{Bridge, PodNetwork, PodSettings};

use super::SpecError;
use super::field::{Field, clean, document, read};

/// A pod instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodSpec {
    /// Its name: a single safe part of a path.
    pub name: String,
    /// Its network.
    pub network: Network,
}

/// The network of a pod instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Network {
    /// The host's own.
    Host,
    /// A network namespace of its own on its cluster's bridge.
    Bridge(BridgeSpec),
}

/// A pod instance's place on its cluster's bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BridgeSpec {
    /// The cluster: letters, digits and `-`, at most 32.
    pub cluster: String,
    /// The pod instance's address.
    pub address: IpAddr,
    /// The length of the network's prefix in bits.
    pub prefix: u8,
    /// The bridge's address in the same network, the default route.
    pub gateway: IpAddr,
    /// More routes: a network, the length of its prefix, the next hop (in the pod instance's network).
    pub routes: Vec<(IpAddr, u8, IpAddr)>,
}

/// Checks what `ExecutorInfo.data` says of a pod instance; without it, it is one in the host's network, named after its
/// executor.
///
/// # Errors
/// The first field that is wrong, `data.` in front.
pub fn pod(raw: Option<&[u8]>, executor_id: &ExecutorId) -> Result<PodSpec, SpecError> {
    let data = Field::new("data");
    let settings: PodSettings = match raw {
        None | Some([]) => PodSettings::default(),
        Some(bytes) => {
            let text = std::str::from_utf8(bytes).map_err(|error| {
                data.error(format_args!("{} bytes", bytes.len()), format!("must be JSON in UTF-8: {error}"))
            })?;
            let settings = read(text, &data)?;
            clean(&mut document(text, &data)?, &data)?;
            settings
        }
    };
    let (field, name) = match &settings.name {
        Some(name) => (data.child("name"), name.as_str()),
        None => (Field::new("executor_id"), executor_id.as_str().split("__").next().unwrap_or_default()),
    };
    let network = match &settings.network {
        PodNetwork::Host => Network::Host,
        PodNetwork::Bridge(raw) => Network::Bridge(bridge(raw, &data.child("network.bridge"))?),
    };
    Ok(PodSpec { name: path_part(name, &field)?, network })
}

/// [`pod`], or a pod instance that is never used and why: its tasks are refused with that, which reaches those who sent
/// them; an executor that ends says nothing to anybody.
pub fn pod_or_refusal(raw: Option<&[u8]>, executor_id: &ExecutorId) -> (PodSpec, Option<SpecError>) {
    match pod(raw, executor_id) {
        Ok(pod) => (pod, None),
        Err(error) => {
            let unused = PodSpec { name: executor_id.value.clone(), network: Network::Host };
            (unused, Some(SpecError { field: format!("ExecutorInfo.{}", error.field), ..error }))
        }
    }
}

fn path_part(name: &str, field: &Field) -> Result<String, SpecError> {
    let safe = !matches!(name, "" | "." | "..")
        && name.len() <= 200
        && !name.chars().any(|one| matches!(one, '/' | '\\') || one.is_control() || one.is_whitespace());
    if safe {
        Ok(name.to_owned())
    } else {
        Err(field.error(name, "must be 1 to 200 bytes without slashes and spaces, not `.` or `..`"))
    }
}

fn bridge(raw: &Bridge, field: &Field) -> Result<BridgeSpec, SpecError> {
    let cluster = &raw.cluster;
    let named = (1..=32).contains(&cluster.len())
        && cluster.bytes().all(|one| one.is_ascii_alphanumeric() || one == b'-')
        && !cluster.starts_with('-');
    if !named {
        return Err(field
            .child("cluster")
            .error(cluster, "must be 1 to 32 letters, digits and `-`, not `-` first"));
    }
    let (address, prefix) = network(&raw.address, &field.child("address"), "10.88.0.10/16")?;
    if !usable(address) || prefix == 0 {
        return Err(field.child("address").error(&raw.address, "must be an address that one host can have"));
    }
    let neighbour = |text: &str, field: &Field, example: &str| {
        let ip = ip(text, field, example)?;
        if usable(ip) && ip != address && same_network(ip, address, prefix) {
            Ok(ip)
        } else {
            Err(field.error(text, format!("must be another address of the network of {}", raw.address)))
        }
    };
    let gateway = neighbour(&raw.gateway, &field.child("gateway"), "10.88.0.1")?;
    let routes = raw.routes.iter().map(|(to, via)| {
        let route = field.child("routes").child(to);
        let (to_network, to_prefix) = network(to, &route, "10.100.1.0/24")?;
        if masked(to_network, to_prefix) != bits(to_network) {
            return Err(route.error(to, "must be a network: no bit set behind its prefix"));
        }
        if to_network.is_ipv4() != address.is_ipv4() {
            return Err(route.error(to, "must be of the family of the address"));
        }
        Ok((to_network, to_prefix, neighbour(via, &route, "10.88.0.11")?))
    });
    Ok(BridgeSpec {
        cluster: cluster.clone(),
        address,
        prefix,
        gateway,
        routes: routes.collect::<Result<_, _>>()?,
    })
}

fn ip(text: &str, field: &Field, example: &str) -> Result<IpAddr, SpecError> {
    text.parse().map_err(|_| field.error(text, format!("must be an IP address like {example}")))
}

fn network(text: &str, field: &Field, example: &str) -> Result<(IpAddr, u8), SpecError> {
    let parsed = text.split_once('/').and_then(|(address, prefix)| {
        let address: IpAddr = address.parse().ok()?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let digits = !prefix.is_empty() && prefix.bytes().all(|one| one.is_ascii_digit());
        let prefix: u8 = prefix.parse().ok().filter(|prefix| digits && *prefix <= longest)?;
        Some((address, prefix))
    });
    parsed.ok_or_else(|| {
        field.error(text, format!("must be an IP address and the length of a prefix like {example}"))
    })
}

fn usable(address: IpAddr) -> bool {
    !address.is_unspecified() && !address.is_multicast() && !address.is_loopback()
}

/// The address's bits, IPv4 in the highest.
fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(four) => u128::from(four.to_bits()) << 96,
        IpAddr::V6(six) => six.to_bits(),
    }
}

fn masked(address: IpAddr, prefix: u8) -> u128 {
    let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
    bits(address) & mask
}

fn same_network(one: IpAddr, other: IpAddr, prefix: u8) -> bool {
    one.is_ipv4() == other.is_ipv4() && masked(one, prefix) == masked(other, prefix)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(json: &str) -> Result<PodSpec, SpecError> {
        pod(Some(json.as_bytes()), &ExecutorId::new("etcd-0__4f2"))
    }

    fn bridged(
        cluster: &str,
        address: &str,
        gateway: &str,
        routes: &[(&str, &str)],
    ) -> Result<PodSpec, SpecError> {
        let routes: serde_json::Map<_, _> =
            routes.iter().map(|(to, via)| ((*to).to_owned(), (*via).into())).collect();
        let bridge =
            serde_json::json!({"cluster": cluster, "address": address, "gateway": gateway, "routes": routes});
        parsed(&serde_json::json!({"network": {"bridge": bridge}}).to_string())
    }

    #[test]
    fn without_data_it_is_named_after_its_executor_and_in_the_hosts_network() {
        let spec = pod(None, &ExecutorId::new("etcd-0__4f2__x")).unwrap();
        assert_eq!(spec, PodSpec { name: "etcd-0".to_owned(), network: Network::Host });
        assert_eq!(pod(None, &ExecutorId::new("plain")).unwrap().name, "plain");
    }

    #[test]
    fn a_bridge_is_read_with_its_routes() {
        let spec =
            bridged("k8s-1", "10.88.0.10/16", "10.88.0.1", &[("10.100.1.0/24", "10.88.0.11")]).unwrap();
        let four = |text: &str| text.parse::<IpAddr>().unwrap();
        let expected = BridgeSpec {
            cluster: "k8s-1".to_owned(),
            address: four("10.88.0.10"),
            prefix: 16,
            gateway: four("10.88.0.1"),
            routes: vec![(four("10.100.1.0"), 24, four("10.88.0.11"))],
        };
        assert_eq!(spec.network, Network::Bridge(expected));
        assert!(bridged("six", "fd00::10/64", "fd00::1", &[("fd00:1::/64", "fd00::2")]).is_ok());
    }

    #[test]
    fn each_wrong_field_is_named() {
        let good = ("k", "10.88.0.10/16", "10.88.0.1");
        let bridge = |name: &str| format!("data.network.bridge.{name}");
        let cases = [
            (parsed("nonsense"), "data".to_owned()),
            (parsed(r#"{"nam": "x"}"#), "data.nam".to_owned()),
            (parsed(r#"{"name": ""}"#), "data.name".to_owned()),
            (parsed(r#"{"name": ".."}"#), "data.name".to_owned()),
            (parsed(r#"{"name": "a/b"}"#), "data.name".to_owned()),
            (parsed("{\"name\": \"a\\u0000b\"}"), "data.name".to_owned()),
            (parsed(r#"{"network": "hst"}"#), "data.network".to_owned()),
            (parsed(r#"{"network": {"bridge": {"cluster": "a"}}}"#), bridge("address")),
            (pod(Some(b"\xff"), &ExecutorId::new("x")), "data".to_owned()),
            (pod(None, &ExecutorId::new("__x")), "executor_id".to_owned()),
            (bridged("", good.1, good.2, &[]), bridge("cluster")),
            (bridged("a_b", good.1, good.2, &[]), bridge("cluster")),
            (bridged(&"a".repeat(33), good.1, good.2, &[]), bridge("cluster")),
            (bridged("k", "10.88.0.10", good.2, &[]), bridge("address")),
            (bridged("k", "10.88.0.10/33", good.2, &[]), bridge("address")),
            (bridged("k", "10.88.0.10/+8", good.2, &[]), bridge("address")),
            (bridged("k", "0.0.0.0/8", good.2, &[]), bridge("address")),
            (bridged("k", "host/8", good.2, &[]), bridge("address")),
            (bridged("k", good.1, "10.89.0.1", &[]), bridge("gateway")),
            (bridged("k", good.1, "10.88.0.10", &[]), bridge("gateway")),
            (bridged("k", good.1, "fd00::1", &[]), bridge("gateway")),
            (bridged("k", good.1, "", &[]), bridge("gateway")),
            (bridged("k", good.1, good.2, &[("10.0.0.0", "10.88.0.2")]), bridge("routes.10.0.0.0")),
            (bridged("k", good.1, good.2, &[("10.0.0.1/8", "10.88.0.2")]), bridge("routes.10.0.0.1/8")),
            (bridged("k", good.1, good.2, &[("10.0.0.0/8", "10.99.0.2")]), bridge("routes.10.0.0.0/8")),
            (bridged("k", good.1, good.2, &[("fd00::/8", "10.88.0.2")]), bridge("routes.fd00::/8")),
        ];
        for (result, field) in cases {
            assert_eq!(
                result.as_ref().map_err(|error| error.field.as_str()),
                Err(field.as_str()),
                "{result:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), id in ".{0,20}") {
            let _ = pod(Some(&bytes), &ExecutorId::new(id));
        }

        #[test]
        fn no_bridge_makes_it_panic(cluster in ".{0,40}", address in "[0-9a-f.:/]{0,20}", gateway in "[0-9a-f.:/]{0,20}") {
            let _ = bridged(&cluster, &address, &gateway, &[(&address, &gateway)]);
        }
    }
}
