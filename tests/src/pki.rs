//! Certificates and keys in files, as Kubernetes wants them. Keys are ECDSA P-256, files of keys are for root only.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};

/// A certificate authority and the folder it writes to.
#[derive(Debug)]
pub struct Authority {
    folder: PathBuf,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// The files of a certificate and its key, in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// The files of a key that no certificate is about, in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFiles {
    /// The key.
    pub key: PathBuf,
    /// Its public half.
    pub public: PathBuf,
}

/// Whom a certificate is for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Subject<'a> {
    /// The common name.
    pub name: &'a str,
    /// The organisation, which is the group of a Kubernetes user.
    pub group: Option<&'a str>,
    /// Addresses and names of a server; none for a client.
    pub hosts: &'a [&'a str],
}

impl Authority {
    /// A new one; its certificate is `ca.crt` in `folder`, which is made.
    ///
    /// # Errors
    /// The files could not be written.
    pub fn new(folder: &Path) -> anyhow::Result<Self> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .with_context(|| format!("create {}", folder.display()))?;
        let mut params = params(Subject { name: "kube-executor-tests", ..Subject::default() })?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let authority = Self { folder: folder.to_owned(), issuer };
        write(&authority.certificate(), &authority.issuer.pem())?;
        Ok(authority)
    }

    /// The file of its certificate.
    pub fn certificate(&self) -> PathBuf {
        self.folder.join("ca.crt")
    }

    /// A new key with a certificate for `subject`, in `<file>.crt` and `<file>.key`.
    ///
    /// # Errors
    /// A host is no name and no address, or the files could not be written.
    pub fn issue(&self, file: &str, subject: Subject<'_>) -> anyhow::Result<Pair> {
        self.issue_with(file, subject, |_| {})
    }

    /// As [`Authority::issue`], with what is changed before it is signed.
    ///
    /// # Errors
    /// As [`Authority::issue`].
    pub fn issue_with(
        &self,
        file: &str,
        subject: Subject<'_>,
        change: impl FnOnce(&mut CertificateParams),
    ) -> anyhow::Result<Pair> {
        let place = |ending: &str| self.folder.join(format!("{file}.{ending}"));
        let (pair, key) = (Pair { certificate: place("crt"), key: place("key") }, KeyPair::generate()?);
        let mut params = params(subject)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = if subject.hosts.is_empty() {
            vec![ExtendedKeyUsagePurpose::ClientAuth]
        } else {
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth]
        };
        change(&mut params);
        write(&pair.key, &key.serialize_pem())?;
        write(&pair.certificate, &params.signed_by(&key, &self.issuer)?.pem())?;
        Ok(pair)
    }

    /// A new key by itself, in `<file>.key` (PKCS #8), and its public half, in `<file>.pub`.
    ///
    /// # Errors
    /// The files could not be written.
    pub fn new_key(&self, file: &str) -> anyhow::Result<KeyFiles> {
        let place = |ending: &str| self.folder.join(format!("{file}.{ending}"));
        let (files, key) = (KeyFiles { key: place("key"), public: place("pub") }, KeyPair::generate()?);
        write(&files.key, &key.serialize_pem())?;
        write(&files.public, &key.public_key_pem())?;
        Ok(files)
    }
}

fn params(subject: Subject<'_>) -> anyhow::Result<CertificateParams> {
    let hosts: Vec<String> = subject.hosts.iter().map(|&host| host.to_owned()).collect();
    let mut params = CertificateParams::new(hosts)?;
    params.distinguished_name.push(DnType::CommonName, subject.name);
    if let Some(group) = subject.group {
        params.distinguished_name.push(DnType::OrganizationName, group);
    }
    Ok(params)
}

fn write(path: &Path, pem: &str) -> anyhow::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("create {}", path.display()))?;
    file.write_all(pem.as_bytes()).with_context(|| format!("write {}", path.display()))
}
