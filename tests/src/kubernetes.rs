//! etcd and kube-apiserver as tasks, and kubectl: unmodified binaries, everything on 127.0.0.1.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail};
use mesos::common::{Blob, TaskInfo};
use serde_json::json;
use task::settings::{Check, CheckTls, HttpCheck, TaskSettings};

use crate::describe::{TaskInfoExt as _, argv_task, shell_task};
use crate::pki::{Authority, KeyFiles, Pair, Subject};
use crate::rig::{cache_folder, free_ports};

/// The network of Services, and its first address, which is the API's own.
const SERVICES: (&str, &str) = ("10.96.0.0/16", "10.96.0.1");
/// The time between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(10);

/// The binaries of one Kubernetes version, as `make kubernetes` builds them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binaries(PathBuf);

impl Binaries {
    /// Those of `version`.
    ///
    /// # Errors
    /// One of `needed` is not built.
    pub fn built(version: &str, needed: &[&str]) -> anyhow::Result<Self> {
        let folder = cache_folder().join("kubernetes").join(version).join("bin");
        if let Some(missing) = needed.iter().map(|name| folder.join(name)).find(|path| !path.is_file()) {
            bail!("{} is missing: run `make kubernetes KUBERNETES={version}`", missing.display());
        }
        Ok(Self(folder))
    }

    /// The path of one.
    pub fn path(&self, name: &str) -> String {
        self.0.join(name).to_string_lossy().into_owned()
    }
}

/// One etcd member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Etcd {
    /// Where clients connect.
    pub client_port: u16,
    /// Where other members would.
    pub peer_port: u16,
    /// Where checks and metrics are.
    pub metrics_port: u16,
}

impl Etcd {
    /// On ports that are free now.
    ///
    /// # Errors
    /// No port is free.
    pub fn on_free_ports() -> anyhow::Result<Self> {
        let ports = free_ports(3)?;
        Ok(Self { client_port: ports[0], peer_port: ports[1], metrics_port: ports[2] })
    }

    /// Where clients connect.
    pub fn url(&self) -> String {
        local(self.client_port)
    }

    /// The task `name`, whose data are in its data folder.
    pub fn task(&self, binaries: &Binaries, name: &str) -> TaskInfo {
        let (client, peer, metrics) = (self.url(), local(self.peer_port), local(self.metrics_port));
        let flags = [
            format!("--name={name}"),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster={name}={peer}"),
            format!("--listen-metrics-urls={metrics}"),
        ];
        let etcd = quoted(&binaries.path("etcd"));
        let text = format!(r#"exec {etcd} --data-dir="$KUBE_EXECUTOR_DATA/etcd" {}"#, flags.join(" "));
        let check = |role: &str, path: &str| check(role, self.metrics_port, path, None);
        let liveness = Check { grace_period_seconds: Some(30.0), ..check("liveness", "/livez") };
        shell_task(name, &text).cpus(0.5).mem(512.0).disk(1024.0).grace(GRACE).settings(&TaskSettings {
            checks: vec![check("readiness", "/readyz"), liveness],
            ..TaskSettings::default()
        })
    }
}

/// One kube-apiserver with its certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiServer {
    port: u16,
    authority: PathBuf,
    serving: Pair,
    admin: Pair,
    service_account: KeyFiles,
}

impl ApiServer {
    /// On a port that is free now, with new certificates in `folder`.
    ///
    /// # Errors
    /// No port is free, or the files could not be written.
    pub fn new(folder: &Path) -> anyhow::Result<Self> {
        let authority = Authority::new(folder)?;
        let names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost"];
        let hosts = ["127.0.0.1", SERVICES.1].into_iter().chain(names).collect::<Vec<_>>();
        Ok(Self {
            port: free_ports(1)?[0],
            serving: authority.issue(
                "apiserver",
                Subject { name: "kube-apiserver", hosts: &hosts, ..Subject::default() },
            )?,
            admin: authority.issue(
                "admin",
                Subject { name: "admin", group: Some("system:masters"), ..Subject::default() },
            )?,
            service_account: authority.new_key("service-account")?,
            authority: authority.certificate(),
        })
    }

    /// The task `name`.
    pub fn task(&self, binaries: &Binaries, name: &str, etcd: &Etcd) -> TaskInfo {
        let tls = CheckTls { ca: Some(text(&self.authority)), ..CheckTls::default() };
        let check = |role: &str, path: &str| check(role, self.port, path, Some(tls.clone()));
        let startup = Check { failures: Some(120), ..check("startup", "/livez?exclude=etcd") };
        let command = [vec![binaries.path("kube-apiserver")], self.flags(etcd)].concat();
        argv_task(name, &command).cpus(1.0).mem(2048.0).disk(64.0).grace(GRACE).settings(&TaskSettings {
            checks: vec![startup, check("readiness", "/readyz"), check("liveness", "/livez?exclude=etcd")],
            ..TaskSettings::default()
        })
    }

    fn flags(&self, etcd: &Etcd) -> Vec<String> {
        let flag = |name: &str, value: &str| format!("--{name}={value}");
        let file = |name: &str, path: &Path| format!("--{name}={}", path.display());
        vec![
            flag("etcd-servers", &etcd.url()),
            flag("bind-address", "127.0.0.1"),
            flag("secure-port", &self.port.to_string()),
            // Only nodes would need the Service `kubernetes` to lead here, and an endpoint can't be on loopback.
            flag("endpoint-reconciler-type", "none"),
            file("tls-cert-file", &self.serving.certificate),
            file("tls-private-key-file", &self.serving.key),
            file("client-ca-file", &self.authority),
            file("service-account-key-file", &self.service_account.public),
            file("service-account-signing-key-file", &self.service_account.key),
            flag("service-account-issuer", "https://kubernetes.default.svc"),
            flag("service-cluster-ip-range", SERVICES.0),
            flag("authorization-mode", "Node,RBAC"),
            flag("enable-admission-plugins", "NodeRestriction"),
            flag("allow-privileged", "true"),
        ]
    }

    /// Writes a kubeconfig for the administrator, complete in itself, to `path`.
    ///
    /// # Errors
    /// A certificate could not be read, or the file not be written.
    pub fn write_kubeconfig(&self, path: &Path) -> anyhow::Result<()> {
        let data = |path: &Path| fs::read(path).map(Blob).with_context(|| format!("read {}", path.display()));
        // JSON is YAML too.
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "up", "cluster": {
                "server": format!("https://127.0.0.1:{}", self.port),
                "certificate-authority-data": data(&self.authority)?,
            }}],
            "users": [{"name": "admin", "user": {
                "client-certificate-data": data(&self.admin.certificate)?,
                "client-key-data": data(&self.admin.key)?,
            }}],
            "contexts": [{"name": "up", "context": {"cluster": "up", "user": "admin"}}],
            "current-context": "up",
        });
        let text = serde_json::to_string_pretty(&config)?;
        fs::write(path, text).with_context(|| format!("write {}", path.display()))
    }
}

/// Runs kubectl with this kubeconfig and returns what it printed.
///
/// # Errors
/// It could not be started, or ended with another status than 0; the text is what it complained of.
pub async fn kubectl(binaries: &Binaries, kubeconfig: &Path, arguments: &[&str]) -> anyhow::Result<String> {
    let mut command = Command::new(binaries.path("kubectl"));
    command
        .arg("--kubeconfig")
        .arg(kubeconfig)
        .arg("--cache-dir")
        .arg(kubeconfig.with_extension("cache"))
        .arg("--request-timeout=20s")
        .args(arguments);
    let line = format!("kubectl {}", arguments.join(" "));
    let output =
        tokio::task::spawn_blocking(move || command.output()).await?.with_context(|| line.clone())?;
    if !output.status.success() {
        bail!("{line}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn check(role: &str, port: u16, path: &str, tls: Option<CheckTls>) -> Check {
    Check {
        role: role.to_owned(),
        http: Some(HttpCheck { port, path: Some(path.to_owned()), tls, ..HttpCheck::default() }),
        interval_seconds: Some(0.5),
        timeout_seconds: Some(5.0),
        ..Check::default()
    }
}

fn local(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// A word of a shell's text that means `word`.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_word_means_itself() {
        for word in ["/a b/$HOME", "it's", "`x`\\"] {
            let output = Command::new("/bin/sh")
                .args(["-c", &format!("printf %s {}", quoted(word))])
                .output()
                .unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), word);
        }
    }
}
