//! A pod on its cluster's bridge: an address and a loopback of its own, checked and reported.

use kube_executor_tests::describe::built_executor;
use kube_executor_tests::fake_agent::Options;
use kube_executor_tests::pod::{Pod, Signal, Task, send};
use mesos::common::TaskState;
use serde_json::json;

use TaskState::{Failed, Finished, Running};

/// A cluster of this test alone.
fn cluster(name: &str) -> String {
    format!("{name}{}", std::process::id())
}

async fn on_bridge(cluster: &str, last: u8) -> Pod {
    let bridge = json!({"cluster": cluster, "address": format!("10.88.7.{last}/24"), "gateway": "10.88.7.1"});
    let settings = json!({"name": format!("pod-{last}"), "network": {"bridge": bridge}});
    let options = Options { executor_data: Some(settings.to_string().into_bytes()), ..Options::default() };
    Pod::with(options, &[]).await
}

/// A web server on all of the pod's addresses, ready when an HTTP check of `host` passes.
fn server(host: &str) -> Task {
    named_server("server", host)
}

fn named_server(id: &str, host: &str) -> Task {
    let check = json!({"role": "readiness", "interval_seconds": 0.05, "http": {"host": host, "port": 8080}});
    Task::argv(id, &["python3", "-m", "http.server", "8080"]).settings(&json!({"checks": [check]}))
}

#[tokio::test]
async fn a_pod_has_its_address_and_its_checks_reach_it_there() {
    let cluster = cluster("own");
    let pod = on_bridge(&cluster, 10).await;
    pod.marks().add_cluster(&cluster);
    pod.launch(server("10.88.7.10"));
    let status = pod.wait_ready("server", true).await;
    let container = status.container_status.expect("a container status");
    let address = container.network_infos[0].ip_addresses[0].ip_address.as_deref();
    assert_eq!(address, Some("10.88.7.10"));
    pod.launch(Task::shell("look", "echo $MESOS_CONTAINER_IP; ls /sys/class/net; cat /proc/net/route"));
    pod.wait("look", Finished).await;
    assert!(pod.stdout("look").starts_with("10.88.7.10\n"), "{}", pod.stdout("look"));
    let gateway = "eth0\t00000000\t0107580A";
    assert!(pod.stdout("look").contains(gateway), "a default route by the bridge: {}", pod.stdout("look"));
    pod.end().await;
}

#[tokio::test]
async fn pods_of_a_cluster_reach_each_other_and_the_host_s_loopback_is_not_theirs() {
    let cluster = cluster("two");
    let one = on_bridge(&cluster, 10).await;
    let other = on_bridge(&cluster, 11).await;
    // The last to end takes the bridge with it.
    other.marks().add_cluster(&cluster);
    one.launch(server("127.0.0.1"));
    one.wait_ready("server", true).await;
    let connect = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 5)";
    other.launch(Task::argv("reach", &["python3", "-c", connect, "10.88.7.10", "8080"]));
    other.wait("reach", Finished).await;
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("listen on the host");
    let port = listener.local_addr().expect("a port").port().to_string();
    let refused = "import socket, sys\ntry:\n  socket.create_connection((sys.argv[1], int(sys.argv[2])), 5)\nexcept ConnectionRefusedError:\n  sys.exit(0)\nsys.exit(1)";
    other.launch(Task::argv("host", &["python3", "-c", refused, "127.0.0.1", &port]));
    other.wait("host", Finished).await;
    one.end().await;
    other.launch(Task::idle("still"));
    other.wait("still", Running).await;
    other.end().await;
}

#[tokio::test]
async fn a_pod_whose_init_is_killed_has_its_address_again_with_the_next_task() {
    let cluster = cluster("again");
    let pod = on_bridge(&cluster, 10).await;
    pod.marks().add_cluster(&cluster);
    pod.launch(server("10.88.7.10"));
    pod.wait_ready("server", true).await;
    send(pod.init(), Signal::KILL);
    pod.wait("server", Failed).await;
    pod.launch(named_server("second", "10.88.7.10"));
    pod.wait_ready("second", true).await;
    pod.end().await;
}

#[tokio::test]
async fn the_place_of_a_killed_executor_is_removed_by_the_next_sweep() {
    let cluster = cluster("dead");
    let mut pod = on_bridge(&cluster, 10).await;
    pod.marks().add_cluster(&cluster);
    pod.launch(server("10.88.7.10"));
    pod.wait_ready("server", true).await;
    let namespace = std::path::Path::new("/run/netns").join(format!("kx-{cluster}"));
    assert!(namespace.exists());
    pod.signal(Signal::KILL);
    pod.exited().await;
    let sweep = std::process::Command::new(built_executor().expect("a built executor"))
        .arg("--sweep")
        .arg("--state")
        .arg(pod.state_folder())
        .status();
    assert!(sweep.expect("run the sweep").success());
    assert!(!namespace.exists(), "the bridge and the link of the last pod go with it");
    pod.left_nothing().await;
}
