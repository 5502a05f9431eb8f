use super::*;

#[tokio::test]
async fn a_connection_is_a_success_on_both_families() {
    for ip in [V4, V6] {
        let Some((_listener, address)) = listen(ip).await else {
            continue;
        };
        assert_eq!(check_once(&Probe::Tcp(address)).await, Outcome::Success(Observed::Connected(true)));
    }
}

#[tokio::test]
async fn a_refused_connection_is_a_failure_that_is_seen_as_not_connected() {
    for ip in [V4, V6] {
        let Some(address) = closed_port(ip).await else {
            continue;
        };
        let shown = if ip == V4 { "127.0.0.1" } else { "[::1]" };
        let message = format!("TCP check of {shown}:{}: connection refused", address.port);
        let observed = Observed::Connected(false);
        assert_eq!(check_once(&Probe::Tcp(address)).await, Outcome::Failure { message, observed });
    }
}

#[tokio::test]
async fn a_connection_that_is_not_made_in_time_is_a_failure_at_which_nothing_was_seen() {
    // A listener whose queue is full lets further connections wait.
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.bind((V4, 0).into()).expect("bind");
    let listener = socket.listen(1).expect("listen");
    let address = Address { ip: V4, port: listener.local_addr().expect("bound").port() };
    let mut waiting = Vec::new();
    for _ in 0..8 {
        let stream =
            std::net::TcpStream::connect_timeout(&(V4, address.port).into(), Duration::from_millis(200));
        match stream {
            Ok(stream) => waiting.push(stream),
            Err(_) => break,
        }
    }
    let timeout = Duration::from_millis(50);
    let outcome =
        check(&Probe::Tcp(address), &surroundings(NoCommands), Some(timeout), &mut TlsCache::default()).await;
    let message = format!("TCP check of 127.0.0.1:{}: timed out after 50ms", address.port);
    assert_eq!(outcome, Outcome::Failure { message, observed: Observed::Nothing });
}
