use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// Answers every command with the same.
#[derive(Debug)]
struct Always(Result<CommandResult, String>);

impl RunCommand for Always {
    fn run(&self, _: &Command, environment: &[(String, String)]) -> RunningCommand {
        assert_eq!(environment, [("A".to_owned(), "b".to_owned())]);
        Box::pin(std::future::ready(self.0.clone()))
    }
}

/// Never ends by itself; counts how often it was killed.
#[derive(Debug, Default)]
struct Endless {
    killed: Arc<AtomicUsize>,
}

struct Killed(Arc<AtomicUsize>);

impl Drop for Killed {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl RunCommand for Endless {
    fn run(&self, _: &Command, _: &[(String, String)]) -> RunningCommand {
        let guard = Killed(Arc::clone(&self.killed));
        Box::pin(async move {
            let _guard = guard;
            std::future::pending().await
        })
    }
}

fn probe() -> Probe {
    Probe::Command {
        command: Command::shell("etcdctl endpoint health"),
        environment: vec![("A".to_owned(), "b".to_owned())],
    }
}

async fn check_with(commands: impl RunCommand + 'static, timeout: Option<Duration>) -> Outcome {
    check(&probe(), &surroundings(commands), timeout, &mut TlsCache::default()).await
}

async fn check_left(code: i32, output: &[u8]) -> Outcome {
    check_with(Always(Ok(CommandResult { code, output: output.to_vec() })), None).await
}

#[tokio::test]
async fn exit_status_0_is_a_success() {
    assert_eq!(check_left(0, b"fine\n").await, Outcome::Success(Observed::ExitCode(0)));
}

#[tokio::test]
async fn another_exit_status_is_a_failure_with_the_output() {
    let message = "command check `etcdctl endpoint health`: exit status 3: unhealthy cluster".to_owned();
    let expected = Outcome::Failure { message, observed: Observed::ExitCode(3) };
    assert_eq!(check_left(3, b"\nunhealthy cluster\n").await, expected);

    let message = "command check `etcdctl endpoint health`: exit status 137".to_owned();
    let expected = Outcome::Failure { message, observed: Observed::ExitCode(137) };
    assert_eq!(check_left(137, b"\n").await, expected);
}

#[tokio::test]
async fn no_more_than_10_kib_of_output_are_quoted() {
    let message = failure(check_left(1, &[b'x'; 100_000]).await);
    assert_eq!(message.matches('x').count() - "exit".matches('x').count(), 10 * 1024);
}

#[tokio::test]
async fn a_command_that_cannot_be_started_is_unknown() {
    let outcome = check_with(Always(Err("fork: out of memory".to_owned())), None).await;
    let message = "command check `etcdctl endpoint health`: fork: out of memory".to_owned();
    assert_eq!(outcome, Outcome::Unknown { message });
}

#[tokio::test(start_paused = true)]
async fn a_command_that_runs_out_of_time_is_killed_and_a_failure() {
    let commands = Endless::default();
    let killed = Arc::clone(&commands.killed);
    let outcome = check_with(commands, Some(Duration::from_millis(1500))).await;
    let message = "command check `etcdctl endpoint health`: timed out after 1.5s".to_owned();
    assert_eq!(outcome, Outcome::Failure { message, observed: Observed::Nothing });
    assert_eq!(killed.load(Ordering::SeqCst), 1);
}
