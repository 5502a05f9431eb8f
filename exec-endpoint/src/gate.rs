//! A right is checked and the audit line opened before anything is answered.
//!
//! ```text
//!  Asked -> policy -> audit line "open" with the verdict -> Granted | Denied
//!  Granted -> ... -> close(Closing) -> audit line "close"        (dropped without: closed as "dropped")
//! ```

mod refusals;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio::time::Instant;
use uuid::Uuid;

use self::refusals::Refusals;
use crate::audit::{Audit, AuditTo, Closed, Opened, Said};
use crate::identity::Who;
use crate::policy::{Policy, Target, Verb, Verdict};

/// Something that somebody wants.
#[derive(Debug, Clone)]
pub struct Asked<'a> {
    /// Who.
    pub who: &'a Who,
    /// From where.
    pub peer: SocketAddr,
    /// All that it needs: exec with a terminal as another user needs three.
    pub verbs: Vec<Verb>,
    /// Of which task; `None` for the endpoint itself.
    pub target: Option<Target<'a>>,
    /// The protocol (`remotecommand`, `kubernetes`, `mesos`).
    pub protocol: &'static str,
    /// The argv, for an exec.
    pub command: &'a [String],
}

/// It is not allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Denied(pub String);

/// How what was granted ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Closing {
    /// The exit code, where there is one.
    pub code: Option<i32>,
    /// Bytes from the client.
    pub bytes_in: u64,
    /// Bytes to the client.
    pub bytes_out: u64,
    /// Why it ended (`exited`, `task ended`, `client went away`, ...).
    pub reason: String,
}

/// Checks rights and writes the audit.
#[derive(Debug)]
pub struct Gate {
    policy: watch::Receiver<Arc<Policy>>,
    audit: Arc<Audit>,
    refusals: Mutex<Refusals>,
}

impl Gate {
    /// With the policy of each moment, and where lines go.
    pub fn new(policy: watch::Receiver<Arc<Policy>>, audit: Arc<Audit>) -> Self {
        Self { policy, audit, refusals: Mutex::default() }
    }

    /// A gate that grants everything to everybody and writes nothing: for unit tests of others only.
    #[doc(hidden)]
    pub fn allowing_everything() -> Self {
        let audit = Audit::open(&AuditTo::Nowhere);
        let audit = audit.unwrap_or_else(|error| unreachable!("nowhere cannot fail: {error}"));
        Self::new(watch::channel(Arc::new(Policy::everything())).1, Arc::new(audit))
    }

    /// Whether it is allowed; the audit line is written before this returns. All verbs must be; the first that is not gives
    /// the sentence. What may not even be [seen](Self::sees) must be answered as if it did not exist, though asked here all the same, for
    /// the audit.
    ///
    /// # Errors
    /// [`Denied`]: with the sentence for the client. Also when the audit cannot be written.
    pub fn ask(&self, asked: &Asked<'_>) -> Result<Granted, Denied> {
        let verdict = judge(&self.policy.borrow(), asked);
        match &verdict {
            Err(sentence) if self.refusals().is_retry(asked, Instant::now()) => {
                return Err(Denied(sentence.clone()));
            }
            _ => {}
        }
        let id = Uuid::new_v4();
        if let Err(error) = self.audit.opened(&opened(id, asked, &verdict)) {
            tracing::error!(%id, user = asked.who.user, %error, "denied: the audit cannot be written");
            return Err(Denied(
                "the audit cannot be written, so nothing is allowed: see the endpoint's log".into(),
            ));
        }
        match verdict {
            Ok(_) => Ok(Granted { id, since: Instant::now(), audit: Some(Arc::clone(&self.audit)) }),
            Err(sentence) => {
                self.refusals().told(asked, Instant::now());
                Err(Denied(sentence))
            }
        }
    }

    /// Whether it is allowed, without an audit line: for what a list shows, and for reads (list, metrics) that are not sessions.
    pub fn allows(&self, who: &Who, verb: &Verb, target: Option<Target<'_>>) -> bool {
        matches!(self.policy.borrow().decide(who, verb, target.as_ref()), Verdict::Allowed { .. })
    }

    /// Whether somebody may do anything at all to a task. If not, the answer to whatever they ask of it is the one for a task
    /// that does not exist, and names are resolved as if it did not.
    pub fn sees(&self, who: &Who, target: Target<'_>) -> bool {
        self.policy.borrow().sees(who, &target)
    }

    fn refusals(&self) -> MutexGuard<'_, Refusals> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// It is allowed. When it ends, [`Granted::close`] writes the second audit line.
#[derive(Debug)]
pub struct Granted {
    id: Uuid,
    since: Instant,
    audit: Option<Arc<Audit>>,
}

impl Granted {
    /// What both of its audit lines have.
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// It ended.
    pub fn close(mut self, closing: &Closing) {
        self.write(closing);
    }

    fn write(&mut self, closing: &Closing) {
        let Some(audit) = self.audit.take() else { return };
        let Closing { code, bytes_in, bytes_out, ref reason } = *closing;
        let duration_ms = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        audit.closed(&Closed { id: self.id, code, bytes_in, bytes_out, duration_ms, reason });
    }
}

impl Drop for Granted {
    fn drop(&mut self) {
        self.write(&Closing { reason: "dropped".into(), ..Closing::default() });
    }
}

/// All verbs, and by which rules; or the first one that is refused. Who asks for nothing gets nothing.
fn judge(policy: &Policy, asked: &Asked<'_>) -> Result<String, String> {
    if asked.verbs.is_empty() {
        return Err(format!("{} asks for nothing", asked.who.user));
    }
    let mut rules = Vec::new();
    for verb in &asked.verbs {
        match policy.decide(asked.who, verb, asked.target.as_ref()) {
            Verdict::Allowed { rule } => rules.push(rule + 1),
            Verdict::Refused(sentence) => return Err(sentence),
        }
    }
    rules.sort_unstable();
    rules.dedup();
    Ok(rules.iter().map(|rule| format!("rule {rule}")).collect::<Vec<_>>().join(", "))
}

fn opened<'a>(id: Uuid, asked: &Asked<'a>, verdict: &'a Result<String, String>) -> Opened<'a> {
    let (said, reason) = match verdict {
        Ok(rules) => (Said::Allowed, rules),
        Err(sentence) => (Said::Refused, sentence),
    };
    Opened {
        id,
        user: &asked.who.user,
        groups: &asked.who.groups,
        peer: asked.peer,
        protocol: asked.protocol,
        verbs: asked.verbs.iter().map(ToString::to_string).collect(),
        framework: asked.target.map(|target| target.framework),
        pod: asked.target.map(|target| target.pod),
        task: asked.target.map(|target| target.task),
        command: asked.command,
        verdict: said,
        reason,
    }
}
