//! Somebody with a certificate, and the programs that such people use.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context as _;

use crate::describe::built;
use crate::pki::Pair;
use crate::rig::cache_folder;

/// Somebody with a certificate.
#[derive(Debug, Clone)]
pub struct Client {
    url: String,
    authority: PathBuf,
    pair: Pair,
    home: PathBuf,
}

impl Client {
    pub(super) fn new(url: String, authority: PathBuf, pair: Pair, home: PathBuf) -> anyhow::Result<Self> {
        fs::create_dir(&home).context("make a client's home")?;
        let client = Self { url, authority, pair, home };
        client.write_kubeconfig()?;
        client.write_config()?;
        Ok(client)
    }

    /// kubex with these arguments.
    ///
    /// # Panics
    /// It is not built.
    pub fn kubex(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(&built("kubex").expect("a built kubex"));
        command.arg("--config").arg(self.config()).args(arguments);
        command
    }

    /// The file that [`Client::kubex`] uses.
    pub fn config(&self) -> PathBuf {
        self.home.join("kubex.toml")
    }

    /// This kubectl with these arguments.
    pub fn kubectl(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = self.command(program);
        command.arg("--kubeconfig").arg(self.kubeconfig());
        command.arg("--cache-dir").arg(self.home.join("cache"));
        command.args(arguments);
        command
    }

    /// The file that [`Client::kubectl`] uses.
    pub fn kubeconfig(&self) -> PathBuf {
        self.home.join("kubeconfig")
    }

    /// curl with these arguments, for a path.
    pub fn curl(&self, arguments: &[&str], path: &str) -> Command {
        let mut command = self.command(Path::new("curl"));
        command.arg("--cacert").arg(&self.authority);
        command.arg("--cert").arg(&self.pair.certificate).arg("--key").arg(&self.pair.key);
        command.args(arguments).arg(format!("{}{path}", self.url));
        command
    }

    /// The dcos CLI with these arguments, known by this token.
    ///
    /// # Panics
    /// It is not installed, or its configuration cannot be written.
    pub fn dcos(&self, token: &str, arguments: &[&str]) -> Command {
        let site = cache_folder().join("dcos/site");
        let program = site.join("bin/dcos");
        assert!(program.is_file(), "{} is missing: run tests/dcos/setup", program.display());
        let config = self.home.join("dcos.toml");
        let text = format!(
            "[core]\ndcos_url = \"{}\"\ndcos_acs_token = \"{token}\"\nssl_verify = \"{}\"\nreporting = false\n",
            self.url,
            self.authority.display()
        );
        fs::write(&config, text).expect("write dcos.toml");
        fs::set_permissions(&config, Permissions::from_mode(0o600)).expect("close dcos.toml");
        let mut command = self.command(Path::new("python3"));
        command.arg(program).env("PYTHONPATH", site).env("DCOS_DIR", &self.home).args(arguments);
        command
    }

    /// The same with another certificate, for [`Client::raw`] and what comes of it.
    #[must_use]
    pub fn with_pair(&self, pair: Pair) -> Self {
        Self { pair, ..self.clone() }
    }

    /// The same with another authority that it trusts, for [`Client::raw`] and what comes of it.
    #[must_use]
    pub fn trusting(&self, authority: PathBuf) -> Self {
        Self { authority, ..self.clone() }
    }

    /// Where the endpoint serves: `host:port`.
    pub fn address(&self) -> &str {
        self.url.trim_start_matches("https://")
    }

    /// Its certificate and key.
    pub fn pair(&self) -> &Pair {
        &self.pair
    }

    /// The file of the authority that it trusts.
    pub fn trusted(&self) -> &Path {
        &self.authority
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env("HOME", &self.home).current_dir(&self.home).stdin(Stdio::null());
        command.env_remove("KUBECONFIG");
        command
    }

    fn write_config(&self) -> anyhow::Result<()> {
        let text = format!(
            "current = \"agent\"\n\n[[context]]\nname = \"agent\"\nserver = {:?}\nca = {:?}\ncertificate = {:?}\nkey = {:?}\n",
            self.url, self.authority, self.pair.certificate, self.pair.key
        );
        fs::write(self.config(), text).context("write kubex.toml")
    }

    fn write_kubeconfig(&self) -> anyhow::Result<()> {
        let config = serde_json::json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "agent", "cluster": {
                "server": self.url, "certificate-authority": self.authority,
            }}],
            "users": [{"name": "user", "user": {
                "client-certificate": self.pair.certificate, "client-key": self.pair.key,
            }}],
            "contexts": [{"name": "agent", "context": {"cluster": "agent", "user": "user"}}],
            "current-context": "agent",
        });
        let text = serde_json::to_string_pretty(&config)?;
        fs::write(self.kubeconfig(), text).context("write the kubeconfig")
    }
}
