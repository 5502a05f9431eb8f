//! Whole commands, from the start of a client to its end; and first bytes, from a request on a connection that is there.

use std::time::Instant;

use tokio::time::sleep;

use super::agent::Until;
use super::client::{STDOUT, Session};
use super::contender::{Contender, Input, timed};
use super::{Contest, Options, tell};
use crate::bench::stand::IDLE;
use crate::bench::table::{Row, Samples};

/// How often a slow peer is asked at most.
const PEER_ROUNDS: usize = 20;

/// Measures `exec T true` of each, in turn.
///
/// # Errors
/// kubex's own does not succeed.
pub async fn whole(options: &Options, contest: &Contest) -> anyhow::Result<Vec<Row>> {
    tell("whole commands");
    let contenders = [
        contest.kubex(),
        contest.ssh(),
        contest.ssh_mux(),
        contest.kubectl(),
        contest.dcos(),
        contest.dcos_on_mesos(),
    ];
    let mut samples: Vec<anyhow::Result<Samples>> =
        contenders.iter().map(|_| Ok(Samples::default())).collect();
    for round in 0..options.rounds {
        for (at, (contender, samples)) in contenders.iter().zip(&mut samples).enumerate() {
            if at > 0 && round >= PEER_ROUNDS {
                continue;
            }
            if let Ok(so_far) = samples {
                sleep(IDLE).await;
                match once(contender).await {
                    Ok(took) => so_far.push(took),
                    Err(error) => *samples = Err(error),
                }
            }
        }
    }
    Ok(rows(
        [
            "kubex task exec T true",
            "< 12 ms median",
            "the whole process, a new connection; all peers in turn",
        ],
        &contenders,
        samples,
    ))
}

async fn once(contender: &Contender<'_>) -> anyhow::Result<std::time::Duration> {
    let command = contender.command(Input::None, &["true"])?;
    tokio::task::spawn_blocking(move || timed(command)).await?
}

/// The table's lines: the first is ours, the others say how many times ours they take.
fn rows(
    [measure, target, how]: [&'static str; 3],
    contenders: &[Contender<'_>],
    samples: Vec<anyhow::Result<Samples>>,
) -> Vec<Row> {
    let ours = samples.first().and_then(|first| first.as_ref().ok()).map(Samples::median);
    let row = |(at, (contender, samples)): (usize, (&Contender<'_>, anyhow::Result<Samples>))| {
        let name = if at == 0 { measure } else { contender.name };
        match samples {
            Err(error) => Row::failed(name, &error),
            Ok(samples) => Row {
                measure: name,
                target: if at == 0 { target } else { "" },
                measured: samples.to_string(),
                beside: match ours {
                    Some(ours) if at > 0 => times(samples.median().as_secs_f64() / ours.as_secs_f64()),
                    _ => String::new(),
                },
                how: if at == 0 { how } else { contender.how }.to_owned(),
            },
        }
    };
    contenders.iter().zip(samples).enumerate().map(row).collect()
}

/// A ratio to ours.
pub fn times(ratio: f64) -> String {
    format!("{ratio:.2} x ours")
}

/// Measures how long the first output takes on a connection that is there.
///
/// # Errors
/// Ours does not come.
pub async fn first_byte(options: &Options, contest: &Contest) -> anyhow::Result<Vec<Row>> {
    tell("first bytes");
    let path = contest.site.exec(false, &["echo", "x"]);
    let (mut ours, mut theirs) = (Samples::default(), contest.agent.as_ref().map(|_| Samples::default()));
    for round in 0..options.rounds {
        let connection = contest.site.tls.connect().await?;
        sleep(IDLE).await;
        let began = Instant::now();
        let mut session = Session::on(connection, &path).await?;
        while session.next().await?.0 != STDOUT {}
        ours.push(began.elapsed());
        session.end().await?;
        if let (Ok(agent), Ok(samples)) = (&contest.agent, &mut theirs)
            && round < PEER_ROUNDS
        {
            let caller = agent.caller();
            let connection = caller.connect().await?;
            sleep(IDLE).await;
            let began = Instant::now();
            caller.session_on(connection, "echo x", Until::FirstByte).await?;
            samples.push(began.elapsed());
        }
    }
    let name = "  Mesos agent";
    let peer = match theirs {
        Err(why) => Row::failed(name, &anyhow::anyhow!("{why}")),
        Ok(samples) => Row {
            measure: name,
            target: "",
            measured: samples.to_string(),
            beside: times(samples.median().as_secs_f64() / ours.median().as_secs_f64()),
            how: "LAUNCH_NESTED_CONTAINER_SESSION on a TCP connection -> first record with output".to_owned(),
        },
    };
    let row = Row {
        measure: "exec T echo x: first byte",
        target: "< 4 ms",
        measured: ours.to_string(),
        beside: String::new(),
        how: "request on an established TLS connection -> first output frame".to_owned(),
    };
    Ok(vec![row, peer])
}
