use std::fs;
use std::path::Path;

use mesos::common::{Open, TaskId, TaskState};
use task::connection;
use tempfile::TempDir;
use tokio::net::UnixListener;

use super::*;

const SOON: Duration = Duration::from_secs(20);

fn pod(container: &str, tasks: Vec<Task>) -> Pod {
    Pod {
        name: "etcd-0".to_owned(),
        framework_id: "f1".to_owned(),
        framework: "etcd".to_owned(),
        agent_id: "a".to_owned(),
        hostname: "localhost".to_owned(),
        executor_id: "e".to_owned(),
        container_id: container.to_owned(),
        address: [127, 0, 0, 1].into(),
        own_network: false,
        started_at: 1,
        sandbox: "/".to_owned(),
        tasks,
    }
}

fn a_task(id: &str, restarts: u32) -> Task {
    Task {
        id: TaskId::new(id),
        name: format!("etcd-0-{id}"),
        state: Open::Known(TaskState::Running),
        since: 1,
        launched_at: 1,
        started_at: Some(1),
        last_end: None,
        healthy: None,
        ready: None,
        restarts,
        reason: None,
        message: None,
        pid: Some(1),
        user: None,
        command: vec!["etcd".to_owned()],
        terminal: false,
        resources: Vec::new(),
        sandbox: "/".to_owned(),
        usage: None,
    }
}

/// An executor that tells a pod and then what the test says.
struct Fake {
    socket: PathBuf,
    says: mpsc::Sender<Answer>,
    serving: tokio::task::JoinHandle<()>,
}

impl Fake {
    fn start(folder: &Path, pod: Pod) -> Self {
        let socket = folder.join("f1").join(task::control::socket_name("a", &pod.container_id));
        fs::create_dir_all(socket.parent().unwrap()).unwrap();
        let listener = UnixListener::bind(&socket).unwrap();
        let (says, mut said) = mpsc::channel(8);
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (mut sender, mut receiver) = connection::split(stream);
                let (request, _) = receiver.receive::<Request>().await.unwrap().unwrap();
                assert_eq!(request, Request::Watch { url: Some("https://h:1".to_owned()) });
                let _ = sender.send(&Answer::Pod(Box::new(pod.clone())), &[]).await;
                while let Some(answer) = said.recv().await {
                    // Stands for an executor that closes the connection.
                    if answer == Answer::Done {
                        break;
                    }
                    sender.send(&answer, &[]).await.unwrap();
                }
            }
        });
        Self { socket, says, serving }
    }

    async fn stop(self) {
        self.serving.abort();
        let _ = self.serving.await;
        fs::remove_file(&self.socket).unwrap();
    }
}

fn watch_folder(folder: &Path) -> Published {
    let folder = ControlFolder { path: folder.to_owned(), framework: None };
    start(folder, "https://h:1".to_owned()).unwrap()
}

async fn wait(published: &mut Published, what: impl FnMut(&Arc<Inventory>) -> bool) -> Arc<Inventory> {
    let waiting = published.inventory.wait_for(what);
    tokio::time::timeout(SOON, waiting).await.expect("it comes").unwrap().clone()
}

fn restarts(inventory: &Inventory) -> Vec<(String, u32)> {
    inventory.tasks().map(|found| (found.task.name.clone(), found.task.restarts)).collect()
}

#[tokio::test]
async fn a_pod_is_there_when_its_executor_has_told_and_follows_what_it_tells() {
    let folder = TempDir::new().unwrap();
    let mut published = watch_folder(folder.path());
    let before = published.inventory.borrow().revision;
    let fake = Fake::start(folder.path(), pod("c1", vec![a_task("peer", 0)]));
    let first = wait(&mut published, |inventory| !inventory.pods.is_empty()).await;
    let view = &first.pods[&("f1".to_owned(), "c1".to_owned())];
    assert_eq!((view.socket.clone(), view.revision), (fake.socket.clone(), first.revision));
    assert!(first.revision > before);

    fake.says.send(Answer::Changed(Box::new(a_task("peer", 1)))).await.unwrap();
    fake.says.send(Answer::Changed(Box::new(a_task("backup", 0)))).await.unwrap();
    let named = |name: &str, restarts| (format!("etcd-0-{name}"), restarts);
    let both = [named("peer", 1), named("backup", 0)];
    let second = wait(&mut published, |inventory| restarts(inventory) == both).await;
    assert!(second.revision > first.revision);

    fake.says.send(Answer::Gone(TaskId::new("peer"))).await.unwrap();
    wait(&mut published, |inventory| restarts(inventory) == [named("backup", 0)]).await;
    assert_eq!(restarts(&first), [named("peer", 0)], "what was published stays as it was");
    fake.stop().await;
    wait(&mut published, |inventory| inventory.pods.is_empty()).await;
}

#[tokio::test]
async fn an_executor_that_closes_is_asked_again() {
    let folder = TempDir::new().unwrap();
    let fake = Fake::start(folder.path(), pod("c1", Vec::new()));
    let mut published = watch_folder(folder.path());
    wait(&mut published, |inventory| inventory.pods.len() == 1).await;
    published.inventory.mark_unchanged();
    let revision = published.inventory.borrow().revision;
    fake.says.send(Answer::Done).await.unwrap();
    wait(&mut published, |inventory| inventory.pods.len() == 1 && inventory.revision > revision).await;
    fake.stop().await;
}

#[tokio::test]
async fn a_socket_that_nobody_serves_is_no_pod_until_somebody_does() {
    let folder = TempDir::new().unwrap();
    let fake = Fake::start(folder.path(), pod("c1", Vec::new()));
    fake.serving.abort();
    let _ = fake.serving.await;
    let mut published = watch_folder(folder.path());
    tokio::time::timeout(SOON, published.folder.wait_for(|state| *state == FolderState::Readable))
        .await
        .unwrap()
        .unwrap();
    assert!(published.inventory.borrow().pods.is_empty());
    fs::remove_file(&fake.socket).unwrap();
    let fake = Fake::start(folder.path(), pod("c1", Vec::new()));
    wait(&mut published, |inventory| inventory.pods.len() == 1).await;
    fake.stop().await;
}

#[tokio::test]
async fn a_folder_that_is_missing_is_waited_for_and_one_that_is_made_anew_is_found() {
    let outer = TempDir::new().unwrap();
    let folder = outer.path().join("control");
    let mut published = watch_folder(&folder);
    let told = published.folder.wait_for(|state| matches!(state, FolderState::Unreadable(_)));
    tokio::time::timeout(SOON, told).await.unwrap().unwrap();
    for _ in 0..2 {
        let fake = Fake::start(&folder, pod("c1", Vec::new()));
        wait(&mut published, |inventory| inventory.pods.len() == 1).await;
        assert_eq!(*published.folder.borrow(), FolderState::Readable);
        fake.stop().await;
        fs::remove_dir_all(&folder).unwrap();
        wait(&mut published, |inventory| inventory.pods.is_empty()).await;
    }
}

#[tokio::test]
async fn many_executors_that_come_at_once_are_all_found() {
    let folder = TempDir::new().unwrap();
    let mut published = watch_folder(folder.path());
    let fakes: Vec<Fake> =
        (0..64).map(|n| Fake::start(folder.path(), pod(&format!("c{n}"), vec![a_task("t", n)]))).collect();
    wait(&mut published, |inventory| inventory.tasks().count() == 64).await;
    drop(published);
    for fake in fakes {
        fake.stop().await;
    }
}
