//! A log file of bounded size: `stdout`, `stdout.1`, `stdout.2`, the higher the older.
//!
//! ```text
//!  bytes -> write -> stdout, full at exactly the limit -> renamed, a new one begun with the line that did not fit
//!                    disk full: bytes are counted, and a line says how many are missing as soon as there is room
//! ```
//! The folder may belong to the task's user: no name in it is trusted, no link followed.

#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};

use crate::spec::{LogLimits, Owner};

/// A file that is rotated. What cannot be written is dropped, counted and marked; nothing here ever fails.
#[derive(Debug)]
pub struct RotatedFile {
    path: PathBuf,
    limits: LogLimits,
    owner: Owner,
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

impl RotatedFile {
    /// Opens `path` for appending, or makes it for `owner` (mode 0644). What is there and is not a plain file of `owner`
    /// with one name is rotated away.
    ///
    /// # Errors
    /// When it can neither be opened nor made, with its path.
    pub fn create(path: &Path, limits: LogLimits, owner: Owner) -> io::Result<Self> {
        let mut this = Self {
            path: path.to_owned(),
            limits,
            owner,
            file: None,
            length: 0,
            line: 0,
            gap: None,
            counts: Counts::default(),
        };
        let opened = match this.open() {
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

    /// Writes all of `data`, rotating where needed.
    pub fn write(&mut self, data: &[u8]) {
        if self.gap.is_some() && !self.mark() {
            return self.lose(data.len(), None);
        }
        let mut rest = data;
        while !rest.is_empty() {
            let part = &rest[..self.fitting(rest)];
            let step = if part.is_empty() { self.rotate() } else { self.append(part) };
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

    /// What became of all bytes so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// How much of `data` goes into this file: up to its limit, but no part of a line that fits into a file whole.
    fn fitting(&self, data: &[u8]) -> usize {
        let room = usize::try_from(self.limits.bytes.saturating_sub(self.length)).unwrap_or(usize::MAX);
        if self.file.is_none() {
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

    fn append(&mut self, part: &[u8]) -> Result<(), (usize, io::Error)> {
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
    fn mark(&mut self) -> bool {
        let Some(Gap { bytes, cause }) = self.gap.take() else {
            return true;
        };
        let newline = if self.line < self.length { "\n" } else { "" };
        let text = format!("{newline}[kube-executor: {bytes} bytes of output are missing here: {cause}]\n");
        let full = self.length + size(text.len()) > self.limits.bytes && self.length > 0;
        let result = if full || self.file.is_none() { self.rotate() } else { Ok(()) };
        let (length, line) = (self.length, self.line);
        let result = result.and_then(|()| self.append(text.as_bytes()));
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
    fn rotate(&mut self) -> Result<(), (usize, io::Error)> {
        let old = self.file.take();
        if let Some(file) = old {
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
            let begun = self.length - self.line;
            let new = self.begin_anew();
            let moved = match &new {
                Ok(new) if begun > 0 && self.line > 0 && move_end(&file, new, self.line, begun).is_ok() => {
                    begun
                }
                _ => 0,
            };
            (self.length, self.line) = (moved, 0);
            self.file = Some(new.map_err(|error| (0, error))?);
        } else {
            self.file = Some(self.begin_anew().map_err(|error| (0, error))?);
        }
        Ok(())
    }

    /// Makes the file, also where somebody else has just made one.
    fn begin_anew(&self) -> io::Result<File> {
        match self.begin() {
            Err(error) if is_foreign(&error) => self.shift().and_then(|()| self.begin()),
            begun => begun,
        }
    }

    /// Renames every file to the next older name; the oldest is removed.
    fn shift(&self) -> io::Result<()> {
        let oldest = self.limits.files.get() - 1;
        if oldest == 0 {
            return missing_is_fine(std::fs::remove_file(&self.path));
        }
        for number in (0..oldest).rev() {
            missing_is_fine(std::fs::rename(self.numbered(number), self.numbered(number + 1)))?;
        }
        Ok(())
    }

    fn numbered(&self, number: u32) -> PathBuf {
        if number == 0 {
            return self.path.clone();
        }
        let mut name = OsString::from(&self.path);
        name.push(format!(".{number}"));
        PathBuf::from(name)
    }

    fn open(&self) -> io::Result<File> {
        let flags = nix::fcntl::OFlag::O_NOFOLLOW | nix::fcntl::OFlag::O_NONBLOCK;
        let file = OpenOptions::new().read(true).append(true).custom_flags(flags.bits()).open(&self.path)?;
        let metadata = file.metadata()?;
        let ours = metadata.is_file() && metadata.nlink() == 1 && metadata.uid() == self.owner.uid;
        if ours { Ok(file) } else { Err(ErrorKind::AlreadyExists.into()) }
    }

    fn begin(&self) -> io::Result<File> {
        let file =
            OpenOptions::new().read(true).append(true).create_new(true).mode(0o644).open(&self.path)?;
        fchown(&file, Some(self.owner.uid), Some(self.owner.gid))?;
        Ok(file)
    }
}

/// Whether the name is taken by something that is no log file: a link, a folder, a pipe without reader.
fn is_foreign(error: &io::Error) -> bool {
    let links_and_pipes = [nix::libc::ELOOP, nix::libc::ENXIO];
    matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::IsADirectory)
        || error.raw_os_error().is_some_and(|code| links_and_pipes.contains(&code))
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

fn missing_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn size(length: usize) -> u64 {
    length as u64
}
