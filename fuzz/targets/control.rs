//! Bytes at a control socket are messages or an error, for an executor and for an endpoint; what is understood can be said again.
#![no_main]

use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;

use libfuzzer_sys::fuzz_target;
use task::control::{Answer, Request, Wish};
use task::framed::{Inbox, Read, encode};

fuzz_target!(|bytes: &[u8]| {
    // More than a socket's buffer would have to be read meanwhile.
    let bytes = &bytes[..bytes.len().min(32 << 10)];
    let mut inboxes = [Inbox::guarded(1000), Inbox::guarded(1000), Inbox::default()];
    for inbox in &mut inboxes {
        let (ours, mut theirs) = UnixStream::pair().expect("a pair");
        theirs.write_all(bytes).expect("it fits");
        drop(theirs);
        while inbox.fill(ours.as_fd()).expect("it can be read") == Read::Some {}
    }
    let [requests, wishes, answers] = &mut inboxes;
    while let Ok(Some(request)) = requests.next_message::<Request>() {
        encode(&request).expect("what was read can be written");
    }
    while let Ok(Some(wish)) = wishes.next_message::<Wish>() {
        encode(&wish).expect("what was read can be written");
    }
    while let Ok(Some(answer)) = answers.next_message::<Answer>() {
        encode(&answer).expect("what was read can be written");
    }
});
