//! When the bytes of a log file were read: records of 16 bytes (see [`task::control::LogFile::times`]).

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

/// The size of a record.
pub const RECORD: usize = 16;
/// As many records are read at once.
const BLOCK: usize = 1024;

/// From an offset on: when bytes were read, and of which process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Record {
    /// The first byte that it is about.
    pub offset: u64,
    /// Milliseconds since 1970.
    pub time: u64,
    /// The number of the task's process, 1 for the first; 0 where nobody knows.
    pub process: u16,
}

impl Record {
    /// A record of 16 bytes: offset (u64), time (u48), process (u16), little-endian.
    pub fn parse(bytes: &[u8; RECORD]) -> Self {
        let value = u128::from_le_bytes(*bytes);
        let [low, high] =
            [value, value >> 64].map(|part| u64::try_from(part & u128::from(u64::MAX)).unwrap_or(0));
        Self { offset: low, time: high & ((1 << 48) - 1), process: u16::try_from(high >> 48).unwrap_or(0) }
    }

    /// The bytes that [`Record::parse`] takes.
    pub fn to_bytes(self) -> [u8; RECORD] {
        let high = (u64::from(self.process) << 48) | (self.time & ((1 << 48) - 1));
        (u128::from(self.offset) | (u128::from(high) << 64)).to_le_bytes()
    }
}

/// The times of one file. Records are in the order of their offsets; the file may grow.
#[derive(Debug)]
pub struct Times {
    file: Option<File>,
    /// What is said of a file without records.
    unknown: Record,
    /// How many records there are, as far as known.
    count: u64,
    /// Records read ahead, from number `first` on.
    block: Vec<Record>,
    first: u64,
    /// The record that the last answer was from.
    current: u64,
}

impl Times {
    /// The times in `file`; without one, all bytes are of the time `otherwise`.
    pub fn new(file: Option<File>, otherwise: u64) -> Self {
        let unknown = Record { time: otherwise, ..Record::default() };
        let mut this = Self { file, unknown, count: 0, block: Vec::new(), first: 0, current: 0 };
        // What cannot be measured now is said when it is read.
        let _ = this.refresh();
        this
    }

    /// Looks whether there are more records now.
    ///
    /// # Errors
    /// When the file cannot be asked.
    pub fn refresh(&mut self) -> io::Result<()> {
        if let Some(file) = &self.file {
            self.count = file.metadata()?.len() / RECORD as u64;
        }
        Ok(())
    }

    /// Which record is about the byte at `offset`. Asked for in rising order it costs next to nothing.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn at(&mut self, offset: u64) -> io::Result<Record> {
        let Some(mut record) = self.record(self.current)? else {
            return Ok(self.unknown);
        };
        if record.offset > offset && self.current > 0 {
            self.current = self.partition(|record| record.offset <= offset)?.saturating_sub(1);
            record = self.record(self.current)?.unwrap_or(self.unknown);
        }
        while let Some(next) = self.record(self.current + 1)?.filter(|next| next.offset <= offset) {
            self.current += 1;
            record = next;
        }
        Ok(record)
    }

    /// The offset of the first record that `before` does not hold for, of records in such an order that it holds for the
    /// first ones only; `None` when it holds for all.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn first_not(&mut self, before: impl Fn(&Record) -> bool) -> io::Result<Option<u64>> {
        if self.record(0)?.is_none() {
            return Ok((!before(&self.unknown)).then_some(0));
        }
        let number = self.partition(before)?;
        // What is before the first record came with it.
        Ok(self.record(number)?.map(|record| if number == 0 { 0 } else { record.offset }))
    }

    /// The last record, if there is any.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn last(&mut self) -> io::Result<Option<Record>> {
        self.refresh()?;
        match self.count {
            0 => Ok(None),
            count => self.record(count - 1),
        }
    }

    fn partition(&mut self, before: impl Fn(&Record) -> bool) -> io::Result<u64> {
        self.refresh()?;
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.probe(middle)? {
                Some(record) if before(&record) => low = middle + 1,
                _ => high = middle,
            }
        }
        Ok(low)
    }

    /// Record `number`, read alone unless it is in the block.
    fn probe(&self, number: u64) -> io::Result<Option<Record>> {
        if let Some(record) = self.cached(number) {
            return Ok(Some(record));
        }
        let Some(file) = &self.file else { return Ok(None) };
        let mut bytes = [0; RECORD];
        match file.read_exact_at(&mut bytes, number * RECORD as u64) {
            Ok(()) => Ok(Some(Record::parse(&bytes))),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn record(&mut self, number: u64) -> io::Result<Option<Record>> {
        if let Some(record) = self.cached(number) {
            return Ok(Some(record));
        }
        let Some(file) = self.file.as_ref().filter(|_| number < self.count) else {
            return Ok(None);
        };
        let mut bytes = [0; BLOCK * RECORD];
        let mut got = 0;
        while got < bytes.len() {
            match file.read_at(&mut bytes[got..], number * RECORD as u64 + got as u64) {
                Ok(0) => break,
                Ok(count) => got += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.block.clear();
        self.block.extend(bytes[..got].as_chunks().0.iter().map(Record::parse));
        self.first = number;
        Ok(self.cached(number))
    }

    fn cached(&self, number: u64) -> Option<Record> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.block.get(index).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write as _;

    fn times(records: &[Record]) -> Times {
        let mut file = std::io::BufWriter::new(tempfile::tempfile().unwrap());
        for record in records {
            file.write_all(&record.to_bytes()).unwrap();
        }
        Times::new(Some(file.into_inner().unwrap()), 7)
    }

    #[test]
    fn a_record_is_offset_then_milliseconds_then_process_little_endian() {
        let bytes = [1, 2, 0, 0, 0, 0, 0, 0, 3, 4, 0, 0, 0, 5, 6, 0];
        let record = Record { offset: 0x201, time: 0x0500_0000_0403, process: 6 };
        assert_eq!(Record::parse(&bytes), record);
        assert_eq!(record.to_bytes(), bytes);
    }

    #[test]
    fn a_file_without_records_has_one_time_and_no_process() {
        let mut none = Times::new(None, 7);
        assert_eq!(none.at(100).unwrap(), Record { offset: 0, time: 7, process: 0 });
        assert_eq!(none.first_not(|record| record.time < 7).unwrap(), Some(0));
        assert_eq!(none.first_not(|record| record.time < 8).unwrap(), None);
        assert_eq!(times(&[]).at(5).unwrap().time, 7);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn the_record_of_a_byte_is_the_last_that_begins_at_or_before_it(
            steps in prop::collection::vec((1_u64..50, 0_u64..9), 1..1500),
            asked in prop::collection::vec(0_u64..80_000, 1..40),
        ) {
            let (mut offset, mut time, mut records) = (0, 1000, Vec::new());
            for (bytes, later) in steps {
                records.push(Record { offset, time, process: 1 });
                (offset, time) = (offset + bytes, time + later);
            }
            let mut times = times(&records);
            for asked in asked {
                let expected = records.iter().rev().find(|record| record.offset <= asked).unwrap();
                prop_assert_eq!(times.at(asked).unwrap(), *expected);
                let later = records.iter().find(|record| record.time >= asked).map(|record| record.offset);
                prop_assert_eq!(times.first_not(|record| record.time < asked).unwrap(), later);
            }
            prop_assert_eq!(times.last().unwrap(), records.last().copied());
        }
    }
}
