//! Real network namespaces, their names in a folder of the test.

mod rig;

use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::pod::sockets::PodSockets;
use rig::{PATIENCE, Rig, byte_between, copy, inside, listen, new_namespace, place, println_skipped};

#[tokio::test]
async fn two_pods_reach_each_other_and_nothing_is_left_when_they_have_left() {
    let rig = Rig::new();
    let own = fs::read_link("/proc/thread-self/ns/net").expect("a thread has one");
    let forward = || fs::read_to_string("/proc/sys/net/ipv4/ip_forward").expect("readable");
    let own_forward = forward();
    let (a, b) = (new_namespace(), new_namespace());
    let joined_a = rig.networks.join(&place("c", 10), copy(&a), "c/a").await.expect("a joins");
    let joined_b = rig.networks.join(&place("c", 11), copy(&b), "c/b").await.expect("b joins");
    let sockets_a = PodSockets::namespace(copy(&a)).expect("a can be entered");
    let sockets_b = PodSockets::namespace(copy(&b)).expect("b can be entered");
    let seen = byte_between(&sockets_a, &sockets_b, place("c", 11).address).await;
    assert_eq!(seen, place("c", 10).address);

    let cluster =
        namespace::open(&rig.networks.names.join("kx-c")).expect("it is there").expect("a namespace");
    let gateway = PodSockets::namespace(cluster).expect("it can be entered");
    byte_between(&sockets_a, &gateway, place("c", 10).gateway).await;
    drop(gateway);

    assert_eq!((inside(&a, forward), forward()), ("1\n".to_owned(), own_forward));
    assert_eq!(fs::read_link("/proc/thread-self/ns/net").expect("a thread has one"), own);

    assert_eq!(rig.networks.remove_cluster("c").await.expect("it can be looked at"), Removal::InUse(2));
    rig.networks.leave(&joined_a).await.expect("a leaves");
    assert!(inside(&a, || links::index_of(POD_LINK).expect("looked up")).is_none());
    assert_eq!(rig.networks.remove_cluster("c").await.expect("it can be looked at"), Removal::InUse(1));
    rig.networks.leave(&joined_b).await.expect("b leaves");
    rig.networks.leave(&joined_b).await.expect("leaving twice is no error");
    assert_eq!(rig.networks.remove_cluster("c").await.expect("nobody is on it"), Removal::Removed);
    assert_eq!(rig.networks.remove_cluster("c").await.expect("it is gone"), Removal::Absent);
    rig.networks.leave(&joined_b).await.expect("leaving a cluster that is gone is no error");
    assert_eq!(rig.names(), Vec::<String>::new());
}

#[tokio::test]
async fn the_host_and_a_pod_have_loopbacks_of_their_own() {
    let rig = Rig::new();
    let pod = new_namespace();
    rig.networks.join(&place("c", 10), copy(&pod), "c/a").await.expect("it joins");
    let sockets = PodSockets::namespace(copy(&pod)).expect("it can be entered");
    let local = IpAddr::from(Ipv4Addr::LOCALHOST);
    let listener = listen(&sockets, local).await;
    let target = listener.local_addr().expect("it is bound");
    sockets.tcp(local).await.expect("a socket").connect(target).await.expect("the pod's loopback is up");
    let error = PodSockets::host().tcp(local).await.expect("a socket").connect(target).await;
    assert_eq!(error.expect_err("nobody listens on the host").kind(), ErrorKind::ConnectionRefused);
    // A namespace that joined nothing stands for the host here: no packet may leave the machine.
    let outside = PodSockets::namespace(new_namespace()).expect("it can be entered");
    let address = place("c", 10).address;
    let listener = listen(&sockets, address).await;
    let target = listener.local_addr().expect("it is bound");
    let error = outside.tcp(address).await.expect("a socket").connect(target).await;
    assert_eq!(error.expect_err("there is no way to it").kind(), ErrorKind::NetworkUnreachable);
}

#[tokio::test]
async fn a_relaunched_pod_replaces_its_predecessor_and_keeps_its_hardware_address() {
    let rig = Rig::new();
    let (old, new, other) = (new_namespace(), new_namespace(), new_namespace());
    let hardware = || fs::read_to_string("/proc/thread-self/net/arp").expect("readable");
    let first = rig.networks.join(&place("c", 10), copy(&old), "c/a").await.expect("it joins");
    rig.networks.join(&place("c", 11), copy(&other), "c/b").await.expect("it joins");
    let sockets_other = PodSockets::namespace(copy(&other)).expect("it can be entered");
    let sockets_old = PodSockets::namespace(copy(&old)).expect("it can be entered");
    byte_between(&sockets_other, &sockets_old, place("c", 10).address).await;
    let before = inside(&other, hardware);
    assert!(before.contains("02:6b:0a:58:00:0a"), "{before}");

    let second = rig.networks.join(&place("c", 10), copy(&new), "c/a").await.expect("it joins again");
    assert_eq!(second.link, first.link);
    assert_ne!(second.index, first.index);
    assert!(inside(&old, || links::index_of(POD_LINK).expect("looked up")).is_none());
    // The neighbour's cache still holds the predecessor's entry: it must be right.
    let sockets_new = PodSockets::namespace(copy(&new)).expect("it can be entered");
    byte_between(&sockets_other, &sockets_new, place("c", 10).address).await;

    rig.networks.leave(&first).await.expect("the predecessor leaves late");
    byte_between(&sockets_other, &sockets_new, place("c", 10).address).await;
    // The same instance once more, its namespace the same.
    rig.networks.join(&place("c", 10), copy(&new), "c/a").await.expect("it joins a third time");
    byte_between(&sockets_other, &sockets_new, place("c", 10).address).await;
}

#[tokio::test]
async fn a_dead_pods_link_goes_by_itself() {
    let rig = Rig::new();
    let pod = new_namespace();
    let joined = rig.networks.join(&place("c", 10), copy(&pod), "c/a").await.expect("it joins");
    drop(pod);
    let removed = async {
        while rig.networks.remove_cluster("c").await.expect("it can be looked at") != Removal::Removed {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, removed).await.expect("the kernel takes the namespace apart");
    rig.networks.leave(&joined).await.expect("there is nothing to leave");
}

#[tokio::test]
async fn pods_that_join_at_once_share_one_bridge() {
    let rig = Rig::new();
    let pods: Vec<OwnedFd> = (0..4).map(|_| new_namespace()).collect();
    let places: Vec<BridgeSpec> = (10..14).map(|last| place("c", last)).collect();
    // Executors are processes: each has opened the lock file itself, as each call here does.
    let (a, b, c, d) = tokio::join!(
        rig.networks.join(&places[0], copy(&pods[0]), "c/0"),
        rig.networks.join(&places[1], copy(&pods[1]), "c/1"),
        rig.networks.join(&places[2], copy(&pods[2]), "c/2"),
        rig.networks.join(&places[3], copy(&pods[3]), "c/3"),
    );
    for joined in [a, b, c, d] {
        joined.expect("each joins");
    }
    assert_eq!(rig.names(), ["kx-c"]);
    assert_eq!(rig.networks.remove_cluster("c").await.expect("it can be looked at"), Removal::InUse(4));
    let first = PodSockets::namespace(copy(&pods[0])).expect("it can be entered");
    for (pod, place) in pods.iter().zip(&places).skip(1) {
        let sockets = PodSockets::namespace(copy(pod)).expect("it can be entered");
        byte_between(&first, &sockets, place.address).await;
    }
}

#[tokio::test]
async fn a_route_leads_to_a_network_behind_another_pod() {
    let rig = Rig::new();
    let (node, api) = (new_namespace(), new_namespace());
    rig.networks.join(&place("c", 10), copy(&node), "c/node").await.expect("it joins");
    let behind = IpAddr::from(Ipv4Addr::new(10, 200, 0, 7));
    let routes = vec![(Ipv4Addr::new(10, 200, 0, 0).into(), 24, place("c", 10).address)];
    rig.networks.join(&BridgeSpec { routes, ..place("c", 11) }, copy(&api), "c/api").await.expect("it joins");
    inside(&node, move || {
        runtime().expect("a runtime").block_on(async {
            let links = Links::open().expect("a netlink socket");
            let lo = links::index_of("lo").expect("looked up").expect("every namespace has one");
            links.add_address(lo, behind, 32).await.expect("an address of a Kubernetes pod");
        });
    });
    let sockets_node = PodSockets::namespace(copy(&node)).expect("it can be entered");
    let sockets_api = PodSockets::namespace(copy(&api)).expect("it can be entered");
    byte_between(&sockets_api, &sockets_node, behind).await;
}

#[tokio::test]
async fn ipv6_addresses_work_at_once() {
    if !Path::new("/proc/net/if_inet6").exists() {
        println_skipped("the kernel has no IPv6");
        return;
    }
    let rig = Rig::new();
    let at = |last: u16| BridgeSpec {
        cluster: "six".to_owned(),
        address: Ipv6Addr::new(0xfd00, 0, 0, 0x88, 0, 0, 0, last).into(),
        prefix: 64,
        gateway: Ipv6Addr::new(0xfd00, 0, 0, 0x88, 0, 0, 0, 1).into(),
        routes: Vec::new(),
    };
    let (a, b) = (new_namespace(), new_namespace());
    rig.networks.join(&at(10), copy(&a), "six/a").await.expect("a joins");
    rig.networks.join(&at(11), copy(&b), "six/b").await.expect("b joins");
    let sockets_a = PodSockets::namespace(copy(&a)).expect("it can be entered");
    let sockets_b = PodSockets::namespace(copy(&b)).expect("it can be entered");
    byte_between(&sockets_a, &sockets_b, at(11).address).await;
}

#[tokio::test]
async fn a_failed_join_leaves_the_pod_off_the_bridge_and_names_its_step() {
    let rig = Rig::new();
    let pod = new_namespace();
    let routes = vec![(Ipv4Addr::new(10, 200, 0, 0).into(), 24, Ipv4Addr::new(192, 0, 2, 1).into())];
    let error = rig
        .networks
        .join(&BridgeSpec { routes, ..place("c", 10) }, copy(&pod), "c/a")
        .await
        .expect_err("nothing leads to the next hop");
    let step = "add route 10.200.0.0/24 via 192.0.2.1 dev eth0 in the network namespace of 10.88.0.10: ";
    assert!(error.to_string().starts_with(step), "{error}");
    assert!(inside(&pod, || links::index_of(POD_LINK).expect("looked up")).is_none());
    assert_eq!(rig.networks.remove_cluster("c").await.expect("nobody is on it"), Removal::Removed);
}

#[tokio::test]
async fn a_name_without_a_namespace_is_made_one() {
    let rig = Rig::new();
    fs::create_dir_all(&rig.networks.names).expect("a folder");
    // What an executor leaves that dies between making the file and the mount.
    File::create(rig.networks.names.join("kx-c")).expect("a file");
    rig.networks.join(&place("c", 10), new_namespace(), "c/a").await.expect("it joins");
    File::create(rig.networks.names.join("kx-d")).expect("a file");
    assert_eq!(rig.networks.remove_cluster("d").await.expect("it can be removed"), Removal::Removed);
}

#[tokio::test]
async fn a_cluster_that_cannot_be_a_file_is_refused() {
    let rig = Rig::new();
    for cluster in ["", "../etc", "a/b", "a b", "ä", &"x".repeat(201)] {
        let error = rig.networks.remove_cluster(cluster).await.expect_err("refused");
        assert!(matches!(error, NetworkError::Cluster(_)), "{error}");
    }
}

#[test]
fn a_record_of_a_connection_survives_json() {
    let joined = Joined { cluster: "c".to_owned(), link: port_name("c/a"), index: 7 };
    let text = serde_json::to_string(&joined).expect("it can be written");
    assert_eq!(serde_json::from_str::<Joined>(&text).expect("it can be read"), joined);
}

proptest! {
    #[test]
    fn a_port_is_named_as_a_link_can_be(label in ".*") {
        let name = port_name(&label);
        prop_assert_eq!(name.len(), 15);
        prop_assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    }

    #[test]
    fn two_addresses_of_a_network_never_share_a_hardware_address(a: u32, b: u32) {
        let of = |bits: u32| hardware_address(Ipv4Addr::from(bits).into());
        prop_assert_eq!(of(a) == of(b), a == b);
        prop_assert_eq!((of(a).len(), of(a)[0] & 3), (6, 2));
    }
}
