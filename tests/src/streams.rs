//! What goes through commands of tests.

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};

/// Feeds `input` to a command and returns its exit code and what it wrote.
///
/// # Panics
/// It cannot be started or read.
pub fn feed(command: &mut Command, input: Vec<u8>) -> (Option<i32>, Vec<u8>) {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("start a command");
    let mut stdin = child.stdin.take().expect("its stdin");
    let writing = std::thread::spawn(move || stdin.write_all(&input));
    let mut output = Vec::new();
    child.stdout.take().expect("its stdout").read_to_end(&mut output).expect("read its output");
    let status = child.wait().expect("wait for it");
    // It may have ended without having read all.
    drop(writing.join().expect("a writer"));
    (status.code(), output)
}

/// So many bytes of all kinds, always the same.
pub fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut all = Vec::with_capacity(bytes + 8);
    while all.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        all.extend_from_slice(&state.to_le_bytes());
    }
    all.truncate(bytes);
    all
}
