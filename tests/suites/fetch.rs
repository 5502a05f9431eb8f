//! Files that a task needs are there before it starts: from the host or a server, by hash, from the cache the next time.

use std::fs;
use std::path::Path;
use std::process::Command;

use kube_executor_tests::pod::{Pod, Task, message, read};
use mesos::common::TaskState;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use TaskState::{Failed, Finished, Killed, Running};

fn sha256(file: &Path) -> String {
    let output = Command::new("sha256sum").arg(file).output().expect("run sha256sum");
    String::from_utf8_lossy(&output.stdout).chars().take(64).collect()
}

/// A server on loopback that answers every request with this body.
async fn serve(body: &'static str) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("listen");
    let address = listener.local_addr().expect("an address");
    let serving = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    (format!("http://{address}"), serving)
}

fn artifact(url: &str, sha256: &str, more: &Value) -> Value {
    let mut artifact = json!({"url": url, "sha256": sha256});
    artifact.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
    json!({"artifacts": [artifact]})
}

#[tokio::test]
async fn uris_and_artifacts_are_in_the_sandbox_before_the_command_starts() {
    let pod = Pod::start().await;
    let folder = pod.shared("source");
    fs::create_dir_all(folder.join("inner")).expect("make a folder");
    fs::write(folder.join("inner/data"), "packed\n").expect("write");
    fs::write(folder.join("tool"), "#!/bin/sh\necho tool of $1\n").expect("write");
    let archive = pod.shared("inner.tar.gz");
    let packed = Command::new("tar").arg("-czf").arg(&archive).arg("-C").arg(&folder).arg("inner").status();
    assert!(packed.expect("run tar").success());
    let (url, serving) = serve("from a server\n").await;
    let uris = json!([{"value": format!("{url}/page.txt")}, {"value": archive.display().to_string()}]);
    let tool = format!("file://{}", folder.join("tool").display());
    let settings = artifact(&tool, &sha256(&folder.join("tool")), &json!({"executable": true}));
    let task = Task::shell("a", "cat page.txt inner/data; ./tool mine").command("uris", uris);
    pod.launch(task.settings(&settings));
    pod.wait("a", Finished).await;
    assert_eq!(pod.stdout("a"), "from a server\npacked\ntool of mine\n");
    serving.abort();
    pod.end().await;
}

#[tokio::test]
async fn an_artifact_is_fetched_once_and_then_comes_from_the_cache() {
    let pod = Pod::start().await;
    let file = pod.shared("wanted");
    fs::write(&file, "cached\n").expect("write");
    let hash = sha256(&file);
    let (url, serving) = serve("cached\n").await;
    let settings = artifact(&format!("{url}/wanted"), &hash, &json!({}));
    pod.launch(Task::shell("first", "cat wanted").settings(&settings));
    pod.wait("first", Finished).await;
    serving.abort();
    let _ = serving.await;
    pod.launch(Task::shell("second", "cat wanted").settings(&settings));
    pod.wait("second", Finished).await;
    assert_eq!(pod.stdout("second"), "cached\n");
    pod.end().await;
}

#[tokio::test]
async fn what_is_not_what_was_wanted_fails_the_task_and_leaves_nothing_of_it() {
    let pod = Pod::start().await;
    let (url, serving) = serve("something else\n").await;
    let settings = artifact(&format!("{url}/wanted"), &"0".repeat(64), &json!({}));
    pod.launch(Task::shell("a", "cat wanted").settings(&settings));
    let status = pod.wait("a", Failed).await;
    assert!(message(&status).contains(&"0".repeat(64)), "{}", message(&status));
    assert!(!pod.sandbox("a").join("wanted").exists());
    assert_eq!(read(&pod.sandbox("a").join("stdout")), "");
    serving.abort();
    pod.end().await;
}

#[tokio::test]
async fn downloads_that_stall_hold_up_neither_other_tasks_nor_kills() {
    let pod = Pod::start().await;
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("listen");
    let url = format!("http://{}/x", listener.local_addr().expect("an address"));
    let (stalled, mut arrived) = tokio::sync::mpsc::unbounded_channel();
    let serving = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nfirst").await;
            let _ = stalled.send(stream);
        }
    });
    let slow: Vec<String> = (0..20).map(|number| format!("slow-{number}")).collect();
    for id in &slow {
        pod.launch(Task::shell(id, "true").command("uris", json!([{"value": url}])));
    }
    let mut held = Vec::new();
    for _ in &slow {
        held.push(arrived.recv().await.expect("a request"));
    }
    pod.launch(Task::shell("later", "sleep 1000 & sleep 1000"));
    pod.wait_processes("later", 3).await;
    pod.wait("later", Running).await;
    pod.agent.kill("later", None);
    pod.wait("later", Killed).await;
    pod.wait_processes("later", 0).await;
    for id in &slow {
        pod.agent.kill(id, None);
        pod.wait(id, Killed).await;
    }
    serving.abort();
    pod.end().await;
}
