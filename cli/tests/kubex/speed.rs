//! How fast the built program is: `cargo test --release -p kubex --test speed -- --ignored --nocapture`.

use std::io::Read as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::server::Server;

const SIZE: u32 = 100 << 20;

fn median(rounds: usize, mut round: impl FnMut()) -> Duration {
    let mut times: Vec<Duration> = (0..rounds)
        .map(|_| {
            let began = Instant::now();
            round();
            began.elapsed()
        })
        .collect();
    times.sort_unstable();
    times[rounds / 2]
}

fn rate(time: Duration) -> u128 {
    u128::from(SIZE) / time.as_micros().max(1)
}

#[test]
#[ignore = "it measures, and means something only in a release build on an idle machine"]
fn speed() {
    let server = Server::start();
    let run = |arguments: &[&str], stdin: Stdio| {
        let mut child = server.kubex(arguments).stdin(stdin).stdout(Stdio::piped()).spawn().unwrap();
        let (mut stdout, mut buffer, mut count) = (child.stdout.take().unwrap(), vec![0; 1 << 20], 0);
        loop {
            match stdout.read(&mut buffer).unwrap() {
                0 => break,
                more => count += more,
            }
        }
        assert!(child.wait().unwrap().success());
        count
    };
    let bare = median(100, || {
        assert!(server.kubex(&["--version"]).stdout(Stdio::null()).status().unwrap().success())
    });
    let whole = median(100, || assert_eq!(run(&["task", "exec", "local", "true"], Stdio::null()), 0));
    eprintln!("kubex --version {bare:?}; kubex task exec T true {whole:?} (median of 100)");
    let size = SIZE.to_string();
    let out = ["task", "exec", "local", "--", "head", "-c", &size, "/dev/zero"];
    let output = median(7, || assert_eq!(run(&out, Stdio::null()), SIZE as usize));
    let mut file = tempfile::tempfile().unwrap();
    std::io::copy(&mut std::io::repeat(7).take(SIZE.into()), &mut file).unwrap();
    let input = median(7, || {
        std::io::Seek::rewind(&mut file).unwrap();
        let stdin = Stdio::from(file.try_clone().unwrap());
        run(&["task", "exec", "-i", "local", "--", "sh", "-c", "exec cat > /dev/null"], stdin);
    });
    eprintln!(
        "100 MiB out {output:?} ({} MB/s), in {input:?} ({} MB/s) (median of 7)",
        rate(output),
        rate(input)
    );
}
