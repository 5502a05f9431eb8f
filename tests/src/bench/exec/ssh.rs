//! A private sshd, Debian's, on 127.0.0.1, with keys of its own, and clients of it. Dropped, it is killed.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, bail};
use tempfile::TempDir;
use tokio::time::{Duration, Instant, sleep};

use super::contender::Input;
use crate::rig::{free_ports, tail};

const PROGRAM: &str = "/usr/sbin/sshd";
/// It wants this one to be there.
const EMPTY_FOLDER: &str = "/run/sshd";
/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// It, and a connection that is kept open.
#[derive(Debug)]
pub struct Sshd {
    child: Child,
    port: u16,
    made: bool,
    folder: TempDir,
}

impl Sshd {
    /// Starts it, and a connection to it.
    ///
    /// # Errors
    /// It is not installed, or does not let us in.
    pub async fn start() -> anyhow::Result<Self> {
        anyhow::ensure!(
            Path::new(PROGRAM).is_file(),
            "{PROGRAM} is not installed: run scripts/install bench"
        );
        let folder = tempfile::Builder::new().prefix("kx-bench-").tempdir()?;
        let place = |name: &str| folder.path().join(name);
        for key in ["host", "user"] {
            let mut command = Command::new("ssh-keygen");
            command.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(place(key));
            anyhow::ensure!(command.status().context("start ssh-keygen")?.success(), "make an ssh key");
        }
        fs::copy(place("user.pub"), place("authorized")).context("authorize the key")?;
        let port = free_ports(1)?[0];
        let host = fs::read_to_string(place("host.pub")).context("read the host's key")?;
        fs::write(place("known"), format!("[127.0.0.1]:{port} {host}")).context("write the known hosts")?;
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM yes\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n\
             PrintMotd no\nPidFile none\nMaxSessions 100\nMaxStartups 100\nUseDNS no\n",
            place("host").display(),
            place("authorized").display(),
        );
        fs::write(place("config"), config).context("write sshd's configuration")?;
        let made = match fs::create_dir(EMPTY_FOLDER) {
            Ok(()) => true,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => false,
            Err(error) => return Err(error).with_context(|| format!("make {EMPTY_FOLDER}")),
        };
        let child = Command::new(PROGRAM)
            .args(["-D", "-e", "-f"])
            .arg(place("config"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(place("log")).context("make sshd's log")?)
            .spawn()
            .context("start sshd")?;
        let this = Self { child, port, made, folder };
        this.connect().await?;
        Ok(this)
    }

    async fn connect(&self) -> anyhow::Result<()> {
        let end = Instant::now() + PATIENCE;
        loop {
            let mut command = self.client();
            command.arg("-MNf").arg("-S").arg(self.socket()).arg(self.user());
            let output = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
            // What goes to the background keeps stderr: only its status is waited for.
            if output.status().context("start ssh")?.success() {
                return Ok(());
            }
            if Instant::now() >= end {
                bail!("sshd lets nobody in; its log:\n{}", tail(&self.folder.path().join("log"), 10));
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// The command line for a new connection.
    pub fn new_connection(&self, input: Input, words: &[&str]) -> Command {
        let mut command = self.client();
        command.args(["-S", "none"]);
        self.with(command, input, words)
    }

    /// The command line for the connection that is there.
    pub fn multiplexed(&self, input: Input, words: &[&str]) -> Command {
        let mut command = self.client();
        command.arg("-S").arg(self.socket());
        self.with(command, input, words)
    }

    fn with(&self, mut command: Command, input: Input, words: &[&str]) -> Command {
        if input == Input::None {
            command.arg("-n");
        }
        // The shell there takes them apart again.
        let quoted: Vec<String> =
            words.iter().map(|word| format!("'{}'", word.replace('\'', r"'\''"))).collect();
        command.arg(self.user()).arg("--").arg(quoted.join(" "));
        command
    }

    fn client(&self) -> Command {
        let place = |name: &str| self.folder.path().join(name).display().to_string();
        let mut command = Command::new("ssh");
        command.args([
            "-F",
            "none",
            "-T",
            "-o",
            "BatchMode=yes",
            "-o",
            "IdentitiesOnly=yes",
            "-o",
            "LogLevel=ERROR",
        ]);
        command.args([
            "-o",
            "StrictHostKeyChecking=yes",
            "-o",
            &format!("UserKnownHostsFile={}", place("known")),
        ]);
        command.args(["-p", &self.port.to_string(), "-i", &place("user")]);
        command
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("mux")
    }

    fn user(&self) -> String {
        let name = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten().map(|user| user.name);
        format!("{}@127.0.0.1", name.unwrap_or_else(|| "root".to_owned()))
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let mut leave = self.client();
        leave.arg("-S").arg(self.socket()).args(["-O", "exit"]).arg(self.user());
        drop(leave.stderr(Stdio::null()).status());
        // It can only fail because it has ended, which is what is wanted.
        drop(self.child.kill());
        drop(self.child.wait());
        if self.made {
            drop(fs::remove_dir(EMPTY_FOLDER));
        }
    }
}
