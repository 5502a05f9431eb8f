use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use tokio_tungstenite::tungstenite::protocol::Message;

use super::stand::Stand;
use crate::session::timing::Timing;

async fn given_up(stand: &Stand) {
    while stand.executor.seen.lock().unwrap().given_up == 0 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_vanishes_without_a_word_is_dead_after_45_seconds() {
    let stand = Stand::new().await;
    let started = tokio::time::Instant::now();
    let client = stand.exec(&["@silent"], "stdin=true").await;
    given_up(&stand).await;
    let lasted = started.elapsed();
    assert!((45..47).contains(&lasted.as_secs()), "{lasted:?}");
    let outcome = client.outcome().await;
    assert_eq!(
        (outcome.reason(), outcome.close.as_ref().unwrap().1.as_str()),
        ("Dead", "dead: no answer to pings for 45s")
    );
}

#[tokio::test(start_paused = true)]
async fn a_client_that_answers_pings_lives_until_the_idle_clock() {
    let timing = Timing { idle: Some(Duration::from_secs(3600)), ..Timing::default() };
    let stand = Stand::with(timing).await;
    let started = tokio::time::Instant::now();
    let outcome = stand.exec(&["@silent"], "").await.outcome().await;
    assert!((3600..3620).contains(&started.elapsed().as_secs()));
    assert_eq!(
        (outcome.reason(), outcome.close.as_ref().unwrap().1.as_str()),
        ("Idle", "idle: no input or output for 3600s")
    );
}

#[tokio::test(start_paused = true)]
async fn a_session_has_an_age() {
    let timing = Timing { age: Some(Duration::from_secs(600)), ..Timing::default() };
    let stand = Stand::with(timing).await;
    let outcome = stand.exec(&["@silent"], "").await.outcome().await;
    assert_eq!((outcome.reason(), outcome.code()), ("TooOld", None));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_given_up_after_30_seconds_though_it_sends() {
    let stand = Stand::new().await;
    let client = stand.exec(&["@flood"], "stdin=true").await;
    let (mut sink, _stream) = client.stream.split();
    let sending = tokio::spawn(async move {
        while sink.send(Message::Pong(vec![].into())).await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    given_up(&stand).await;
    stand.empty().await;
    sending.abort();
}

#[tokio::test(start_paused = true)]
async fn input_that_the_process_does_not_take_is_held_back_and_the_client_not_taken_for_dead() {
    let stand = Stand::new().await;
    let mut client = stand.exec(&["@silent"], "stdin=true").await;
    let mut sent = 0_usize;
    while tokio::time::timeout(Duration::from_secs(200), client.send(0, &[0; 100_000])).await.is_ok() {
        sent += 100_000;
        assert!(sent < 64 << 20, "the input is not held back");
    }
    assert_eq!(stand.endpoint.registry.living(), 1);
    drop(client);
}

#[tokio::test]
async fn a_stopping_endpoint_tells_its_sessions_and_takes_no_more() {
    let stand = Stand::new().await;
    let client = stand.exec(&["sleep", "1000"], "").await;
    let (outcome, ()) = tokio::join!(client.outcome(), stand.endpoint.registry.drain());
    assert_eq!((outcome.reason(), outcome.close.as_ref().unwrap().0), ("Draining", 1001));
    let headers = "connection: upgrade, close\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                   sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-protocol: v4.channel.k8s.io\r\n";
    let (status, body) = stand.plain("GET", &super::stand::exec_path(&["true"], ""), headers).await;
    assert_eq!((status, &body["reason"]), (503, &"ServiceUnavailable".into()));
}
