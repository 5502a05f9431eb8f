//! What an endpoint is given: certificates, policy, a place for its audit; and its arguments.

use std::fs::{self, OpenOptions, Permissions};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use nix::unistd::{Uid, chown};

use super::client::Client;
use crate::pki::{Authority, Pair, Subject};

/// Everything is allowed to the group `ops`, nothing to others.
pub const POLICY: &str = r#"
[[rule]]
groups = ["ops"]
verbs = ["list", "logs", "attach", "exec", "tty", "signal", "metrics"]
tasks = ["*"]
run_as = ["*"]
environment = ["*"]
endpoint = true
"#;

/// The files of an endpoint on 127.0.0.1, in a folder of their own.
#[derive(Debug)]
pub struct Files {
    folder: PathBuf,
    authority: Authority,
    serving: Pair,
    port: u16,
}

impl Files {
    /// New ones in `folder`, which is there, for an endpoint that runs as this user.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn new(folder: &Path, uid: u32, port: u16, policy: &str) -> anyhow::Result<Self> {
        let authority = Authority::new(&folder.join("pki"))?;
        for folder in [folder, &folder.join("pki")] {
            fs::set_permissions(folder, Permissions::from_mode(0o755))
                .with_context(|| format!("open {} to all", folder.display()))?;
        }
        let subject = Subject { name: "exec-endpoint", hosts: &["127.0.0.1", "localhost"], group: None };
        let this = Self {
            serving: authority.issue("endpoint", subject)?,
            folder: folder.to_owned(),
            authority,
            port,
        };
        fs::write(this.policy(), policy).context("write the policy")?;
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(this.audit())
            .context("make a file for the audit")?;
        let files = [
            this.serving.certificate.clone(),
            this.serving.key.clone(),
            this.authority.certificate(),
            this.policy(),
            this.audit(),
        ];
        for file in files {
            chown(&file, Some(Uid::from_raw(uid)), None)
                .with_context(|| format!("give {} to user {uid}", file.display()))?;
        }
        Ok(this)
    }

    /// Where the endpoint serves.
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The policy's file.
    pub fn policy(&self) -> PathBuf {
        self.folder.join("policy.toml")
    }

    /// The audit's file.
    pub fn audit(&self) -> PathBuf {
        self.folder.join("audit.log")
    }

    /// The authority of its own and its clients' certificates.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The endpoint's own certificate and key.
    pub fn serving(&self) -> &Pair {
        &self.serving
    }

    /// The endpoint's arguments, for the executors of this control folder.
    pub fn arguments(&self, control: &Path) -> Vec<String> {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        [
            ("--listen", format!("127.0.0.1:{}", self.port)),
            ("--control-folder", text(control)),
            ("--tls-certificate", text(&self.serving.certificate)),
            ("--tls-key", text(&self.serving.key)),
            ("--client-ca", text(&self.authority.certificate())),
            ("--policy", text(&self.policy())),
            ("--audit", text(&self.audit())),
            ("--url", self.url()),
        ]
        .into_iter()
        .flat_map(|(flag, value)| [flag.to_owned(), value])
        .collect()
    }

    /// Somebody with a new certificate as this user of this group.
    ///
    /// # Errors
    /// Its files cannot be written.
    pub fn client(&self, user: &str, group: &str) -> anyhow::Result<Client> {
        let file = format!("client-{user}-{}", uuid::Uuid::new_v4());
        let subject = Subject { name: user, group: Some(group), hosts: &[] };
        let pair = self.authority.issue(&file, subject)?;
        Client::new(self.url(), self.authority.certificate(), pair, self.folder.join(&file))
    }
}
