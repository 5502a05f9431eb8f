//! One stream's rotated files as one run of lines, the oldest first.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};

use super::times::{Record, Times};

/// Lines beyond this are given out in pieces.
pub const LONGEST: usize = 128 << 10;
/// As much is read at once.
const READ: usize = 256 << 10;
/// As many looks in a row must find a file shorter than what was read of it before it counts as truncated by somebody, and not
/// as in the middle of a rotation.
const SHRUNK: u32 = 20;

/// A file of a stream.
#[derive(Debug)]
pub struct Segment {
    bytes: File,
    times: Times,
    /// How many of its first bytes the file before it had.
    moved: u64,
    /// Where it ends for this reader; `None`: at its end.
    end: Option<u64>,
}

impl Segment {
    /// A file and its times. The bytes of one without times count as written when it was last changed.
    pub fn new(bytes: File, times: Option<File>) -> Self {
        let changed = bytes.metadata().map_or(0, |metadata| {
            let milliseconds = metadata.mtime().saturating_mul(1000) + metadata.mtime_nsec() / 1_000_000;
            u64::try_from(milliseconds).unwrap_or(0)
        });
        Self { bytes, times: Times::new(times, changed), moved: 0, end: None }
    }

    /// The file alone.
    pub fn into_file(self) -> OwnedFd {
        self.bytes.into()
    }

    /// The same, with its first bytes taken from the file before it at the rotation.
    #[must_use]
    pub fn moved(self, moved: u64) -> Self {
        Self { moved, ..self }
    }

    /// The number of the last process that wrote to it; 0 when nobody knows.
    ///
    /// # Errors
    /// When its times cannot be read.
    pub fn last_process(&mut self) -> io::Result<u16> {
        Ok(self.times.last()?.map_or(0, |record| record.process))
    }

    fn length(&self) -> io::Result<u64> {
        let length = self.bytes.metadata()?.len();
        Ok(self.end.map_or(length, |end| end.min(length)))
    }
}

/// What is first in a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Head {
    /// A line of this time (of its first byte), in milliseconds since 1970.
    Line(u64),
    /// No whole line yet.
    Waiting,
    /// Nothing more.
    End,
}

/// What was taken of a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken<'a> {
    /// A line, or a piece of one that is longer than [`LONGEST`].
    pub bytes: &'a [u8],
    /// Whether the line begins here.
    pub begins: bool,
    /// Whether it ends here.
    pub ends: bool,
}

/// A position: the segment's index, and the offset in it.
type Position = (usize, u64);

/// The files of one stream, read once from a position on.
#[derive(Debug)]
pub struct Lane {
    segments: VecDeque<Segment>,
    /// Whether the last one grows.
    growing: bool,
    /// Where reading goes on in the first one.
    at: u64,
    buffer: Vec<u8>,
    /// What was taken of the buffer, and how much of the rest is known to hold no newline.
    start: usize,
    searched: usize,
    /// The length of the line (or piece) at `start` once it is known, and whether the line ends with it.
    ready: Option<(usize, bool)>,
    /// Of the first byte of the line at `start`, as soon as there is one.
    head: Option<Record>,
    /// Whether pieces of the line at `start` were taken.
    inside: bool,
    shrunk: u32,
}

impl Lane {
    /// A lane of these files, the oldest first. What comes to the last one later is part of it if it grows.
    ///
    /// # Errors
    /// When the last file cannot be measured.
    pub fn new(mut segments: VecDeque<Segment>, growing: bool) -> io::Result<Self> {
        if let Some(last) = segments.back_mut().filter(|_| !growing) {
            // Else a task that writes faster than the client reads would be followed for ever.
            last.end = Some(last.length()?);
        }
        Ok(Self {
            segments,
            growing,
            at: 0,
            buffer: Vec::new(),
            start: 0,
            searched: 0,
            ready: None,
            head: None,
            inside: false,
            shrunk: 0,
        })
    }

    /// What is first.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn head(&mut self) -> io::Result<Head> {
        loop {
            let rest = self.buffer.get(self.start..).unwrap_or_default();
            if !rest.is_empty() {
                let head = match (self.head, self.segments.front_mut()) {
                    (Some(head), _) => head,
                    (None, Some(segment)) => segment.times.at(self.at.saturating_sub(rest.len() as u64))?,
                    (None, None) => Record::default(),
                };
                self.head = Some(head);
                if self.ready.is_none() {
                    let newline = memchr::memchr(b'\n', &rest[self.searched..]);
                    self.ready = match newline {
                        Some(newline) => Some((self.searched + newline + 1, true)),
                        None if rest.len() >= LONGEST => Some((rest.len(), false)),
                        None => None,
                    };
                    self.searched = rest.len();
                }
                if self.ready.is_some() {
                    return Ok(Head::Line(head.time));
                }
            }
            let left = rest.len();
            if !self.fill()? {
                return Ok(match left {
                    _ if self.growing => Head::Waiting,
                    0 => Head::End,
                    _ => {
                        self.ready = Some((left, true));
                        Head::Line(self.head.map_or(0, |head| head.time))
                    }
                });
            }
        }
    }

    /// Takes the line or piece that [`Lane::head`] has found.
    pub fn take(&mut self) -> Taken<'_> {
        let (length, ends) = self.ready.take().unwrap_or((0, false));
        let begins = !self.inside;
        self.consume(length, ends);
        Taken { bytes: &self.buffer[self.start - length..self.start], begins, ends }
    }

    /// Takes all whole lines that are in memory, or what [`Lane::take`] would.
    pub fn take_all(&mut self) -> &[u8] {
        let rest = &self.buffer[self.start..];
        let (length, ends) = match (memchr::memrchr(b'\n', rest), self.ready.take()) {
            (Some(newline), _) => (newline + 1, true),
            (None, ready) => ready.unwrap_or((0, false)),
        };
        self.ready = None;
        self.consume(length, ends);
        &self.buffer[self.start - length..self.start]
    }

    /// Whether a line was begun and must go on before another stream's.
    pub fn is_inside(&self) -> bool {
        self.inside
    }

    /// The stream goes on in a new file; the one before does not grow any more.
    pub fn rotated(&mut self, segment: Segment) {
        self.segments.push_back(segment);
        self.shrunk = 0;
    }

    /// Nothing grows any more.
    pub fn finish(&mut self) {
        self.growing = false;
    }

    /// Whether there is more to read than was read.
    ///
    /// # Errors
    /// When a file cannot be asked.
    pub fn has_grown(&mut self) -> io::Result<bool> {
        if self.segments.len() > 1 {
            return Ok(true);
        }
        let Some(segment) = self.segments.front() else { return Ok(false) };
        let length = segment.length()?;
        if length >= self.at {
            self.shrunk = 0;
            return Ok(length > self.at);
        }
        self.shrunk += 1;
        if self.shrunk > SHRUNK {
            (self.shrunk, self.at) = (0, 0);
            self.buffer.clear();
            (self.start, self.searched, self.ready, self.head, self.inside) = (0, 0, None, None, false);
        }
        Ok(false)
    }

    /// Leaves only what this process wrote.
    ///
    /// # Errors
    /// When times cannot be read.
    pub fn only_process(&mut self, process: u16) -> io::Result<()> {
        if let Some((index, offset)) = self.first_record_not(|record| record.process <= process)? {
            self.segments.truncate(index + 1);
            self.segments[index].end = Some(offset);
            self.growing = false;
        }
        match self.first_record_not(|record| record.process < process)? {
            Some(position) => self.seek(position),
            None => self.segments.clear(),
        }
        Ok(())
    }

    /// Leaves only lines from `time` on (milliseconds since 1970): those whose first byte was read then.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn since(&mut self, time: u64) -> io::Result<()> {
        let position = match self.first_record_not(|record| record.time < time)? {
            Some(position) => self.next_line(position)?,
            None => self.last_position()?,
        };
        self.seek(position);
        Ok(())
    }

    /// Leaves only the last `lines` lines that there are now; says how many there are.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn tail(&mut self, lines: u64) -> io::Result<u64> {
        let end = self.last_position()?;
        if lines == 0 {
            self.seek(end);
            return Ok(0);
        }
        let (mut found, mut last) = (0, true);
        let mut block = Vec::new();
        for index in (0..self.segments.len()).rev() {
            let floor = if index == 0 { self.at } else { 0 };
            let mut high = self.segments[index].length()?;
            while high > floor {
                let low = high.saturating_sub(READ as u64).max(floor);
                self.read_whole(index, low..high, &mut block)?;
                for newline in memchr::memrchr_iter(b'\n', &block) {
                    // The newline that ends the last line begins no other.
                    if std::mem::take(&mut last) && newline + 1 == block.len() {
                        continue;
                    }
                    found += 1;
                    if found == lines {
                        self.seek((index, low + newline as u64 + 1));
                        return Ok(lines);
                    }
                }
                last = last && block.is_empty();
                high = low;
            }
        }
        let empty = (0..self.segments.len()).try_fold(true, |empty, index| {
            let floor = if index == 0 { self.at } else { 0 };
            Ok::<_, io::Error>(empty && self.segments[index].length()? <= floor)
        })?;
        Ok(if empty { 0 } else { found + 1 })
    }

    fn consume(&mut self, length: usize, ends: bool) {
        self.start += length;
        self.searched = 0;
        self.inside = !ends;
        if ends {
            self.head = None;
        }
    }

    /// Reads more into the buffer; whether there was any.
    fn fill(&mut self) -> io::Result<bool> {
        self.buffer.drain(..self.start);
        self.start = 0;
        loop {
            let Some(segment) = self.segments.front_mut() else { return Ok(false) };
            let most = segment.end.map_or(READ as u64, |end| end.saturating_sub(self.at).min(READ as u64));
            let before = self.buffer.len();
            self.buffer.resize(before + usize::try_from(most).unwrap_or(READ), 0);
            let read = read_at(&segment.bytes, &mut self.buffer[before..], self.at);
            self.buffer.truncate(before + read.as_ref().copied().unwrap_or(0));
            let read = read?;
            if read > 0 {
                self.at += read as u64;
                segment.times.refresh()?;
                return Ok(true);
            }
            if self.segments.len() == 1 {
                if before == 0 {
                    self.buffer = Vec::new();
                }
                return Ok(false);
            }
            let old = self.segments.pop_front();
            let left = old.map_or(Ok(0), |old| old.length())?;
            let moved = self.segments.front().map_or(0, |next| next.moved);
            // What was read before it was moved.
            self.at = self.at.saturating_sub(left).min(moved);
        }
    }

    fn seek(&mut self, (index, offset): Position) {
        self.segments.drain(..index.min(self.segments.len()));
        self.at = offset;
    }

    fn last_position(&self) -> io::Result<Position> {
        match self.segments.back() {
            Some(last) => {
                let floor = if self.segments.len() == 1 { self.at } else { 0 };
                Ok((self.segments.len() - 1, last.length()?.max(floor)))
            }
            None => Ok((0, 0)),
        }
    }

    fn first_record_not(&mut self, before: impl Fn(&Record) -> bool) -> io::Result<Option<Position>> {
        for (index, segment) in self.segments.iter_mut().enumerate() {
            let floor = if index == 0 { self.at } else { 0 };
            if segment.length()? <= floor {
                continue;
            }
            let offset = segment.times.first_not(&before)?;
            let offset = offset.map(|offset| offset.max(floor));
            if let Some(offset) = offset.filter(|offset| segment.end.is_none_or(|end| *offset <= end)) {
                return Ok(Some((index, offset)));
            }
        }
        Ok(None)
    }

    /// Where the first line begins at or after a position.
    fn next_line(&self, (index, offset): Position) -> io::Result<Position> {
        let floor = |index| if index == 0 { self.at } else { 0 };
        let mut before = (index, offset);
        while before.1 <= floor(before.0) {
            if before.0 == 0 {
                return Ok((index, offset));
            }
            before = (before.0 - 1, self.segments[before.0 - 1].length()?);
        }
        let mut block = Vec::new();
        self.read_whole(before.0, before.1 - 1..before.1, &mut block)?;
        if block == b"\n" {
            return Ok((index, offset));
        }
        for later in index..self.segments.len() {
            let (mut low, end) = (if later == index { offset } else { 0 }, self.segments[later].length()?);
            while low < end {
                let high = end.min(low + READ as u64);
                self.read_whole(later, low..high, &mut block)?;
                if let Some(newline) = memchr::memchr(b'\n', &block) {
                    return Ok((later, low + newline as u64 + 1));
                }
                low = high;
            }
        }
        self.last_position()
    }

    /// Reads a range; what is not there any more is missing at its end.
    fn read_whole(&self, index: usize, range: std::ops::Range<u64>, block: &mut Vec<u8>) -> io::Result<()> {
        block.resize(usize::try_from(range.end - range.start).unwrap_or(READ), 0);
        let mut got = 0;
        while got < block.len() {
            match read_at(&self.segments[index].bytes, &mut block[got..], range.start + got as u64)? {
                0 => break,
                count => got += count,
            }
        }
        block.truncate(got);
        Ok(())
    }
}

fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    loop {
        match file.read_at(buffer, offset) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}
