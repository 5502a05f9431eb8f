//! `make up` as its user sees it: its program's output, the lines it prints for copying, Ctrl-C.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use kube_executor_tests::describe::built;
use kube_executor_tests::pod::{Signal, send};
use kube_executor_tests::terminal::Terminal;
use tokio::time::{Duration, Instant, sleep};

/// How long kube-apiserver may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(180);

/// The program while it runs. Dropped, it is asked to end, and waited for: it removes what it made.
struct Up {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Up {
    fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(built("up").expect("a built up"))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start up");
        let output = BufReader::new(child.stdout.take().expect("its stdout"));
        let lines = Arc::<Mutex<Vec<String>>>::default();
        let all = lines.clone();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                eprintln!("up: {line}");
                all.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        });
        Self { child, lines }
    }

    fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The first line, from this one on, that holds the text, and its number.
    async fn wait_for(&mut self, from: usize, text: &str) -> (usize, String) {
        let until = Instant::now() + PATIENCE;
        loop {
            let found = self.lines().into_iter().enumerate().skip(from).find(|(_, line)| line.contains(text));
            if let Some(found) = found {
                return found;
            }
            let ended = self.child.try_wait().expect("a child");
            assert!(ended.is_none() && Instant::now() < until, "no {text:?}; it ended: {ended:?}");
            sleep(Duration::from_millis(20)).await;
        }
    }

    async fn end(&mut self) -> Option<i32> {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status.code();
            }
            assert!(Instant::now() < until, "it does not end");
            sleep(Duration::from_millis(20)).await;
        }
    }

    fn interrupt(&self) {
        send(i32::try_from(self.child.id()).expect("a process id"), Signal::INT);
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.interrupt();
            drop(self.child.wait());
        }
    }
}

/// What `line` says after spaces, as a command.
fn command(line: &str) -> Command {
    let mut words = line.split_whitespace();
    let mut command = Command::new(words.next().expect("a program"));
    command.args(words);
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_comes_up_the_printed_lines_work_and_ctrl_c_leaves_nothing() {
    let mut up = Up::start(&[]);
    up.wait_for(0, "kubectl get --raw /readyz").await;
    let (number, _) = up.wait_for(0, "; Ctrl-C ends them").await;
    let before = up.lines();
    assert!(before.iter().any(|line| line == "ok"), "/readyz answered ok");

    let (_, api) = up.wait_for(number, "get namespaces").await;
    let namespaces = command(&api).output().expect("run the printed line");
    assert!(String::from_utf8_lossy(&namespaces.stdout).contains("kube-system"), "{namespaces:?}");
    let (_, pods) = up.wait_for(number, "get pods").await;
    let pods = command(&pods).output().expect("run the printed line");
    assert!(String::from_utf8_lossy(&pods.stdout).contains("etcd-0"), "{pods:?}");

    let (last, exec) = up.wait_for(number, "pkill etcd").await;
    let terminal = Terminal::open(24, 80);
    let mut child = terminal.spawn(command(&exec));
    assert_eq!(terminal.wait(&mut child).await.code(), Some(0), "{}", terminal.shown());
    let (last, _) = up.wait_for(last + 1, "etcd-0-peer: not ready").await;
    up.wait_for(last + 1, "etcd-0-peer: ready").await;

    up.interrupt();
    assert_eq!(up.end().await, Some(0));
    let lines = up.lines();
    let end = lines.last().expect("a last line");
    assert!(end.contains("nothing left: 0 processes, 0 cgroups, 0 mounts, 0 network namespaces"), "{end}");
}
