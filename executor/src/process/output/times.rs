//! When the bytes of a log file were read: a file of records beside it (see [`task::control::LogFile::times`]).
//!
//! ```text
//!  .stdout.times:  offset 0, 12:00:00.000, process 1 | offset 812, 12:00:07.250, process 1 | ...
//! ```
//! A record is written where a process begins to write, and where the last one is [`GRANULARITY`] old. Times are worth
//! less than output: what goes wrong with them is said once, and the log goes on.

use std::fs::File;
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::FileExt as _;

use super::numbered::{Numbered, is_foreign};

/// How old the last record may be, in milliseconds.
pub(super) const GRANULARITY: u64 = 20;
/// The bytes of a record.
pub(super) const RECORD: usize = 16;
/// As many records as a file may always have.
const FEWEST: u64 = 256;
/// Records copied in one piece.
const PIECE: usize = 256;

/// From `offset` on, bytes were read at `at`, and came from the process of this number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) offset: u64,
    pub(super) at: u64,
    pub(super) process: u16,
}

impl Record {
    pub(super) fn bytes(self) -> [u8; RECORD] {
        let mut bytes = [0; RECORD];
        bytes[..8].copy_from_slice(&self.offset.to_le_bytes());
        bytes[8..14].copy_from_slice(&self.at.to_le_bytes()[..6]);
        bytes[14..].copy_from_slice(&self.process.to_le_bytes());
        bytes
    }

    pub(super) fn parse(bytes: [u8; RECORD]) -> Self {
        let number = |range: std::ops::Range<usize>| {
            bytes[range].iter().rev().fold(0_u64, |number, byte| number << 8 | u64::from(*byte))
        };
        let process = u16::from_le_bytes([bytes[14], bytes[15]]);
        Self { offset: number(0..8), at: number(8..14), process }
    }
}

/// The times of the log file written to.
#[derive(Debug)]
pub(super) struct Times {
    names: Numbered,
    process: u16,
    /// The most records.
    most: u64,
    /// Opened by the first byte.
    file: Option<File>,
    /// Whole records in it.
    records: u64,
    /// The last record's offset.
    last: Option<u64>,
    /// When a record was last written, or not: that may not be tried at every byte either.
    tried: Option<u64>,
    failures: u64,
}

impl Times {
    /// Times of bytes of the process of this number, for log files of so many bytes.
    pub(super) fn new(names: Numbered, bytes: u64, process: u16) -> Self {
        let most = (bytes / RECORD as u64).max(FEWEST);
        Self { names, process, most, file: None, records: 0, last: None, tried: None, failures: 0 }
    }

    /// Notes that bytes from `offset` on, the log's present length, are written `now` (milliseconds since 1970).
    pub(super) fn note(&mut self, offset: u64, now: u64) {
        if self.tried.is_some_and(|tried| now.abs_diff(tried) < GRANULARITY) {
            return;
        }
        self.tried = Some(now);
        let noted = self.append(Record { offset, at: now, process: self.process });
        self.said(noted);
    }

    /// Whether the log is to be rotated, although it has not reached its own limit.
    pub(super) fn are_full(&self) -> bool {
        self.records >= self.most
    }

    /// The file, made now if there is none yet. `length` is the log's.
    pub(super) fn file(&mut self, length: u64) -> Option<&File> {
        let ready = self.ready(length);
        self.said(ready);
        self.file.as_ref()
    }

    /// Renames every file to the next older name, as the log's are.
    pub(super) fn shift(&mut self) {
        let shifted = self.names.shift();
        if shifted.is_err() {
            // No times are better than those of another file.
            self.names.remove_all();
        }
        self.said(shifted);
    }

    /// Begins anew after a [`Times::shift`]. The log's new file begins with what was in the old one from `line` on, if
    /// anything.
    pub(super) fn rotate(&mut self, line: Option<u64>) {
        let (old, records) = (self.file.take(), std::mem::take(&mut self.records));
        let tried = self.tried.take();
        self.last = None;
        let begun = self.ready(0).and_then(|()| match (line, old) {
            (Some(line), Some(old)) => self.carry(&old, records, line).map(|()| self.tried = tried),
            _ => Ok(()),
        });
        self.said(begun);
    }

    fn ready(&mut self, length: u64) -> io::Result<()> {
        if self.file.is_some() {
            return Ok(());
        }
        let file = match self.names.open() {
            Err(error) if error.kind() == ErrorKind::NotFound => self.names.begin()?,
            Err(error) if is_foreign(&error) => {
                std::fs::remove_file(self.names.path(0))?;
                self.names.begin()?
            }
            opened => opened?,
        };
        // What is said of bytes that are not there is said of another file.
        let found = file.metadata()?.len();
        let records = first_from(&file, found / RECORD as u64, length)?;
        if found != size(records) {
            file.set_len(size(records))?;
        }
        (self.file, self.records) = (Some(file), records);
        Ok(())
    }

    fn append(&mut self, record: Record) -> io::Result<()> {
        self.ready(record.offset)?;
        if self.last == Some(record.offset) {
            // Nothing was written then.
            self.cut(self.records - 1)?;
        }
        self.push(&record.bytes())?;
        self.last = Some(record.offset);
        Ok(())
    }

    /// Moves the records of bytes from `line` on from the old file to this one, which is empty.
    fn carry(&mut self, old: &File, records: u64, line: u64) -> io::Result<()> {
        let later = first_from(old, records, line.saturating_add(1))?;
        // The one before says when the bytes at `line` came; it stays too unless it says that of nothing else.
        let first = later.saturating_sub(1);
        let mut at = first;
        while at < records {
            let count = usize::try_from(records - at).map_or(PIECE, |left| left.min(PIECE));
            let mut piece = vec![0; count * RECORD];
            old.read_exact_at(&mut piece, size(at))?;
            for bytes in piece.as_chunks_mut::<RECORD>().0 {
                let record = Record::parse(*bytes);
                let moved = Record { offset: record.offset.saturating_sub(line), ..record };
                *bytes = moved.bytes();
                self.last = Some(moved.offset);
            }
            self.push(&piece)?;
            at += count as u64;
        }
        let kept = first_from(old, later, line)?;
        old.set_len(size(kept))
    }

    /// Writes whole records, or nothing.
    fn push(&mut self, records: &[u8]) -> io::Result<()> {
        let Some(mut file) = self.file.as_ref() else { return Ok(()) };
        if let Err(error) = file.write_all(records) {
            self.cut(self.records)?;
            return Err(error);
        }
        self.records += (records.len() / RECORD) as u64;
        Ok(())
    }

    fn cut(&mut self, records: u64) -> io::Result<()> {
        let cut = self.file.as_ref().map_or(Ok(()), |file| file.set_len(size(records)));
        match cut {
            Ok(()) => self.records = records,
            // Opened again, it is put in order.
            Err(_) => self.file = None,
        }
        self.last = None;
        cut
    }

    fn said(&mut self, result: io::Result<()>) {
        let Err(error) = result else { return };
        self.failures += 1;
        if self.failures == 1 {
            tracing::warn!(path = %self.names.path(0).display(), %error, "write when output came: some of it will seem older");
        }
    }
}

/// The number of the first of `records` whose offset is `offset` or more; `records` if there is none. They are in order,
/// unless the task has changed them: then it is any.
fn first_from(file: &File, records: u64, offset: u64) -> io::Result<u64> {
    let (mut low, mut high) = (0, records);
    while low < high {
        let middle = low + (high - low) / 2;
        let mut bytes = [0; RECORD];
        file.read_exact_at(&mut bytes, size(middle))?;
        if Record::parse(bytes).offset < offset { low = middle + 1 } else { high = middle }
    }
    Ok(low)
}

fn size(records: u64) -> u64 {
    records * RECORD as u64
}
