//! A log file of bounded size: `stdout`, `stdout.1`, `stdout.2`, the higher the older.
//!
//! ```text
//!  bytes -> write -> stdout, full at exactly the limit -> renamed, a new one begun with the line that did not fit
//!                    disk full: bytes are counted, and a line says how many are missing as soon as there is room
//! ```
//! Beside each a file says when its bytes were read: see `times`.

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use super::numbered::{Holds, Numbered, is_foreign, reopen};
use super::times::Times;
use crate::spec::{LogLimits, Owner};

/// A file that is rotated. What cannot be written is dropped, counted and marked; nothing here ever fails.
#[derive(Debug)]
pub struct RotatedFile {
    path: PathBuf,
    limits: LogLimits,
    names: Numbered,
    times: Times,
    /// The file written to; `None` after a rotation whose new file could not be made.
    file: Option<File>,
    /// Its bytes.
    length: u64,
    /// Where its last line begins; `length` after a newline.
    line: u64,
    /// Bytes lost since the last mark, and why.
    gap: Option<Gap>,
    counts: Counts,
}

/// What became of the bytes of one output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Bytes written, marks not included.
    pub written: u64,
    /// Bytes that could not be written.
    pub dropped: u64,
}

#[derive(Debug)]
struct Gap {
    bytes: u64,
    cause: io::Error,
}

/// A log file for somebody else to read.
#[derive(Debug)]
pub(super) struct ForReading {
    pub(super) log: File,
    pub(super) times: Option<File>,
}

/// Hears of rotations while they happen.
pub(super) trait Listener {
    /// The log goes on in a new file, which begins with `moved` bytes that were the end of the one before. `open` opens it.
    fn rotated(&mut self, moved: u64, open: &mut dyn FnMut() -> io::Result<ForReading>);
}

/// Nobody listens.
impl Listener for () {
    fn rotated(&mut self, _: u64, _: &mut dyn FnMut() -> io::Result<ForReading>) {}
}

impl RotatedFile {
    /// Opens `path` for appending, or makes it for `owner` (mode 0644). What is there and is not a plain file of `owner`
    /// with one name is rotated away. What is written comes from the task's process of this number.
    ///
    /// # Errors
    /// When it can neither be opened nor made, with its path.
    pub fn create(path: &Path, limits: LogLimits, owner: Owner, process: u16) -> io::Result<Self> {
        let numbered = |holds| Numbered::new(path, holds, limits.files, owner);
        let mut this = Self {
            path: path.to_owned(),
            limits,
            names: numbered(Holds::Bytes),
            times: Times::new(numbered(Holds::Times), limits.bytes, process),
            file: None,
            length: 0,
            line: 0,
            gap: None,
            counts: Counts::default(),
        };
        let opened = match this.names.open() {
            Err(error) if error.kind() == ErrorKind::NotFound || is_foreign(&error) => this.begin_anew(),
            opened => opened,
        };
        let file = opened.map_err(|error| {
            io::Error::new(error.kind(), format!("open {} for writing: {error}", path.display()))
        })?;
        this.length = file.metadata()?.len();
        this.line = this.length;
        this.file = Some(file);
        Ok(this)
    }

    /// Writes all of `data`, read `now` (milliseconds since 1970), rotating where needed.
    pub fn write(&mut self, data: &[u8], now: u64) {
        self.write_to(data, now, &mut ());
    }

    pub(super) fn write_to(&mut self, data: &[u8], now: u64, listener: &mut dyn Listener) {
        if self.gap.is_some() && !self.mark(now, listener) {
            return self.lose(data.len(), None);
        }
        let mut rest = data;
        while !rest.is_empty() {
            let part = &rest[..self.fitting(rest)];
            let step = if part.is_empty() { self.rotate(listener) } else { self.append(part, now) };
            match step {
                Ok(()) => {
                    self.counts.written += size(part.len());
                    rest = &rest[part.len()..];
                }
                Err((done, cause)) => {
                    self.counts.written += size(done);
                    return self.lose(rest.len() - done, Some(cause));
                }
            }
        }
    }

    /// Opens the file written to, with its times, for somebody else; `None` while there is none.
    pub(super) fn for_reading(&mut self) -> io::Result<Option<ForReading>> {
        let Some(log) = &self.file else { return Ok(None) };
        let times = self.times.file(self.length).map(reopen).transpose()?;
        Ok(Some(ForReading { log: reopen(log)?, times }))
    }

    /// Which file is written to: device and inode.
    pub(super) fn identity(&self) -> Option<(u64, u64)> {
        let metadata = self.file.as_ref()?.metadata().ok()?;
        Some((metadata.dev(), metadata.ino()))
    }

    /// What became of all bytes so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// How much of `data` goes into this file: up to its limit, but no part of a line that fits into a file whole.
    fn fitting(&self, data: &[u8]) -> usize {
        let room = usize::try_from(self.limits.bytes.saturating_sub(self.length)).unwrap_or(usize::MAX);
        if self.file.is_none() || self.times.are_full() {
            return 0;
        }
        if data.len() <= room {
            return data.len();
        }
        match data[..room].iter().rposition(|byte| *byte == b'\n') {
            Some(newline) => newline + 1,
            // The file holds nothing but this line, which is longer than any file.
            None if self.line == 0 => room,
            None => 0,
        }
    }

    fn append(&mut self, part: &[u8], now: u64) -> Result<(), (usize, io::Error)> {
        self.times.note(self.length, now);
        let mut done = 0;
        let result = loop {
            let Some(file) = self.file.as_mut().filter(|_| done < part.len()) else {
                break Ok(());
            };
            match file.write(&part[done..]) {
                Ok(0) => break Err(ErrorKind::WriteZero.into()),
                Ok(count) => done += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        if let Some(newline) = part[..done].iter().rposition(|byte| *byte == b'\n') {
            self.line = self.length + size(newline) + 1;
        }
        self.length += size(done);
        result.map_err(|error| (done, error))
    }

    fn lose(&mut self, bytes: usize, cause: Option<io::Error>) {
        let bytes = size(bytes);
        self.counts.dropped += bytes;
        match (&mut self.gap, cause) {
            (Some(gap), _) => gap.bytes += bytes,
            (None, Some(cause)) => {
                tracing::warn!(path = %self.path.display(), %cause, "output is being lost");
                self.gap = Some(Gap { bytes, cause });
            }
            (None, None) => {}
        }
    }

    /// Writes the line that says what is missing, whole or not at all.
    fn mark(&mut self, now: u64, listener: &mut dyn Listener) -> bool {
        let Some(Gap { bytes, cause }) = self.gap.take() else {
            return true;
        };
        let newline = if self.line < self.length { "\n" } else { "" };
        let text = format!("{newline}[kube-executor: {bytes} bytes of output are missing here: {cause}]\n");
        let full = self.length + size(text.len()) > self.limits.bytes && self.length > 0;
        let result = if full || self.file.is_none() { self.rotate(listener) } else { Ok(()) };
        let (length, line) = (self.length, self.line);
        let result = result.and_then(|()| self.append(text.as_bytes(), now));
        if result.is_err() {
            if let Some(file) = self.file.as_ref().filter(|_| self.length > length) {
                // A part of a mark would look like output; if it cannot be taken back, it stays.
                if file.set_len(length).is_ok() {
                    (self.length, self.line) = (length, line);
                }
            }
            self.gap = Some(Gap { bytes, cause });
        }
        result.is_ok()
    }

    /// Begins a new file, with the last line of the old one if that is not whole yet.
    fn rotate(&mut self, listener: &mut dyn Listener) -> Result<(), (usize, io::Error)> {
        let mut moved = 0;
        if let Some(file) = self.file.take() {
            // Somebody may have truncated it.
            if let Some(length) =
                file.metadata().ok().map(|metadata| metadata.len()).filter(|now| *now < self.length)
            {
                (self.length, self.line) = (length, length);
            }
            if let Err(error) = self.shift() {
                self.file = Some(file);
                return Err((0, error));
            }
            let (begun, line) = (self.length - self.line, self.line);
            let new = self.begin_anew();
            // A line whose times alone fill a file is cut.
            let whole = begun > 0 && line > 0 && !self.times.are_full();
            if let Ok(new) = &new
                && whole
                && move_end(&file, new, line, begun).is_ok()
            {
                moved = begun;
            }
            self.times.rotate((moved > 0).then_some(line));
            (self.length, self.line) = (moved, 0);
            self.file = Some(new.map_err(|error| (0, error))?);
        } else {
            self.file = Some(self.begin_anew().map_err(|error| (0, error))?);
            self.times.rotate(None);
        }
        listener.rotated(moved, &mut || {
            self.for_reading()?.ok_or_else(|| io::Error::other("the new log file is gone"))
        });
        Ok(())
    }

    /// Makes the file, also where somebody else has just made one.
    fn begin_anew(&mut self) -> io::Result<File> {
        match self.names.begin() {
            Err(error) if is_foreign(&error) => self.shift().and_then(|()| self.names.begin()),
            begun => begun,
        }
    }

    fn shift(&mut self) -> io::Result<()> {
        self.names.shift()?;
        self.times.shift();
        Ok(())
    }
}

/// Moves the `count` bytes from `start` to the end of `old` to the empty `new`; on failure everything is as it was.
fn move_end(old: &File, new: &File, start: u64, count: u64) -> io::Result<()> {
    let mut from = At { file: old, offset: start }.take(count);
    let copied = io::copy(&mut from, &mut &*new);
    if copied.as_ref().is_ok_and(|copied| *copied == count) && old.set_len(start).is_ok() {
        return Ok(());
    }
    new.set_len(0)?;
    copied.and(Err(ErrorKind::UnexpectedEof.into()))
}

/// Reads a file from `offset` on.
struct At<'a> {
    file: &'a File,
    offset: u64,
}

impl io::Read for At<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.offset)?;
        self.offset += size(count);
        Ok(count)
    }
}

fn size(length: usize) -> u64 {
    length as u64
}
