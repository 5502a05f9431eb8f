//! 100 MiB out of a task and into it, through pipes.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tempfile::TempDir;
use tokio::time::sleep;

use super::command::times;
use super::contender::{Contender, Input};
use super::{Contest, Options, tell};
use crate::bench::stand::IDLE;
use crate::bench::table::{Row, Samples};
use crate::rig::free_ports;

/// How much.
const BYTES: usize = 100 << 20;
/// How much is read or written here at once.
const CHUNK: usize = 256 << 10;
/// How often at most.
const ROUNDS: usize = 7;

/// One that is measured, and what came out.
struct Lane<'a> {
    name: &'static str,
    how: &'static str,
    target: &'static str,
    make: Box<dyn Fn() -> anyhow::Result<Command> + 'a>,
    samples: anyhow::Result<Samples>,
}

impl<'a> Lane<'a> {
    fn new(name: &'static str, how: &'static str, make: impl Fn() -> anyhow::Result<Command> + 'a) -> Self {
        Self { name, how, target: "", make: Box::new(make), samples: Ok(Samples::default()) }
    }

    fn of(contender: Contender<'a>, input: Input, words: Vec<String>) -> Self {
        let (name, how) = (contender.name, contender.how);
        Self::new(name, how, move || {
            contender.command(input, &words.iter().map(String::as_str).collect::<Vec<_>>())
        })
    }

    fn rate(&self) -> Option<f64> {
        let median = self.samples.as_ref().ok()?.median();
        (!median.is_zero()).then(|| rate(median))
    }
}

/// Bytes out of a task.
///
/// # Errors
/// There is no file for them.
pub async fn output(options: &Options, contest: &Contest) -> anyhow::Result<Vec<Row>> {
    tell("100 MiB of output");
    let folder = tempfile::Builder::new().prefix("kx-bench-").tempdir()?;
    let file = folder.path().join("data");
    fs::write(&file, noise(BYTES)).context("write 100 MiB")?;
    let words = vec!["cat".to_owned(), file.display().to_string()];
    let lane = |contender| Lane::of(contender, Input::None, words.clone());
    let mut ours = lane(contest.kubex());
    (ours.name, ours.target) = ("kubex task exec T cat FILE: 100 MiB", "> 400 MB/s");
    let openssl = Openssl::start(folder).await;
    let pipes = file.clone();
    let mut lanes =
        vec![
            ours,
            lane(contest.ssh()),
            lane(contest.ssh_mux()),
            lane(contest.kubectl()),
            Lane::new("  floor: two pipes", "cat FILE | cat", move || {
                let mut command = Command::new("sh");
                command.arg("-c").arg(format!("cat {} | cat", pipes.display()));
                Ok(command)
            }),
            Lane::new("  floor: openssl", "openssl s_server and s_client on loopback, TLS 1.3", || {
                match &openssl {
                    Ok(openssl) => Ok(openssl.client()),
                    Err(error) => Err(anyhow::anyhow!("{error:#}")),
                }
            }),
        ];
    race(options, &mut lanes, read_all).await;
    Ok(rows(&lanes))
}

/// Bytes into a task.
///
/// # Errors
/// None: what does not work is a line that says why.
pub async fn input(options: &Options, contest: &Contest) -> anyhow::Result<Vec<Row>> {
    tell("100 MiB of input");
    let words: Vec<String> = ["sh", "-c", "cat >/dev/null"].map(str::to_owned).to_vec();
    let lane = |contender| Lane::of(contender, Input::Piped, words.clone());
    let mut ours = lane(contest.kubex());
    (ours.name, ours.target) = ("kubex task exec -i T 'cat >/dev/null': 100 MiB", "> 300 MB/s");
    let mut lanes = vec![ours, lane(contest.ssh()), lane(contest.ssh_mux()), lane(contest.kubectl())];
    race(options, &mut lanes, write_all).await;
    Ok(rows(&lanes))
}

/// All in turn, round after round.
async fn race(options: &Options, lanes: &mut [Lane<'_>], measure: fn(Command) -> anyhow::Result<Duration>) {
    for _ in 0..options.rounds.min(ROUNDS) {
        for lane in &mut *lanes {
            let Ok(samples) = &mut lane.samples else { continue };
            sleep(IDLE).await;
            let took = match (lane.make)() {
                Ok(command) => {
                    tokio::task::spawn_blocking(move || measure(command)).await.map_err(Into::into).flatten()
                }
                Err(error) => Err(error),
            };
            match took {
                Ok(took) => samples.push(took),
                Err(error) => lane.samples = Err(error),
            }
        }
    }
}

fn rows(lanes: &[Lane<'_>]) -> Vec<Row> {
    let ours = lanes.first().and_then(Lane::rate);
    let row = |(at, lane): (usize, &Lane<'_>)| match &lane.samples {
        Err(error) => Row::failed(lane.name, error),
        Ok(samples) => Row {
            measure: lane.name,
            target: lane.target,
            measured: format!(
                "{:.0} MB/s (best {:.0})",
                lane.rate().unwrap_or_default(),
                rate(samples.min())
            ),
            beside: match (ours, lane.rate()) {
                (Some(ours), Some(rate)) if at > 0 => times(rate / ours),
                _ => String::new(),
            },
            how: format!("{}, from its start to its end, {} rounds", lane.how, samples.count()),
        },
    };
    lanes.iter().enumerate().map(row).collect()
}

fn rate(took: Duration) -> f64 {
    BYTES as f64 / 1e6 / took.as_secs_f64()
}

fn read_all(mut command: Command) -> anyhow::Result<Duration> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let began = Instant::now();
    let mut child = command.spawn().with_context(|| format!("start {:?}", command.get_program()))?;
    let mut stdout = child.stdout.take().context("its output")?;
    let (mut buffer, mut all) = (vec![0; CHUNK], 0);
    loop {
        match stdout.read(&mut buffer)? {
            0 => break,
            some => all += some,
        }
    }
    ended(child, &command)?;
    anyhow::ensure!(all >= BYTES, "{:?}: {all} bytes only", command.get_program());
    Ok(began.elapsed())
}

fn write_all(mut command: Command) -> anyhow::Result<Duration> {
    let data = noise(CHUNK);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let began = Instant::now();
    let mut child = command.spawn().with_context(|| format!("start {:?}", command.get_program()))?;
    let mut stdin = child.stdin.take().context("its input")?;
    let written = (0..BYTES / CHUNK).try_for_each(|_| stdin.write_all(&data));
    drop(stdin);
    ended(child, &command)?;
    written.context("write all of it")?;
    Ok(began.elapsed())
}

fn ended(child: Child, command: &Command) -> anyhow::Result<()> {
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(
        output.status.success(),
        "{:?}: {}: {}",
        command.get_program(),
        output.status,
        said.trim()
    );
    Ok(())
}

/// What no compression makes smaller.
fn noise(bytes: usize) -> Vec<u8> {
    let mut all = vec![0; bytes];
    fastrand::Rng::with_seed(7).fill(&mut all);
    all
}

/// A server that has the file. Dropped, it is killed.
struct Openssl {
    server: Child,
    port: u16,
    _folder: TempDir,
}

impl Openssl {
    async fn start(folder: TempDir) -> anyhow::Result<Self> {
        let port = free_ports(1)?[0];
        let mut make = Command::new("openssl");
        make.args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-subj",
            "/CN=bench",
        ]);
        make.args(["-keyout", "key.pem", "-out", "certificate.pem"]).current_dir(folder.path());
        ended(make.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().context("start openssl")?, &make)?;
        let server = serve(folder.path(), port)?;
        let this = Self { server, port, _folder: folder };
        for _ in 0..100 {
            if tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                return Ok(this);
            }
            sleep(Duration::from_millis(20)).await;
        }
        anyhow::bail!("openssl s_server does not listen")
    }

    fn client(&self) -> Command {
        let mut command = Command::new("sh");
        let ask = format!(
            "printf 'GET /data HTTP/1.0\\r\\n\\r\\n' | openssl s_client -quiet -connect 127.0.0.1:{} 2>/dev/null",
            self.port
        );
        command.arg("-c").arg(ask);
        command
    }
}

impl Drop for Openssl {
    fn drop(&mut self) {
        // It can only fail because it has ended, which is what is wanted.
        drop(self.server.kill());
        drop(self.server.wait());
    }
}

fn serve(folder: &Path, port: u16) -> anyhow::Result<Child> {
    Command::new("openssl")
        .args(["s_server", "-WWW", "-quiet", "-accept", &format!("127.0.0.1:{port}")])
        .args(["-key", "key.pem", "-cert", "certificate.pem"])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("start openssl s_server")
}
