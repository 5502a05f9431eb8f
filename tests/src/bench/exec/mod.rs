//! What sessions take: `kubex task exec` through the endpoint into a task, and beside it the peers, in the same run: ssh (a private
//! sshd), kubectl and the dcos CLI against the same endpoint, the dcos CLI and plain requests against a real Mesos agent.
//!
//! ```text
//!  kubex, kubectl, dcos, bench's own client --TLS--> exec-endpoint --control socket--> kube-executor -> process
//!  ssh -> sshd -> process        dcos, plain requests -> Mesos agent -> process        cat | cat, openssl: floors
//! ```
//!
//! | module | what it holds |
//! |---|---|
//! | [`site`] | an executor, a task and an endpoint |
//! | [`client`] | a client of the endpoint in this process |
//! | [`ssh`], [`agent`] | the peers |
//! | [`contender`] | a way to run a command somewhere |
//! | [`command`] | whole commands, and first bytes |
//! | [`bulk`] | 100 MiB each way |
//! | [`many`] | sessions per second, memory, a thousand at once |

pub mod agent;
pub mod bulk;
pub mod client;
pub mod command;
pub mod contender;
pub mod many;
pub mod site;
pub mod ssh;

use super::table::Row;
use super::{Measure, Options, or_failed, tell};
use agent::Agent;
use site::Site;
use ssh::Sshd;

/// All that is measured here.
const ALL: [Measure; 7] = [
    Measure::Exec,
    Measure::FirstByte,
    Measure::Output,
    Measure::Input,
    Measure::Sessions,
    Measure::SessionMemory,
    Measure::Thousand,
];

/// What is measured, and what is measured beside it; a peer that is not there is why.
#[derive(Debug)]
pub struct Contest {
    /// Ours.
    pub site: Site,
    /// Debian's.
    pub sshd: Result<Sshd, String>,
    /// Mesos's.
    pub agent: Result<Agent, String>,
}

/// Measures what is wanted of it.
pub async fn measure(options: &Options) -> Vec<Row> {
    if !options.wants(&ALL) {
        return Vec::new();
    }
    tell("sessions: an endpoint, sshd, and a real Mesos are started");
    let mut contest = match Contest::start(options).await {
        Ok(contest) => contest,
        Err(error) => return vec![Row::failed("sessions", &error)],
    };
    let mut rows = Vec::new();
    if options.wants(&[Measure::SessionMemory]) {
        // First: what sessions leave in an allocator is no memory of an endpoint without any.
        rows.extend(or_failed("memory of sessions", many::memory(&contest).await));
    }
    if options.wants(&[Measure::Exec]) {
        rows.extend(or_failed("whole command", command::whole(options, &contest).await));
    }
    if options.wants(&[Measure::FirstByte]) {
        rows.extend(or_failed("first byte", command::first_byte(options, &contest).await));
    }
    if options.wants(&[Measure::Output]) {
        rows.extend(or_failed("100 MiB of output", bulk::output(options, &contest).await));
    }
    if options.wants(&[Measure::Input]) {
        rows.extend(or_failed("100 MiB of input", bulk::input(options, &contest).await));
    }
    if options.wants(&[Measure::Sessions]) {
        rows.extend(or_failed("sessions per second", many::per_second(&contest).await));
    }
    if options.wants(&[Measure::Thousand]) {
        rows.extend(or_failed("1,000 sessions at once", many::thousand(options, &contest).await));
    }
    if let Err(error) = contest.end().await {
        rows.push(Row::failed("the end of it", &error));
    }
    rows
}

impl Contest {
    async fn start(options: &Options) -> anyhow::Result<Self> {
        let site = Site::start(options).await?;
        let sshd = Sshd::start().await.map_err(|error| format!("{error:#}"));
        let rig = options.wants(&[Measure::Exec, Measure::FirstByte, Measure::Sessions]);
        let agent = if rig { Agent::start(options).await } else { Err(anyhow::anyhow!("not needed")) };
        Ok(Self { site, sshd, agent: agent.map_err(|error| format!("{error:#}")) })
    }

    async fn end(&mut self) -> anyhow::Result<()> {
        if let Ok(agent) = &mut self.agent {
            agent.end().await?;
        }
        self.site.end().await
    }
}
