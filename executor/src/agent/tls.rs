//! The TLS of the agent's endpoint, from the variables of libprocess.

use tracing::warn;

use super::environment::{TlsEnvironment, Verify};
use crate::tls::{ClientTls, Identity, TlsClient, TlsError, Trust};

/// A client for an agent that is known by its IP address only. Says so once when the agent is not verified.
///
/// # Errors
/// A file cannot be read or does not hold what it should.
pub fn client(tls: &TlsEnvironment, agent: std::net::IpAddr) -> Result<TlsClient, TlsError> {
    let trust = match tls.verify {
        Verify::Agent => Trust::files(tls.ca_file.as_deref(), tls.ca_dir.as_deref())?,
        Verify::Nothing => {
            warn!("the agent's certificate is not verified: LIBPROCESS_SSL_VERIFY_SERVER_CERT is not true");
            Trust::Anybody
        }
    };
    let identity =
        tls.identity.as_ref().map(|files| Identity::files(&files.certificate, &files.key)).transpose()?;
    let config = ClientTls { identity, ..ClientTls::new(trust) }.build();
    Ok(TlsClient::new(config, agent.into()))
}
