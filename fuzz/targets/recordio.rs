//! Records are the same however the network cuts them, and none is longer than the limit.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mesos::recordio::{Decoder, RecordError, encode};

const LIMIT: usize = 1000;

fuzz_target!(|input: (u8, Vec<u8>)| {
    let (cut, bytes) = input;
    let whole = read(&bytes, bytes.len().max(1));
    let pieces = read(&bytes, usize::from(cut % 17) + 1);
    // An error's text holds what had come by then.
    let kind = |error: &Option<RecordError>| error.as_ref().map(std::mem::discriminant);
    assert_eq!((&whole.0, kind(&whole.1)), (&pieces.0, kind(&pieces.1)));
    assert!(whole.0.iter().all(|record| record.len() <= LIMIT));
    let again: Vec<u8> = whole.0.iter().flat_map(|record| encode(record)).collect();
    assert_eq!(read(&again, again.len().max(1)), (whole.0, None));
});

fn read(bytes: &[u8], piece: usize) -> (Vec<Vec<u8>>, Option<RecordError>) {
    let mut decoder = Decoder::new(LIMIT);
    let mut records = Vec::new();
    for piece in bytes.chunks(piece) {
        decoder.extend(piece);
        loop {
            match decoder.next() {
                Ok(Some(record)) => records.push(record.to_vec()),
                Ok(None) => break,
                Err(error) => return (records, Some(error)),
            }
        }
    }
    (records, None)
}
