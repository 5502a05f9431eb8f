//! When checks are done: first after the delay, again an interval after the last one's end, never two at once.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::check::check;
use super::check::tls::TlsCache;
use super::threshold::{Next, Threshold};
use super::{Outcome, Report, Surroundings};
use crate::spec::CheckSpec;

/// The shortest time between two checks: a check with an interval of 0 must not take the executor's whole CPU.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(10);

/// A check that is being done; dropped, it ends, and the check under way with it.
#[derive(Debug)]
pub struct WorkerHandle {
    task: JoinHandle<()>,
}

impl WorkerHandle {
    /// Ends it and waits until nothing of it is left: from then on no report of it is made, and no command of it started.
    pub async fn stop(mut self) {
        self.task.abort();
        // It ended, or was ended: both are what is wanted.
        let _ = (&mut self.task).await;
    }
}

impl Drop for WorkerHandle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Starts doing the check with this index, of a process that started at `started`. Verdicts go to `reports`; it ends
/// after a final one (a fatal one, or a passed startup check), or when nobody receives them any more.
pub fn start(
    index: usize,
    spec: CheckSpec,
    surroundings: Surroundings,
    started: Instant,
    reports: mpsc::Sender<Report>,
) -> WorkerHandle {
    WorkerHandle { task: tokio::spawn(work(index, spec, surroundings, started, reports)) }
}

async fn work(
    index: usize,
    spec: CheckSpec,
    surroundings: Surroundings,
    started: Instant,
    reports: mpsc::Sender<Report>,
) {
    let interval = spec.interval.max(SHORTEST_INTERVAL);
    let mut threshold = Threshold::new(&spec);
    let mut tls = TlsCache::default();
    let mut doable = Doable::Yes;

    tokio::time::sleep(spec.delay.saturating_sub(started.elapsed())).await;
    loop {
        let outcome = check(&spec.probe, &surroundings, spec.timeout, &mut tls).await;
        let ended = Instant::now();
        doable = doable.then(index, &outcome);
        for verdict in threshold.observe(&outcome, ended.saturating_duration_since(started)) {
            if reports.send(Report { check: index, verdict }).await.is_err() {
                return;
            }
        }
        if threshold.next() == Next::Over {
            return;
        }
        tokio::time::sleep(interval.saturating_sub(ended.elapsed())).await;
    }
}

/// Whether the last check could be done; what could not is in no verdict, so the log must tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doable {
    Yes,
    No,
}

impl Doable {
    fn then(self, check: usize, outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Unknown { message } => {
                if self == Self::Yes {
                    tracing::warn!(check, %message, "a check could not be done and counts for nothing");
                }
                Self::No
            }
            Outcome::Success(_) | Outcome::Failure { .. } => Self::Yes,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::health::{CommandResult, Observed, RunCommand, RunningCommand, Verdict};
    use crate::pod::sockets::PodSockets;
    use crate::spec::{CheckRole, Command, Probe};

    /// Runs each command for a while and lets it end with the next code; from the last one on it stays the same. It
    /// keeps when each started and when it ended or was killed, in seconds since its own beginning.
    #[derive(Debug)]
    struct Script {
        begin: Instant,
        takes: Duration,
        codes: Vec<i32>,
        runs: Arc<Mutex<Vec<Run>>>,
    }

    #[derive(Debug, Clone, Copy, PartialEq)]
    struct Run {
        from: f64,
        to: Option<f64>,
    }

    struct Running {
        begin: Instant,
        index: usize,
        runs: Arc<Mutex<Vec<Run>>>,
    }

    impl Drop for Running {
        fn drop(&mut self) {
            let to = self.begin.elapsed().as_secs_f64();
            self.runs.lock().expect("not poisoned")[self.index].to = Some(to);
        }
    }

    impl RunCommand for Script {
        fn run(&self, _: &Command, _: &[(String, String)]) -> RunningCommand {
            let mut runs = self.runs.lock().expect("not poisoned");
            assert!(runs.iter().all(|run| run.to.is_some()), "two at once: {runs:?}");
            let index = runs.len();
            runs.push(Run { from: self.begin.elapsed().as_secs_f64(), to: None });
            let running = Running { begin: self.begin, index, runs: Arc::clone(&self.runs) };
            let code = *self.codes.get(index).or(self.codes.last()).expect("a code");
            let takes = self.takes;
            Box::pin(async move {
                let _running = running;
                tokio::time::sleep(takes).await;
                Ok(CommandResult { code, output: Vec::new() })
            })
        }
    }

    /// A worker over a script.
    struct Bench {
        worker: WorkerHandle,
        reports: mpsc::Receiver<Report>,
        begin: Instant,
        runs: Arc<Mutex<Vec<Run>>>,
    }

    impl Bench {
        /// The process started `age` seconds ago.
        fn new(spec: CheckSpec, age: u64, takes: u64, codes: &[i32]) -> Self {
            let begin = Instant::now();
            let runs = Arc::new(Mutex::new(Vec::new()));
            let script = Script {
                begin,
                takes: Duration::from_secs(takes),
                codes: codes.to_vec(),
                runs: Arc::clone(&runs),
            };
            let surroundings = Surroundings { sockets: PodSockets::host(), commands: Arc::new(script) };
            let (sender, reports) = mpsc::channel(1);
            let worker = start(7, spec, surroundings, begin - Duration::from_secs(age), sender);
            Self { worker, reports, begin, runs }
        }

        /// The next verdict and the second it came in.
        async fn verdict(&mut self) -> Option<(f64, Verdict)> {
            let report = self.reports.recv().await?;
            assert_eq!(report.check, 7);
            Some((self.begin.elapsed().as_secs_f64().floor(), report.verdict))
        }

        fn runs(&self) -> Vec<Run> {
            self.runs.lock().expect("not poisoned").clone()
        }

        /// The seconds in which checks began.
        fn starts(&self) -> Vec<f64> {
            self.runs().iter().map(|run| run.from.floor()).collect()
        }
    }

    fn spec(role: CheckRole, delay: u64, interval: u64) -> CheckSpec {
        CheckSpec {
            role,
            probe: Probe::Command { command: Command::shell("x"), environment: Vec::new() },
            delay: Duration::from_secs(delay),
            interval: Duration::from_secs(interval),
            timeout: None,
            grace: Duration::ZERO,
            failures: NonZeroU32::new(3).expect("not zero"),
            successes: NonZeroU32::MIN,
        }
    }

    fn fail() -> Verdict {
        Verdict::Fail { message: "command check `x`: exit status 1".to_owned() }
    }

    fn fatal() -> Verdict {
        Verdict::Fatal { message: "command check `x`: exit status 1".to_owned(), failures: 3 }
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_check_is_after_the_delay_and_the_others_an_interval_after_the_end() {
        let mut bench = Bench::new(spec(CheckRole::Liveness, 15, 10), 0, 3, &[0, 0, 1]);
        assert_eq!(bench.verdict().await, Some((18.0, Verdict::Pass)));
        assert_eq!(bench.verdict().await, Some((44.0, fail())));
        assert_eq!(bench.starts(), [15.0, 28.0, 41.0]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_delay_counts_from_the_process_s_start() {
        for (age, first) in [(4, 11.0), (15, 0.0), (100, 0.0)] {
            let mut bench = Bench::new(spec(CheckRole::Liveness, 15, 10), age, 0, &[0]);
            assert_eq!(bench.verdict().await, Some((first, Verdict::Pass)));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_grace_period_counts_from_the_process_s_start_to_a_check_s_end() {
        let spec = CheckSpec { grace: Duration::from_secs(30), ..spec(CheckRole::Liveness, 0, 9) };
        // Ends at 5, 15 and 25 seconds of the process's life do not count.
        let mut bench = Bench::new(spec, 4, 1, &[1]);
        assert_eq!(bench.verdict().await, Some((31.0, fail())));
        assert_eq!(bench.verdict().await, Some((51.0, fatal())));
        assert_eq!(bench.starts(), [0.0, 10.0, 20.0, 30.0, 40.0, 50.0]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_check_that_runs_out_of_time_is_killed_and_the_interval_begins_then() {
        let spec = CheckSpec { timeout: Some(Duration::from_secs(2)), ..spec(CheckRole::Liveness, 0, 10) };
        let mut bench = Bench::new(spec, 0, 1000, &[0]);
        let (at, verdict) = bench.verdict().await.expect("a verdict");
        assert_eq!(at, 2.0);
        let message = "command check `x`: timed out after 2s".to_owned();
        assert_eq!(verdict, Verdict::Fail { message: message.clone() });
        assert_eq!(bench.verdict().await, Some((26.0, Verdict::Fatal { message, failures: 3 })));
        assert_eq!(bench.starts(), [0.0, 12.0, 24.0]);
        assert!(bench.runs().iter().all(|run| run.to.is_some_and(|to| to - run.from < 2.1)));
    }

    #[tokio::test(start_paused = true)]
    async fn no_timeout_is_no_limit() {
        let mut bench = Bench::new(spec(CheckRole::Liveness, 0, 10), 0, 100_000, &[0]);
        assert_eq!(bench.verdict().await, Some((100_000.0, Verdict::Pass)));
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_fatal_verdict_it_stops() {
        let mut bench = Bench::new(spec(CheckRole::Liveness, 0, 1), 0, 0, &[1]);
        assert_eq!(bench.verdict().await, Some((0.0, fail())));
        assert_eq!(bench.verdict().await, Some((2.0, fatal())));
        assert_eq!(bench.verdict().await, None);
        assert_eq!(bench.runs().len(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_passed_startup_check_it_stops() {
        let mut bench = Bench::new(spec(CheckRole::Startup, 0, 1), 0, 0, &[1, 0]);
        assert_eq!(bench.verdict().await, Some((1.0, Verdict::Pass)));
        assert_eq!(bench.verdict().await, None);
        assert_eq!(bench.runs().len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_value_that_is_reported_comes_with_what_it_means() {
        let role = CheckRole::Reported(mesos::common::CheckType::Command);
        let mut bench = Bench::new(spec(role, 0, 1), 0, 0, &[0, 0, 1]);
        assert_eq!(bench.verdict().await, Some((0.0, Verdict::Observed(Observed::ExitCode(0)))));
        assert_eq!(bench.verdict().await, Some((0.0, Verdict::Pass)));
        assert_eq!(bench.verdict().await, Some((2.0, Verdict::Observed(Observed::ExitCode(1)))));
        assert_eq!(bench.verdict().await, Some((2.0, fail())));
    }

    #[tokio::test(start_paused = true)]
    async fn stopped_it_leaves_no_command_running() {
        let mut bench = Bench::new(spec(CheckRole::Liveness, 0, 1), 0, 100, &[0]);
        tokio::time::sleep(Duration::from_secs(50)).await;
        assert_eq!(bench.runs(), [Run { from: bench.runs()[0].from, to: None }]);
        bench.worker.stop().await;
        let [run] = bench.runs.lock().expect("not poisoned")[..] else { panic!("one run") };
        assert!(run.to.is_some_and(|to| to < 51.0));
        assert_eq!(bench.reports.recv().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn dropped_it_ends() {
        let mut bench = Bench::new(spec(CheckRole::Liveness, 0, 1), 0, 100, &[0]);
        tokio::time::sleep(Duration::from_secs(50)).await;
        drop(bench.worker);
        assert_eq!(bench.reports.recv().await, None);
        assert!(bench.runs.lock().expect("not poisoned")[0].to.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn an_interval_of_0_leaves_the_executor_time() {
        let mut bench = Bench::new(spec(CheckRole::Liveness, 0, 0), 0, 0, &[0]);
        assert_eq!(bench.verdict().await, Some((0.0, Verdict::Pass)));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(bench.runs().len() <= 102, "{}", bench.runs().len());
    }
}
