mod kubectl;
mod rig;

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::{Method, Response};
use serde_json::{Value, json};
use task::control::Stream;

use super::fixtures::{START, pod, task};
use rig::Rig;

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
const LOG: &str = "/api/v1/namespaces/kube/pods/etcd-0/log";

async fn rig() -> Rig {
    Rig::new(pod("etcd-0", vec![task("etcd-0-peer"), task("etcd-0-client")])).await
}

/// The lines of a watch as they come.
struct Lines(Incoming, Vec<u8>);

impl Lines {
    fn of(response: Response<Incoming>) -> Self {
        assert_eq!(response.status(), 200);
        Self(response.into_body(), Vec::new())
    }

    /// `None` at the end.
    async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(newline) = memchr::memchr(b'\n', &self.1) {
                let line = self.1.drain(..=newline).collect();
                return Some(String::from_utf8(line).unwrap());
            }
            let frame = self.0.frame().await?.unwrap();
            self.1.extend_from_slice(&frame.into_data().unwrap());
        }
    }

    async fn event(&mut self) -> Option<(String, Value)> {
        let value: Value = serde_json::from_str(&self.next().await?).unwrap();
        Some((value["type"].as_str().unwrap().to_owned(), value["object"].clone()))
    }
}

#[tokio::test]
async fn pods_are_listed_of_all_namespaces_or_one_and_by_selectors() {
    let rig = rig().await;
    let names = |list: &Value| -> Vec<String> {
        list["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item["metadata"]["name"].as_str().unwrap().into())
            .collect()
    };
    for (path, expected) in [
        ("/api/v1/pods", 1),
        ("/api/v1/namespaces/kube/pods", 1),
        ("/api/v1/namespaces/other/pods", 0),
        ("/api/v1/pods?labelSelector=framework%3Dkube", 1),
        ("/api/v1/pods?labelSelector=framework%21%3Dkube", 0),
        ("/api/v1/pods?fieldSelector=metadata.name%3Detcd-0", 1),
        ("/api/v1/pods?fieldSelector=status.phase%3DFailed", 0),
    ] {
        let (status, list) = rig.json(path).await;
        assert_eq!(
            (status, names(&list).len(), &list["metadata"]["resourceVersion"]),
            (200, expected, &json!("10")),
            "{path}"
        );
    }
    assert_eq!(rig.json("/api/v1/pods?fieldSelector=spec.x%3D1").await.0, 400);
    assert_eq!(rig.json("/api/v1/namespaces").await.1["items"][0]["metadata"]["name"], "kube");
    let table: Value = serde_json::from_str(&rig.get("/api/v1/pods", TABLE).await.1).unwrap();
    assert_eq!((&table["kind"], &table["rows"][0]["cells"][1]), (&json!("Table"), &json!("2/2")));
}

#[tokio::test]
async fn what_is_not_there_is_404_and_what_would_write_405_as_status_objects() {
    let rig = rig().await;
    let (status, value) = rig.json("/api/v1/namespaces/kube/pods/none").await;
    assert_eq!(
        (status, &value["kind"], &value["message"]),
        (404, &json!("Status"), &json!("pods \"none\" not found"))
    );
    assert_eq!(rig.json("/openapi/v3").await.0, 404);
    assert_eq!(rig.json("/apis/metrics.k8s.io/v1beta1/nodes").await.0, 404);
    assert_eq!(rig.json("/api/v1/pods?watch=%zz").await.0, 400);
    let response = rig.request(Method::DELETE, "/api/v1/namespaces/kube/pods/etcd-0", "").await;
    assert_eq!(response.status(), 405);
}

#[tokio::test]
async fn a_watch_tells_what_is_there_then_what_changes_and_ends_cleanly() {
    let rig = rig().await;
    let watch =
        rig.request(Method::GET, "/api/v1/pods?watch=true&timeoutSeconds=2", "application/json").await;
    let mut watch = Lines::of(watch);
    let (kind, object) = watch.event().await.unwrap();
    assert_eq!((kind.as_str(), &object["metadata"]["name"]), ("ADDED", &json!("etcd-0")));
    let mut changed = pod("etcd-0", vec![task("etcd-0-peer")]);
    changed.tasks[0].ready = Some(false);
    rig.publish(11, vec![changed.clone()]);
    let (kind, object) = watch.event().await.unwrap();
    assert_eq!((kind.as_str(), &object["metadata"]["resourceVersion"]), ("MODIFIED", &json!("11")));
    rig.publish(12, vec![]);
    let (kind, object) = watch.event().await.unwrap();
    assert_eq!((kind.as_str(), &object["metadata"]["resourceVersion"]), ("DELETED", &json!("12")));
    rig.publish(13, vec![changed]);
    assert_eq!(watch.event().await.unwrap().0, "ADDED");
    assert!(watch.event().await.is_none());
}

#[tokio::test]
async fn a_watch_goes_on_from_a_list_and_an_unknown_revision_is_gone() {
    let rig = rig().await;
    assert_eq!(rig.json("/api/v1/pods").await.0, 200);
    rig.publish(14, vec![pod("etcd-1", vec![task("etcd-1-peer")])]);
    let path = "/api/v1/watch/namespaces/kube/pods?resourceVersion=10";
    let mut watch = Lines::of(rig.request(Method::GET, path, TABLE).await);
    let (kind, first) = watch.event().await.unwrap();
    assert_eq!((kind.as_str(), &first["rows"][0]["cells"][0]), ("DELETED", &json!("etcd-0")));
    let (kind, second) = watch.event().await.unwrap();
    assert_eq!((kind.as_str(), &second["rows"][0]["cells"][0]), ("ADDED", &json!("etcd-1")));
    let columns = |table: &Value| table["columnDefinitions"].as_array().unwrap().len();
    assert_eq!((columns(&first), columns(&second)), (9, 0));
    for revision in [3, 99] {
        let path = format!("/api/v1/pods?watch=true&resourceVersion={revision}");
        let mut watch = Lines::of(rig.request(Method::GET, &path, "application/json").await);
        let (kind, object) = watch.event().await.unwrap();
        assert_eq!((kind.as_str(), &object["code"]), ("ERROR", &json!(410)));
        assert!(watch.event().await.is_none());
    }
}

#[tokio::test]
async fn a_streaming_list_marks_the_end_of_what_was_there() {
    let rig = rig().await;
    let path = "/api/v1/pods?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut watch = Lines::of(rig.request(Method::GET, path, "application/json").await);
    assert_eq!(watch.event().await.unwrap().0, "ADDED");
    let (kind, object) = watch.event().await.unwrap();
    assert_eq!(
        (kind.as_str(), &object["metadata"]["annotations"]["k8s.io/initial-events-end"]),
        ("BOOKMARK", &json!("true"))
    );
}

#[tokio::test]
async fn a_log_is_both_streams_of_one_container_which_must_be_named_if_there_are_two() {
    let rig = rig().await;
    rig.executor.log(rig.folder.path(), Stream::Stderr, &[(START + 2, 1, "two\n")]);
    rig.executor.log(
        rig.folder.path(),
        Stream::Stdout,
        &[(START + 1, 1, "one\n"), (START + 3, 2, "three\n")],
    );
    let (status, body) = rig.json(LOG).await;
    assert_eq!(status, 400);
    assert!(body["message"].as_str().unwrap().ends_with("choose one of: [peer client]"), "{body}");
    assert_eq!(rig.json(&format!("{LOG}?container=none")).await.0, 400);
    let get = async |query: &str| rig.get(&format!("{LOG}?container=peer&{query}"), "").await;
    assert_eq!(get("").await, (200, "one\ntwo\nthree\n".into()));
    assert_eq!(get("tailLines=1").await.1, "three\n");
    assert_eq!(get("stream=stderr").await.1, "two\n");
    assert_eq!(get("previous=true").await.1, "one\ntwo\n");
    assert_eq!(get("timestamps=true&limitBytes=34").await.1, "2023-11-14T22:13:20.001000000Z one");
    let since = get("sinceTime=2023-11-14T22:13:20.002Z").await.1;
    assert_eq!(since, "two\nthree\n");
    assert_eq!(get("tailLines=x").await.0, 400);
}

#[tokio::test]
async fn without_a_process_before_there_is_no_previous_log() {
    let rig = rig().await;
    let (status, body) = rig.json(&format!("{LOG}?container=peer&previous=true")).await;
    let message = "previous terminated container \"peer\" in pod \"etcd-0\" not found";
    assert_eq!((status, &body["message"]), (400, &json!(message)));
}

#[tokio::test]
async fn a_followed_log_goes_on_over_rotations_until_the_task_has_ended() {
    let rig = rig().await;
    rig.executor.log(rig.folder.path(), Stream::Stdout, &[(START, 1, "one\n")]);
    let response = rig.request(Method::GET, &format!("{LOG}?container=etcd-0-peer&follow=true"), "").await;
    let mut lines = Lines::of(response);
    assert_eq!(lines.next().await.unwrap(), "one\n");
    rig.executor.append(Stream::Stdout, &[(START + 1, 1, "tw"), (START + 2, 1, "o\n")]);
    assert_eq!(lines.next().await.unwrap(), "two\n");
    while rig.executor.followers() == 0 {
        tokio::task::yield_now().await;
    }
    rig.executor.log(rig.folder.path(), Stream::Stdout, &[(START + 3, 1, "three\n")]);
    rig.executor.tell_rotated(Stream::Stdout);
    assert_eq!(lines.next().await.unwrap(), "three\n");
    rig.executor.append(Stream::Stdout, &[(START + 4, 1, "no newline\nlast\n")]);
    rig.executor.tell_ended();
    assert_eq!(lines.next().await.unwrap(), "no newline\n");
    assert_eq!(lines.next().await.unwrap(), "last\n");
    assert!(lines.next().await.is_none());
}

#[tokio::test]
async fn a_follower_that_goes_away_leaves_nothing_at_the_executor() {
    let rig = rig().await;
    rig.executor.log(rig.folder.path(), Stream::Stdout, &[(START, 1, "one\n")]);
    let response = rig.request(Method::GET, &format!("{LOG}?container=peer&follow=true"), "").await;
    let mut lines = Lines::of(response);
    assert_eq!(lines.next().await.unwrap(), "one\n");
    while rig.executor.followers() == 0 {
        tokio::task::yield_now().await;
    }
    drop(lines);
    while rig.executor.followers() > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn watches_end_cleanly_and_followed_logs_are_cut_when_the_endpoint_stops() {
    let rig = rig().await;
    rig.executor.log(rig.folder.path(), Stream::Stdout, &[(START, 1, "one\n")]);
    let watch = rig.request(Method::GET, "/api/v1/pods?watch=true", "application/json").await;
    let mut watch = Lines::of(watch);
    assert_eq!(watch.event().await.unwrap().0, "ADDED");
    let log = rig.request(Method::GET, &format!("{LOG}?container=peer&follow=true"), "").await;
    let mut log = log.into_body();
    assert_eq!(log.frame().await.unwrap().unwrap().into_data().unwrap(), "one\n");
    rig.drain.send_replace(true);
    assert!(watch.event().await.is_none());
    assert!(log.frame().await.unwrap().is_err(), "nobody takes a part for the whole");
}

#[tokio::test]
async fn metrics_are_what_tasks_use_over_the_window_given() {
    let rig = rig().await;
    let (status, list) = rig.json("/apis/metrics.k8s.io/v1beta1/pods").await;
    assert_eq!((status, &list["kind"]), (200, &json!("PodMetricsList")));
    let pod = &list["items"][0];
    let number = |value: &Value, unit: &str| {
        value.as_str().unwrap().strip_suffix(unit).unwrap().parse::<f64>().unwrap()
    };
    let window = number(&pod["window"], "s");
    assert!((0.5..5.0).contains(&window), "{window}");
    let container = &pod["containers"][0];
    assert_eq!((&container["name"], &container["usage"]["memory"]), (&json!("peer"), &json!("10240Ki")));
    // A quarter of a second of processor time between two samples.
    let cores = number(&container["usage"]["cpu"], "n") / 1e9;
    assert!((cores * window - 0.25).abs() < 0.01, "{cores} over {window}");
    assert_eq!(rig.json("/apis/metrics.k8s.io/v1beta1/namespaces/kube/pods/etcd-0").await.0, 200);
    assert_eq!(rig.json("/apis/metrics.k8s.io/v1beta1/namespaces/kube/pods/none").await.0, 404);
}
