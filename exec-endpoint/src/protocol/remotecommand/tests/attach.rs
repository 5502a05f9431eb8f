use super::stand::{Stand, V5};

const PATH: &str = "/kubex/v1/tasks/etcd-0-peer/attach?stdout=true&stderr=true";

#[tokio::test]
async fn an_attachment_shows_what_comes_tells_what_was_lost_and_ends_well_with_its_task() {
    let stand = Stand::new().await;
    let mut client = stand.open(&format!("{PATH}&stdin=true"), V5).await;
    let signal = format!("/kubex/v1/tasks/etcd-0-peer/signal?signal=15&session={}", client.session);
    assert_eq!(stand.plain("POST", &signal, "").await.0, 409);
    client.send(0, b"echo\n").await;
    let (mut stdout, mut stderr) = (vec![], vec![]);
    while !stdout.ends_with(b"echo\n") || stderr.is_empty() {
        match client.next().await {
            (1, bytes) => stdout.extend(bytes),
            (_, bytes) => stderr.extend(bytes),
        }
    }
    assert_eq!(
        (stdout.as_slice(), stderr.as_slice()),
        (&b"hello\necho\n"[..], &b"[5 bytes of output were lost]\n"[..])
    );
    client.send(255, &[0]).await;
    let outcome = client.outcome().await;
    assert_eq!(outcome.status.unwrap()["message"], "the task ended");
    assert_eq!(outcome.close.as_ref().unwrap().0, 1000);
}

#[tokio::test]
async fn an_attachment_that_is_left_is_given_up() {
    let stand = Stand::new().await;
    let mut client = stand.open(PATH, V5).await;
    client.next().await;
    drop(client);
    stand.empty().await;
    while stand.executor.seen.lock().unwrap().given_up == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}
