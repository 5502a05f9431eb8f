//! Whether the server lives.

use std::cell::Cell;
use std::time::Duration;

use tokio::sync::mpsc;

use super::Urgent;

/// How often it is looked whether the server lives.
const LOOK: Duration = Duration::from_secs(5);
/// After how many looks without a sign of life the connection counts as lost: 45 s; the server pings every 15 s.
const LOOKS: u32 = 9;
/// After this silence a connection counts as lost.
pub(crate) const LONGEST: Duration = Duration::from_secs(LOOK.as_secs() * LOOKS as u64);

/// Whether anything comes, for [`silence`].
#[derive(Debug, Default)]
pub(crate) struct Activity {
    /// How often something was read.
    pub(crate) reads: Cell<u64>,
    /// Nobody reads our output: then we do not read the wire, and its silence says nothing.
    pub(crate) blocked: Cell<bool>,
}

/// Returns when the server has shown no sign of life for too long.
pub(crate) async fn silence(activity: &Activity, urgent: &mpsc::Sender<Urgent>) {
    let (mut last, mut silent, mut blocked) = (activity.reads.get(), 0, 0);
    while silent < LOOKS {
        tokio::time::sleep(LOOK).await;
        let reads = activity.reads.get();
        if activity.blocked.get() {
            // The server's pings lie unread behind its output: it must know that we live all the same.
            blocked += 1;
            if blocked % 3 == 0 {
                let _ = urgent.try_send(Urgent::Pong(Vec::new()));
            }
            silent = 0;
        } else {
            silent = if reads == last { silent + 1 } else { 0 };
        }
        last = reads;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_server_that_says_nothing_for_45_s_is_lost() {
        let (urgent, _waiting) = mpsc::channel(1);
        let began = tokio::time::Instant::now();
        silence(&Activity::default(), &urgent).await;
        assert_eq!(began.elapsed(), Duration::from_secs(45));
    }

    #[tokio::test(start_paused = true)]
    async fn a_ping_now_and_then_keeps_it() {
        let (urgent, _waiting) = mpsc::channel(1);
        let activity = Activity::default();
        let pings = async {
            for _ in 0..20 {
                tokio::time::sleep(Duration::from_secs(40)).await;
                activity.reads.set(activity.reads.get() + 1);
            }
        };
        tokio::select! {
            () = silence(&activity, &urgent) => panic!("lost"),
            () = pings => {}
        }
    }

    #[tokio::test(start_paused = true)]
    async fn while_nobody_reads_our_output_the_server_hears_that_we_live_every_15_s() {
        let (urgent, mut waiting) = mpsc::channel(1);
        let activity = Activity::default();
        activity.blocked.set(true);
        let began = tokio::time::Instant::now();
        let pongs = async {
            for _ in 0..10 {
                assert!(matches!(waiting.recv().await, Some(Urgent::Pong(_))));
            }
        };
        tokio::select! {
            () = silence(&activity, &urgent) => panic!("lost"),
            () = pongs => {}
        }
        assert_eq!(began.elapsed(), Duration::from_secs(150));
    }
}
