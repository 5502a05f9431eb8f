use super::*;

/// Runs with the threads of the program, however many there are here.
fn with_threads(threads: usize, test: impl Future<Output = ()>) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(threads).build();
    runtime.unwrap().block_on(test);
}

#[test]
fn downloads_that_wait_for_their_server_hold_no_thread() {
    with_threads(1, async {
        let fixture = Fixture::with(Options { max_bytes: 1 << 20, ..Options::default() });
        let server = Server::new(|_| b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nSTALL".to_vec()).await;
        let names: Vec<String> = (0..20).map(|number| format!("file-{number}")).collect();
        let downloads = names
            .iter()
            .map(|name| fixture.fetch(server.url("/slow"), None, name, FetchForm::Plain))
            .collect::<Vec<_>>();
        let downloads = async {
            let mut downloads: Vec<_> = downloads.into_iter().map(Box::pin).collect();
            std::future::poll_fn(|context| {
                for download in &mut downloads {
                    assert!(download.as_mut().poll(context).is_pending(), "it stalls");
                }
                std::task::Poll::<()>::Pending
            })
            .await;
        };
        let killing = async {
            while server.paths.lock().unwrap().len() < names.len() {
                tokio::task::yield_now().await;
            }
            // The parts that have arrived are written.
            while !names.iter().all(|_| fixture.tree().values().filter(|text| *text == "STALL").count() == 20)
            {
                tokio::task::yield_now().await;
            }
            tokio::task::spawn_blocking(|| ()).await.unwrap();
        };
        tokio::select! {
            () = downloads => {}
            ended = tokio::time::timeout(Duration::from_secs(20), killing) => ended.expect("a free thread"),
        }
    });
}

#[test]
fn file_work_that_hangs_leaves_threads_to_others() {
    with_threads(16, async {
        let (let_on, gate) = std::sync::mpsc::channel::<()>();
        let gate = Arc::new(Mutex::new(gate));
        let hanging: Vec<_> = (0..40)
            .map(|_| {
                let gate = Arc::clone(&gate);
                tokio::spawn(blocking(move || {
                    let _ = gate.lock().unwrap().recv();
                    Ok(())
                }))
            })
            .collect();
        while THREADS.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let killing = tokio::task::spawn_blocking(|| ());
        let killed = tokio::time::timeout(Duration::from_secs(20), killing).await;
        drop(let_on);
        for one in hanging {
            one.await.unwrap().unwrap();
        }
        killed.expect("a free thread").unwrap();
    });
}
