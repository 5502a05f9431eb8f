//! A client's WebSocket frames mean the same however the network cuts them, and are never longer than they may be.
#![no_main]

use exec_endpoint::protocol::remotecommand::frame::{Decoder, Event, LONGEST_MESSAGE, Violation};
use libfuzzer_sys::fuzz_target;

/// What came: messages byte by byte, so that cuts do not show.
#[derive(Debug, PartialEq, Eq)]
enum Heard {
    Begin,
    Byte(u8),
    End,
    Other(Event),
}

fuzz_target!(|input: (u8, Vec<u8>)| {
    let (cut, bytes) = input;
    let whole = read(&bytes, bytes.len().max(1));
    assert_eq!(whole, read(&bytes, usize::from(cut % 17) + 1));
    let mut length = 0;
    for heard in &whole.0 {
        length = match heard {
            Heard::Begin => 0,
            Heard::Byte(_) => length + 1,
            _ => length,
        };
        assert!(length <= LONGEST_MESSAGE);
    }
});

fn read(bytes: &[u8], piece: usize) -> (Vec<Heard>, Option<Violation>) {
    let mut decoder = Decoder::default();
    let mut all = Vec::new();
    for piece in bytes.chunks(piece) {
        let mut piece = piece.to_vec();
        let mut rest = piece.as_mut_slice();
        loop {
            let (used, event) = match decoder.next(rest) {
                Ok(told) => told,
                Err(violation) => return (all, Some(violation)),
            };
            assert!(used <= rest.len());
            match event {
                None => {
                    assert_eq!(used, rest.len(), "nothing is told only when all is used");
                    break;
                }
                Some(Event::Data { range, first, last }) => {
                    assert!(range.end <= used);
                    all.extend(first.then_some(Heard::Begin));
                    all.extend(rest[range].iter().copied().map(Heard::Byte));
                    all.extend(last.then_some(Heard::End));
                }
                Some(other) => all.push(Heard::Other(other)),
            }
            rest = &mut rest[used..];
        }
    }
    (all, None)
}
