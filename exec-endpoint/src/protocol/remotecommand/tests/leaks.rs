use super::stand::Stand;

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[tokio::test]
async fn three_hundred_opens_and_drops_leave_nothing() {
    let stand = Stand::new().await;
    stand.exec(&["true"], "").await.outcome().await;
    let before = descriptors();
    for round in 0..300 {
        let query = if round % 2 == 0 { "stdin=true" } else { "stdin=true&tty=true&rows=1&cols=1" };
        match round % 3 {
            0 => drop(stand.exec(&["sleep", "1000"], query).await),
            1 => {
                let mut client = stand.exec(&["cat"], query).await;
                client.send(0, b"x\n").await;
                client.next().await;
            }
            _ => drop(stand.exec(&["@refuse"], query).await.outcome().await),
        }
    }
    stand.empty().await;
    let mut rounds = 0;
    // Other tests of this process have some of their own.
    while descriptors() > before + 60 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        rounds += 1;
        assert!(rounds < 1000, "{} descriptors are left", descriptors() - before);
    }
}
