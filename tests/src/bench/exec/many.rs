//! Many sessions: one after the other, idle ones, and a thousand that talk at once.

use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::agent::Until;
use super::client::{STDIN, STDOUT, Session, Tls};
use super::command::times;
use super::contender::{Input, timed};
use super::{Contest, Options, tell};
use crate::bench::group::Memory;
use crate::bench::table::{Row, megabytes};

/// How many at a time.
const AT_A_TIME: usize = 8;
/// How long they are counted.
const COUNTED: Duration = Duration::from_secs(5);
/// How many idle sessions there are.
const IDLE_SESSIONS: usize = 500;
/// How many talk at once.
const TALKING: usize = 1000;
/// How many of them are opened at a time.
const OPENED: usize = 16;
/// Between an echo and the next line of the same session.
const PAUSE: Duration = Duration::from_millis(500);
/// How long an echo may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// For everything to settle.
const SETTLE: Duration = Duration::from_secs(1);

/// Counts sessions that are opened and ended.
///
/// # Errors
/// Ours fail.
pub async fn per_second(contest: &Contest) -> anyhow::Result<Vec<Row>> {
    tell("sessions per second");
    let (tls, path) = (contest.site.tls.clone(), contest.site.exec(false, &["true"]));
    let ours = count(move || {
        let (runtime, tls, path) = (runtime()?, tls.clone(), path.clone());
        Ok(move || runtime.block_on(async { tls.session(&path).await?.end().await }).map(drop))
    })
    .await?;
    let row = |measure, how: &str, counted: anyhow::Result<f64>| match counted {
        Err(error) => Row::failed(measure, &error),
        Ok(rate) => Row {
            measure,
            target: "",
            measured: format!("{rate:.0} per second"),
            beside: times(rate / ours),
            how: how.to_owned(),
        },
    };
    let agent = match &contest.agent {
        Err(why) => Err(anyhow::anyhow!("{why}")),
        Ok(agent) => {
            let caller = agent.caller();
            count(move || {
                let (runtime, caller) = (runtime()?, caller.clone());
                Ok(move || runtime.block_on(caller.session("true", Until::End)))
            })
            .await
        }
    };
    let kubex = commands(|| contest.kubex().command(Input::None, &["true"])).await;
    let mux = commands(|| contest.ssh_mux().command(Input::None, &["true"])).await;
    Ok(vec![
        Row {
            measure: "sessions opened and ended, 8 at a time",
            target: "> 300 per second",
            measured: format!("{ours:.0} per second"),
            beside: String::new(),
            how: format!(
                "exec T true, each on a new TLS connection of a client in the bench, {} s",
                COUNTED.as_secs()
            ),
        },
        row("  by kubex", "a process each", kubex),
        row("  Mesos agent", "LAUNCH_NESTED_CONTAINER_SESSION, each on a new TCP connection", agent),
        row("  ssh, ControlMaster", "a process each, over one connection", mux),
    ])
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("start a runtime")
}

/// The same for a command line. Commands are no values that can be run twice: they are written down once.
async fn commands(make: impl Fn() -> anyhow::Result<Command>) -> anyhow::Result<f64> {
    let model = make()?;
    let line: Vec<_> =
        std::iter::once(model.get_program()).chain(model.get_args()).map(ToOwned::to_owned).collect();
    let folder = model.get_current_dir().map(ToOwned::to_owned);
    let variables: Vec<_> =
        model.get_envs().map(|(name, value)| (name.to_owned(), value.map(ToOwned::to_owned))).collect();
    count(move || {
        let (line, folder, variables) = (line.clone(), folder.clone(), variables.clone());
        Ok(move || {
            let mut command = Command::new(&line[0]);
            command.args(&line[1..]);
            if let Some(folder) = &folder {
                command.current_dir(folder);
            }
            for (name, value) in &variables {
                match value {
                    Some(value) => command.env(name, value),
                    None => command.env_remove(name),
                };
            }
            timed(command).map(drop)
        })
    })
    .await
}

/// How often per second several threads do it, each with what `make` gives it.
async fn count<W: FnMut() -> anyhow::Result<()>>(
    make: impl Fn() -> anyhow::Result<W> + Send + Sync + 'static,
) -> anyhow::Result<f64> {
    let counting = move || {
        let (done, over) = (AtomicUsize::new(0), AtomicBool::new(false));
        std::thread::scope(|scope| {
            let work = || -> anyhow::Result<()> {
                let mut once = make()?;
                while !over.load(Ordering::Relaxed) {
                    once()?;
                    done.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            };
            let workers: Vec<_> = (0..AT_A_TIME).map(|_| scope.spawn(work)).collect();
            // The first ones are slower.
            std::thread::park_timeout(COUNTED / 5);
            let (before, began) = (done.load(Ordering::Relaxed), Instant::now());
            while began.elapsed() < COUNTED {
                std::thread::park_timeout(COUNTED.saturating_sub(began.elapsed()));
            }
            let rate = (done.load(Ordering::Relaxed) - before) as f64 / began.elapsed().as_secs_f64();
            over.store(true, Ordering::Relaxed);
            for worker in workers {
                worker.join().map_err(|_| anyhow::anyhow!("a worker failed"))??;
            }
            Ok(rate)
        })
    };
    tokio::task::spawn_blocking(counting).await?
}

/// Measures what idle sessions take, and the endpoint without any.
///
/// # Errors
/// They could not be opened.
pub async fn memory(contest: &Contest) -> anyhow::Result<Vec<Row>> {
    tell("memory of sessions");
    let endpoint = contest.site.endpoint();
    let none = Memory::of(endpoint)?;
    contest.site.tls.session(&contest.site.exec(false, &["true"])).await?.end().await?;
    sleep(SETTLE).await;
    let before = Memory::of(endpoint)?;
    let path = contest.site.exec(true, &["sh", "-c", "echo; exec sleep 100000"]);
    let sessions = open(&contest.site.tls, &path, IDLE_SESSIONS).await?;
    sleep(SETTLE).await;
    let with = Memory::of(endpoint)?;
    drop(sessions);
    closed(contest).await?;
    let after = Memory::of(endpoint)?;
    let each = |memory: u64, before: u64| {
        format!("{:.1} kB", memory.saturating_sub(before) as f64 * 1.024 / IDLE_SESSIONS as f64)
    };
    Ok(vec![
        Row {
            measure: "memory per idle session",
            target: "< 60 kB",
            measured: each(with.resident, before.resident),
            beside: format!("{} private", each(with.private, before.private)),
            how: format!(
                "VmRSS of the endpoint with {IDLE_SESSIONS} sessions, less that after one; once they have ended: {}",
                megabytes(after.resident)
            ),
        },
        Row {
            measure: "endpoint's RSS, no session yet",
            target: "< 8 MB",
            measured: megabytes(none.resident),
            beside: format!(
                "proportional {}, private {}",
                megabytes(none.proportional),
                megabytes(none.private)
            ),
            how: format!("VmRSS, Pss and Private_*; after one session {}", megabytes(before.resident)),
        },
    ])
}

/// Opens so many sessions, and hears of each that its process runs: by an empty line.
async fn open(tls: &Tls, path: &str, count: usize) -> anyhow::Result<Vec<Session>> {
    let (mut opening, mut sessions) = (JoinSet::new(), Vec::with_capacity(count));
    for started in 0..count {
        let (tls, path) = (tls.clone(), path.to_owned());
        opening.spawn(async move {
            let mut session = tls.session(&path).await?;
            match session.next().await? {
                (STDOUT, line) if *line == *b"\n" => anyhow::Ok(session),
                (_, said) => anyhow::bail!("a session does not begin: {}", String::from_utf8_lossy(&said)),
            }
        });
        if started >= OPENED
            && let Some(opened) = opening.join_next().await
        {
            sessions.push(opened??);
        }
    }
    while let Some(opened) = opening.join_next().await {
        sessions.push(opened??);
    }
    Ok(sessions)
}

/// Waits until the executor has no session any more.
async fn closed(contest: &Contest) -> anyhow::Result<()> {
    let end = Instant::now() + PATIENCE;
    while contest.site.stand.sessions() > 0 {
        anyhow::ensure!(Instant::now() < end, "{} sessions do not end", contest.site.stand.sessions());
        sleep(Duration::from_millis(100)).await;
    }
    sleep(SETTLE).await;
    Ok(())
}

/// A thousand sessions at once, each of which echoes all the time.
///
/// # Errors
/// One was lost, or its echoes were.
pub async fn thousand(options: &Options, contest: &Contest) -> anyhow::Result<Vec<Row>> {
    tell("1,000 sessions at once");
    let (endpoint, executor) = (contest.site.endpoint(), contest.site.stand.executor());
    let before = (Memory::of(endpoint)?, Memory::of(executor)?);
    let began = Instant::now();
    let sessions =
        open(&contest.site.tls, &contest.site.exec(true, &["sh", "-c", "echo; exec cat"]), TALKING).await?;
    let opened = began.elapsed();
    let until = Instant::now() + options.echo;
    let mut talks = JoinSet::new();
    for (number, session) in sessions.into_iter().enumerate() {
        talks.spawn(talk(number, session, until));
    }
    sleep(options.echo / 2).await;
    let with = (Memory::of(endpoint)?, Memory::of(executor)?);
    let (mut lines, mut lost, mut slowest, mut why) = (0_usize, 0_usize, Duration::ZERO, None);
    while let Some(talked) = talks.join_next().await {
        match talked? {
            Ok((some, slow)) => (lines, slowest) = (lines + some, slowest.max(slow)),
            Err(error) => {
                lost += 1;
                why.get_or_insert(format!("; {error:#}"));
            }
        }
    }
    closed(contest).await?;
    let change = |before: Memory, with: Memory| {
        format!("{} -> {}", megabytes(before.resident), megabytes(with.resident))
    };
    Ok(vec![Row {
        measure: "1,000 sessions at once, echoing",
        target: "none lost",
        measured: format!("{lost} lost, 0 reordered in {lines} echoes"),
        beside: format!("endpoint {}, executor {}", change(before.0, with.0), change(before.1, with.1)),
        how: format!(
            "{} s, each a numbered line every {} ms; opened in {:.1} s; slowest echo {} ms{}",
            options.echo.as_secs(),
            PAUSE.as_millis(),
            opened.as_secs_f64(),
            slowest.as_millis(),
            why.unwrap_or_default()
        ),
    }])
}

/// Sends numbered lines and hears each of them, in order; how many, and the longest time that one took.
async fn talk(number: usize, mut session: Session, until: Instant) -> anyhow::Result<(usize, Duration)> {
    let mut slowest = Duration::ZERO;
    for count in 0.. {
        if Instant::now() >= until {
            return Ok((count, slowest));
        }
        let line = format!("session {number} line {count}\n");
        let began = Instant::now();
        session.send(STDIN, line.as_bytes()).await?;
        let mut heard = Vec::new();
        let hear = async {
            while heard.len() < line.len() {
                let (channel, payload) = session.next().await?;
                anyhow::ensure!(channel == STDOUT, "session {number} said {payload:?} on channel {channel}");
                heard.extend_from_slice(&payload);
            }
            Ok(())
        };
        tokio::time::timeout(PATIENCE, hear)
            .await
            .with_context(|| format!("session {number} does not echo line {count}"))??;
        anyhow::ensure!(heard == line.as_bytes(), "session {number} echoed {heard:?} for line {count}");
        slowest = slowest.max(began.elapsed());
        sleep(PAUSE).await;
    }
    Ok((0, slowest))
}
