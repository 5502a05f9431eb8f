//! RecordIO: the ASCII decimal length of a record, one line feed, then that many bytes; nothing between records.
//!
//! Source: Mesos `docs/recordio.md`. Chunk boundaries of the HTTP body have nothing to do with record boundaries.

use bytes::{Buf, Bytes, BytesMut};

/// The longest length line that is read: twenty digits hold any 64-bit number.
const LONGEST_HEADER: usize = 20;

/// What makes a stream of records unreadable from here on.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum RecordError {
    /// The length line is not a decimal number of at most twenty digits.
    #[error("record length {0:?} is not a decimal number")]
    Length(String),
    /// The record is longer than the reader takes.
    #[error("record of {length} bytes is longer than the {limit} that are accepted")]
    TooLong {
        /// What the length line says.
        length: u64,
        /// The limit given to [`Decoder::new`].
        limit: usize,
    },
}

/// Cuts a stream of bytes into records. Feed it with [`Decoder::extend`], take records with [`Decoder::next`].
#[derive(Debug)]
pub struct Decoder {
    buffer: BytesMut,
    length: Option<usize>,
    limit: usize,
}

impl Decoder {
    /// A decoder that refuses records longer than `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { buffer: BytesMut::new(), length: None, limit }
    }

    /// Adds bytes as they came from the connection.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole record, or `None` until more bytes have come.
    ///
    /// # Errors
    /// [`RecordError`]; the stream cannot be read further after it.
    #[expect(clippy::should_implement_trait, reason = "not an iterator: None means not yet")]
    pub fn next(&mut self) -> Result<Option<Bytes>, RecordError> {
        let length = match self.length {
            Some(length) => length,
            None => match self.header()? {
                Some(length) => *self.length.insert(length),
                None => return Ok(None),
            },
        };
        if self.buffer.len() < length {
            return Ok(None);
        }
        self.length = None;
        Ok(Some(self.buffer.split_to(length).freeze()))
    }

    fn header(&mut self) -> Result<Option<usize>, RecordError> {
        let searched = &self.buffer[..self.buffer.len().min(LONGEST_HEADER + 1)];
        let Some(end) = searched.iter().position(|&byte| byte == b'\n') else {
            let hopeless = searched.len() > LONGEST_HEADER || !searched.iter().all(u8::is_ascii_digit);
            return if hopeless { Err(RecordError::Length(lossy(searched))) } else { Ok(None) };
        };
        let digits = &searched[..end];
        let length = std::str::from_utf8(digits)
            .ok()
            .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|text| text.parse::<u64>().ok())
            .ok_or_else(|| RecordError::Length(lossy(digits)))?;
        let accepted = usize::try_from(length).ok().filter(|&length| length <= self.limit);
        let accepted = accepted.ok_or(RecordError::TooLong { length, limit: self.limit })?;
        self.buffer.advance(end + 1);
        Ok(Some(accepted))
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// One record with its length line.
pub fn encode(record: &[u8]) -> Vec<u8> {
    let mut framed = record.len().to_string().into_bytes();
    framed.push(b'\n');
    framed.extend_from_slice(record);
    framed
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode_all(decoder: &mut Decoder) -> Result<Vec<Bytes>, RecordError> {
        let mut records = Vec::new();
        while let Some(record) = decoder.next()? {
            records.push(record);
        }
        Ok(records)
    }

    #[test]
    fn a_record_of_no_bytes_is_a_record() {
        let mut decoder = Decoder::new(10);
        decoder.extend(b"0\n0\n1\nx");
        assert_eq!(decode_all(&mut decoder).unwrap(), ["", "", "x"]);
    }

    #[test]
    fn a_length_that_is_no_number_ends_the_stream() {
        for bad in [
            &b"x\n"[..],
            b"-1\n",
            b"+1\n",
            b"\n",
            b" 1\n",
            b"123456789012345678901",
            b"99999999999999999999\n",
        ] {
            let mut decoder = Decoder::new(10);
            decoder.extend(bad);
            assert!(matches!(decoder.next(), Err(RecordError::Length(_))), "{bad:?}");
        }
    }

    #[test]
    fn a_record_over_the_limit_is_refused_before_its_bytes_come() {
        let mut decoder = Decoder::new(10);
        decoder.extend(b"11\n");
        assert_eq!(decoder.next(), Err(RecordError::TooLong { length: 11, limit: 10 }));
    }

    proptest! {
        #[test]
        fn records_survive_any_chunking(records in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..20), chunk in 1_usize..17) {
            let stream: Vec<u8> = records.iter().flat_map(|record| encode(record)).collect();
            let mut decoder = Decoder::new(64);
            let mut decoded = Vec::new();
            for piece in stream.chunks(chunk) {
                decoder.extend(piece);
                decoded.extend(decode_all(&mut decoder).unwrap());
            }
            prop_assert_eq!(decoded, records);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut decoder = Decoder::new(64);
            decoder.extend(&bytes);
            let _ = decode_all(&mut decoder);
        }
    }
}
