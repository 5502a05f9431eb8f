//! What is read from files, and read again when they change; and the audit.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::audit::{Audit, AuditError};
use crate::config::Config;
use crate::gate::Gate;
use crate::identity::{Authenticator, Tokens, TokensFile, TokensLoadError};
use crate::metrics::{File, Metrics};
use crate::policy::{Policy, PolicyFile, PolicyLoadError};
use crate::reload::{self, Poll, Reloading};
use crate::tls::{Tls, TlsError, TlsFiles};

/// All of it.
#[derive(Debug)]
pub struct Loaded {
    /// Certificates.
    pub tls: Arc<Tls>,
    tokens: Option<Arc<Reloading<Tokens>>>,
    policy: Arc<Reloading<Policy>>,
    audit: Arc<Audit>,
}

/// Something cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Certificates.
    #[error("load the certificates: {0}")]
    Tls(#[from] TlsError),
    /// Tokens.
    #[error("load the tokens: {0}")]
    Tokens(#[from] TokensLoadError),
    /// The policy.
    #[error("load the policy: {0}")]
    Policy(#[from] PolicyLoadError),
    /// The audit.
    #[error("open the audit: {0}")]
    Audit(#[from] AuditError),
}

impl Loaded {
    /// Reads them for the first time.
    ///
    /// # Errors
    /// [`LoadError`]: the first that cannot be used.
    pub fn load(config: &Config) -> Result<Self, LoadError> {
        let Config { tls_certificate, tls_key, client_ca, tokens, policy, audit, .. } = config;
        let files = TlsFiles {
            certificate: tls_certificate.clone(),
            key: tls_key.clone(),
            client_ca: client_ca.clone(),
        };
        let tokens = tokens.clone().map(|file| Reloading::load(TokensFile(file))).transpose()?;
        Ok(Self {
            tls: Arc::new(Tls::load(files)?),
            tokens: tokens.map(Arc::new),
            policy: Arc::new(Reloading::load(PolicyFile(policy.clone()))?),
            audit: Arc::new(Audit::open(audit)?),
        })
    }

    /// Who is who, at each moment.
    pub fn authenticator(&self) -> Authenticator {
        Authenticator::new(self.tokens.as_ref().map(|tokens| tokens.subscribe()))
    }

    /// Who may do what, at each moment.
    pub fn gate(&self) -> Gate {
        Gate::new(self.policy.subscribe(), self.audit.clone())
    }

    /// Reads what changes. Never ends by itself.
    ///
    /// # Errors
    /// As of [`reload::run`].
    pub async fn follow(&self) -> io::Result<Infallible> {
        reload::run(self.sources(), self.audit.clone()).await
    }

    /// Puts how that went into the metrics.
    pub fn observe(&self, metrics: &Metrics) {
        for source in self.sources() {
            let reloaded = source.reloaded();
            let file = File { file: reloaded.name };
            metrics.loads.get_or_create(&file).inner().store(reloaded.loads, Ordering::Relaxed);
            metrics.load_failures.get_or_create(&file).inner().store(reloaded.failures, Ordering::Relaxed);
            metrics.stale.get_or_create(&file).set(i64::from(reloaded.last_error.is_some()));
        }
        metrics.certificate_expiry.set(self.tls.expires());
        metrics.audit_failures.inner().store(self.audit.failures(), Ordering::Relaxed);
    }

    fn sources(&self) -> Vec<Arc<dyn Poll>> {
        let tokens = self.tokens.iter().map(|tokens| tokens.clone() as Arc<dyn Poll>);
        tokens.chain([self.tls.source(), self.policy.clone()]).collect()
    }
}
