use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use sha2::{Digest as _, Sha256};
use task::control::Wish;
use tokio_tungstenite::tungstenite::protocol::Message;

use super::stand::{Stand, V4, exec_path};

#[tokio::test]
async fn the_exit_code_of_a_command_is_told_last_in_both_versions() {
    let stand = Stand::new().await;
    for version in [super::stand::V5, V4] {
        for (script, code) in [
            ("echo out; echo err >&2; exit 7", 7),
            ("exit 0", 0),
            ("kill -TERM $$", 143),
            ("kill -9 $$", 137),
        ] {
            let outcome = stand.open(&exec_path(&["sh", "-c", script], ""), version).await.outcome().await;
            assert_eq!((outcome.code(), outcome.close.as_ref().unwrap().0), (Some(code), 1000), "{script}");
            if code == 7 {
                assert_eq!((outcome.text(), outcome.stderr.as_slice()), ("out\n", &b"err\n"[..]));
            }
        }
    }
    stand.empty().await;
}

#[tokio::test]
async fn what_was_written_byte_by_byte_comes_whole() {
    let stand = Stand::new().await;
    let script = "import os\nfor i in range(500000): os.write(1, b'%d' % (i % 10))";
    let expected: Vec<u8> = (0..500_000).map(|i| b'0' + u8::try_from(i % 10).unwrap()).collect();
    for round in 0..4 {
        let outcome = stand.exec(&["python3", "-S", "-E", "-c", script], "").await.outcome().await;
        assert!(outcome.stdout == expected, "round {round}: {} bytes", outcome.stdout.len());
        assert_eq!(outcome.code(), Some(0));
    }
}

#[tokio::test]
async fn twenty_mebibytes_go_both_ways_unchanged_and_the_half_close_ends_the_input_only() {
    let stand = Stand::new().await;
    let client = stand.exec(&["sh", "-c", "cat; echo end >&2"], "stdin=true").await;
    let (mut sink, mut stream) = client.stream.split();
    let sending = tokio::spawn(async move {
        let (mut hash, mut random) = (Sha256::new(), fastrand::Rng::with_seed(7));
        let mut left = 20 << 20;
        while left > 0 {
            let some = random.usize(1..200_000).min(left);
            let mut message = vec![0; 1 + some];
            random.fill(&mut message[1..]);
            hash.update(&message[1..]);
            left -= some;
            sink.send(Message::binary(message)).await.unwrap();
        }
        sink.send(Message::binary(vec![255, 0])).await.unwrap();
        (hash.finalize(), sink)
    });
    let (mut hash, mut status, mut errors) = (Sha256::new(), None, vec![]);
    while let Some(Ok(message)) = stream.next().await {
        if let Message::Binary(bytes) = message {
            match bytes[0] {
                1 => hash.update(&bytes[1..]),
                2 => errors.extend_from_slice(&bytes[1..]),
                _ => status = Some(bytes),
            }
        }
    }
    assert_eq!(sending.await.unwrap().0, hash.finalize());
    assert_eq!((errors.as_slice(), status.unwrap()[0]), (&b"end\n"[..], 3));
}

#[tokio::test]
async fn without_stdin_the_command_reads_its_end_and_input_is_ignored() {
    let stand = Stand::new().await;
    let mut client = stand.exec(&["sh", "-c", "cat; echo done"], "").await;
    client.send(0, b"ignored").await;
    assert_eq!(client.outcome().await.text(), "done\n");
}

#[tokio::test]
async fn a_command_that_does_not_read_its_input_still_ends() {
    let stand = Stand::new().await;
    let mut client = stand.exec(&["sh", "-c", "exec <&-; sleep 0.1; exit 5"], "stdin=true").await;
    for _ in 0..8 {
        client.send(0, &[0; 65536]).await;
    }
    assert_eq!(client.outcome().await.code(), Some(5));
}

#[tokio::test]
async fn output_that_is_not_wanted_is_read_away() {
    let stand = Stand::new().await;
    let path = exec_path(&["sh", "-c", "head -c 300000 /dev/zero; head -c 300000 /dev/zero >&2; exit 4"], "");
    let path = path.replace("stdout=true&stderr=true", "stdin=true");
    let outcome = stand.open(&path, V4).await.outcome().await;
    assert_eq!((outcome.code(), outcome.stdout.len() + outcome.stderr.len()), (Some(4), 0));
}

#[tokio::test]
async fn the_terminal_has_its_size_before_the_command_starts() {
    let stand = Stand::new().await;
    let told = stand.exec(&["stty", "size"], "tty=true&rows=33&cols=111").await.outcome().await;
    assert_eq!((told.text(), told.code()), ("33 111\r\n", Some(0)));
    let mut client = stand.exec(&["stty", "size"], "stdin=true&tty=true").await;
    client.send(4, br#"{"Width":101,"Height":44}"#).await;
    assert_eq!(client.outcome().await.text(), "44 101\r\n");
    let never = stand.exec(&["stty", "size"], "stdin=true&tty=true").await.outcome().await;
    assert_eq!(never.text(), "24 80\r\n");
}

#[tokio::test]
async fn input_before_the_first_size_is_kept() {
    let stand = Stand::new().await;
    let mut client = stand.exec(&["head", "-n1"], "stdin=true&tty=true").await;
    client.send(0, b"early\n").await;
    assert!(client.outcome().await.text().ends_with("early\r\n"));
}

#[tokio::test]
async fn a_late_size_reaches_the_command() {
    let stand = Stand::new().await;
    let script = "trap 'stty size; exit 0' WINCH; echo ready; while :; do sleep 0.02; done";
    let mut client = stand.exec(&["bash", "-c", script], "stdin=true&tty=true&rows=1&cols=1").await;
    let mut text = vec![];
    while !text.starts_with(b"ready") {
        text.extend(client.next().await.1);
    }
    client.send(4, br#"{"Width":0,"Height":0}"#).await;
    client.send(4, br#"{"Width":90,"Height":30}"#).await;
    assert_eq!(client.outcome().await.text(), "30 90\r\n");
}

#[tokio::test]
async fn the_half_close_ends_a_terminals_input_amid_a_line_too() {
    let stand = Stand::new().await;
    for input in ["a line\n", "half a line", ""] {
        let mut client = stand.exec(&["cat"], "stdin=true&tty=true&rows=9&cols=9").await;
        client.send(0, input.as_bytes()).await;
        client.send(255, &[0]).await;
        let outcome = client.outcome().await;
        assert_eq!(outcome.code(), Some(0));
        assert!(outcome.text().matches(input.trim_end()).count() >= 2 || input.is_empty());
    }
}

#[tokio::test]
async fn all_that_a_terminal_showed_comes_before_its_end() {
    let stand = Stand::new().await;
    let outcome = stand.exec(&["seq", "20000"], "tty=true&rows=9&cols=9").await.outcome().await;
    let expected: String = (1..=20000).map(|i| format!("{i}\r\n")).collect();
    assert!(outcome.text() == expected, "{} bytes", outcome.text().len());
}

#[tokio::test]
async fn a_refused_start_and_every_cut_is_a_failure_with_its_reason() {
    let stand = Stand::new().await;
    for (command, reason, output) in
        [("@refuse", "StartError", ""), ("@cut", "TaskEnded", "before"), ("@lost", "Lost", "")]
    {
        let outcome = stand.exec(&[command], "").await.outcome().await;
        assert_eq!((outcome.reason(), outcome.code(), outcome.text()), (reason, None, output));
    }
    let missing = stand.exec(&["/nowhere/at/all"], "").await.outcome().await;
    assert_eq!(missing.status.unwrap()["message"], "it cannot be started");
}

#[tokio::test]
async fn exit_and_end_of_output_may_come_in_either_order() {
    let stand = Stand::new().await;
    let late = stand.exec(&["@late"], "").await.outcome().await;
    assert_eq!((late.text(), late.code()), ("late", Some(3)));
    let early = stand.exec(&["sh", "-c", "exec >&- 2>&-; sleep 0.1; exit 6"], "").await.outcome().await;
    assert_eq!(early.code(), Some(6));
}

#[tokio::test(start_paused = true)]
async fn an_output_that_somebody_holds_open_does_not_hold_the_end() {
    let stand = Stand::new().await;
    let outcome = stand.exec(&["@leaky"], "").await.outcome().await;
    assert_eq!((outcome.text(), outcome.code()), ("before", Some(0)));
}

#[tokio::test]
async fn a_slow_client_still_gets_all() {
    let stand = Stand::new().await;
    let mut client = stand.exec(&["head", "-c", "9000000", "/dev/zero"], "").await;
    assert_eq!(client.next().await.0, 1);
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let outcome = client.outcome().await;
    assert_eq!(outcome.code(), Some(0));
    assert!(outcome.stdout.len() > 9_000_000 - 300_000);
}

#[tokio::test]
async fn a_signal_reaches_the_sessions_process_and_the_task() {
    let stand = Stand::new().await;
    let script = "trap 'echo got; exit 9' USR1; echo ready; while :; do sleep 0.02; done";
    let mut client = stand.exec(&["bash", "-c", script], "").await;
    assert_eq!(client.next().await, (1, b"ready\n".to_vec()));
    let path = format!("/kubex/v1/tasks/etcd-0-peer/signal?signal=USR1&session={}", client.session);
    assert_eq!(stand.plain("POST", &path, "").await.0, 200);
    let outcome = client.outcome().await;
    assert_eq!((outcome.text(), outcome.code()), ("got\n", Some(9)));
    stand.empty().await;
    assert_eq!(stand.plain("POST", &path, "").await.0, 404);
    let task = "/kubex/v1/tasks/etcd-0/signal?signal=15";
    assert_eq!(stand.plain("POST", task, "").await.1["status"], "Success");
    let seen = stand.executor.seen.lock().unwrap();
    assert_eq!((seen.signals[0].1, seen.signals.len(), &seen.wishes), (15, 1, &vec![Wish::Signal(10)]));
}
