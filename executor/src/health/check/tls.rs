//! The TLS of checks: whom they trust, who they are, read from files when they are needed and when they have changed.

use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;

use crate::spec::{ProbeTls, ProbeTrust};
use crate::text::chain;
use crate::tls::{ClientTls, Identity, Sessions, TlsClient, TlsError, Trust};

/// What the last check of one probe made of its files; empty at first.
#[derive(Debug, Default)]
pub struct TlsCache {
    built: Option<Built>,
}

#[derive(Debug)]
struct Built {
    stamps: Vec<Stamp>,
    config: Arc<ClientConfig>,
}

/// What changes when a file does.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    file: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl TlsCache {
    /// The client side for `tls`, as its files are now; `protocols` are offered by ALPN.
    pub(super) fn config(
        &mut self,
        tls: &ProbeTls,
        protocols: &[&[u8]],
    ) -> Result<Arc<ClientConfig>, String> {
        // Before the files are read: a change in between is then seen the next time.
        let stamps = stamps(tls);
        if let (Some(stamps), Some(built)) = (&stamps, &self.built)
            && built.stamps == *stamps
        {
            return Ok(Arc::clone(&built.config));
        }
        self.built = None;
        let config = client_config(&tls.trust, tls.client.as_ref(), protocols)?;
        self.built = stamps.map(|stamps| Built { stamps, config: Arc::clone(&config) });
        Ok(config)
    }
}

/// The stamps of all files, `None` when one cannot be seen; reading it will tell why.
fn stamps(tls: &ProbeTls) -> Option<Vec<Stamp>> {
    let authority = match &tls.trust {
        ProbeTrust::Anybody => None,
        ProbeTrust::Authority { file, .. } => Some(file),
    };
    let client = tls.client.iter().flat_map(|(certificate, key)| [certificate, key]);
    authority.into_iter().chain(client).map(|path| stamp(path)).collect()
}

fn stamp(path: &Path) -> Option<Stamp> {
    let seen = std::fs::metadata(path).ok()?;
    Some(Stamp {
        file: seen.ino(),
        size: seen.size(),
        modified: (seen.mtime(), seen.mtime_nsec()),
        changed: (seen.ctime(), seen.ctime_nsec()),
    })
}

/// The client side for `trust`, showing `client` (certificate and key file) where it is given. Sessions are not resumed:
/// every check sees the server's certificate.
///
/// # Errors
/// A text that names the file and what is wrong with it.
pub(super) fn client_config(
    trust: &ProbeTrust,
    client: Option<&(PathBuf, PathBuf)>,
    protocols: &[&[u8]],
) -> Result<Arc<ClientConfig>, String> {
    let made = || {
        let trust = match trust {
            ProbeTrust::Anybody => Trust::Anybody,
            ProbeTrust::Authority { file, .. } => Trust::file(file)?,
        };
        let identity = client.map(|(certificate, key)| Identity::files(certificate, key)).transpose()?;
        Ok(ClientTls { trust, identity, sessions: Sessions::Fresh, protocols }.build())
    };
    made().map_err(|error: TlsError| chain(&error))
}

/// Shakes hands as the client of the server at `ip`.
pub(super) async fn connect<S>(
    config: Arc<ClientConfig>,
    tls: &ProbeTls,
    ip: IpAddr,
    stream: S,
) -> Result<TlsStream<S>, String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let name = match &tls.trust {
        ProbeTrust::Authority { name: Some(name), .. } => {
            ServerName::try_from(name.clone()).map_err(|error| format!("server name {name:?}: {error}"))?
        }
        ProbeTrust::Authority { name: None, .. } | ProbeTrust::Anybody => ServerName::from(ip),
    };
    TlsClient::new(config, name)
        .connect(stream)
        .await
        .map_err(|error| format!("TLS handshake: {}", chain(&error)))
}
