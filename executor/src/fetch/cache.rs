//! Files by their SHA-256, shared by all executors of a host.
//!
//! ```text
//!  <state>/cache/sha256/<hex>        the file, root's alone; never changed, never linked to
//!                       <hex>.lock   locked while it is fetched, checked or removed; holds what the file looked like when
//!                                    its hash was last computed, and its time is that of the last use
//!                       <hex>.part   being fetched
//! ```

use std::fs::{DirBuilder, File, Metadata};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sha2::{Digest as _, Sha256};

use super::{Failure, Options, blocking, http, open_regular};
use crate::files;
use crate::spec::FetchSource;
use crate::text::hex;

/// The waits for a lock that somebody else has, who may be downloading.
const FIRST_WAIT: Duration = Duration::from_millis(5);
const LONGEST_WAIT: Duration = Duration::from_millis(200);

/// The cache of a host.
#[derive(Debug, Clone)]
pub struct Cache {
    folder: PathBuf,
    options: Options,
}

/// What a collection did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Collected {
    /// Files removed.
    pub removed: usize,
    /// Their bytes.
    pub removed_bytes: u64,
    /// Bytes of the files that are left.
    pub left_bytes: u64,
}

impl Cache {
    /// The cache in the state folder `state`, made (for root alone) if it is not there.
    ///
    /// # Errors
    /// When its folder cannot be made.
    pub fn open(state: &Path, options: Options) -> Result<Self, Failure> {
        let folder = state.join("cache/sha256");
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .map_err(Failure::io("make", &folder))?;
        Ok(Self { folder, options })
    }

    /// How things are fetched.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The file with this hash, open at its beginning, fetched if it is not here. It can be read even if it is
    /// collected meanwhile.
    ///
    /// # Errors
    /// When it cannot be fetched, or is not what was promised.
    pub async fn file(&self, hash: &[u8; 32], source: &FetchSource) -> Result<File, Failure> {
        let entry = EntryPaths::new(&self.folder, hash);
        let lock = lock(&entry).await?;
        let (at, hash) = (entry.clone(), *hash);
        let (lock, found) = blocking(move || {
            let found = usable(&at, &hash, &lock)?;
            Ok((lock, found))
        })
        .await?;
        if let Some(file) = found {
            return Ok(file);
        }
        let at = entry.clone();
        let (part, file) = blocking(move || {
            let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&at.part);
            let file = file.map_err(Failure::io("make", &at.part))?;
            Ok((Part(at.part), file))
        })
        .await?;
        let found = match source {
            FetchSource::Http(url) => {
                http::download(url, &self.options, duplicate(&file, &entry.part)?, &entry.part).await?
            }
            FetchSource::File(path) => {
                let (from, to) = (path.clone(), entry.part.clone());
                let (target, max_bytes) = (duplicate(&file, &entry.part)?, self.options.max_bytes);
                blocking(move || copy(&from, target, &to, max_bytes)).await?
            }
        };
        if found != hash {
            return Err(Failure::Hash { expected: hex(&hash), found: hex(&found) });
        }
        blocking(move || {
            file.sync_all().map_err(Failure::io("sync", &entry.part))?;
            std::fs::rename(&part.0, &entry.file).map_err(Failure::io("make", &entry.file))?;
            let file = File::open(&entry.file).map_err(Failure::io("open", &entry.file))?;
            record(&file, &lock, &entry)?;
            Ok(file)
        })
        .await
    }

    /// Removes files not used for `max_age`, and then those whose last use is longest ago until all together have no
    /// more than `max_bytes`. Files that somebody is fetching or checking stay.
    ///
    /// # Errors
    /// When the folder cannot be read; a file that cannot be removed stays.
    pub async fn collect(
        &self,
        max_bytes: u64,
        max_age: Duration,
        now: SystemTime,
    ) -> Result<Collected, Failure> {
        let folder = self.folder.clone();
        blocking(move || collect(&folder, max_bytes, max_age, now)).await
    }
}

#[derive(Debug, Clone)]
struct EntryPaths {
    file: PathBuf,
    lock: PathBuf,
    part: PathBuf,
}

impl EntryPaths {
    fn new(folder: &Path, hash: &[u8; 32]) -> Self {
        Self::of(folder, &hex(hash))
    }

    fn of(folder: &Path, hex: &str) -> Self {
        Self {
            file: folder.join(hex),
            lock: folder.join(format!("{hex}.lock")),
            part: folder.join(format!("{hex}.part")),
        }
    }
}

/// A file being fetched; dropped, it is removed (once renamed, there is nothing of its name).
struct Part(PathBuf);

impl Drop for Part {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Whether a file is removed, with `total` bytes of files still here.
fn must_go(unused: Duration, total: u64, max_bytes: u64, max_age: Duration) -> bool {
    unused > max_age || total > max_bytes
}

fn collect(folder: &Path, max_bytes: u64, max_age: Duration, now: SystemTime) -> Result<Collected, Failure> {
    let mut files = Vec::new();
    let mut rest = Vec::new();
    for item in std::fs::read_dir(folder).map_err(Failure::io("read", folder))? {
        let name = item.map_err(Failure::io("read", folder))?.file_name().to_string_lossy().into_owned();
        let (hex, ending) = name.split_once('.').unwrap_or((&name, ""));
        if hex.len() != 64 || !hex.bytes().all(|one| one.is_ascii_hexdigit()) {
            continue;
        }
        let entry = EntryPaths::of(folder, hex);
        match ending {
            "" => {
                let Ok(metadata) = std::fs::symlink_metadata(&entry.file) else {
                    continue;
                };
                let used =
                    std::fs::metadata(&entry.lock).and_then(|lock| lock.modified()).or(metadata.modified());
                files.push((used.unwrap_or(now), metadata.len(), entry));
            }
            "part" | "lock" => rest.push(entry),
            _ => {}
        }
    }
    files.sort_by_key(|(used, ..)| *used);
    let mut collected =
        Collected { left_bytes: files.iter().map(|(_, size, _)| size).sum(), ..Collected::default() };
    for (used, size, entry) in files {
        let unused = now.duration_since(used).unwrap_or_default();
        if must_go(unused, collected.left_bytes, max_bytes, max_age) && remove(&entry) {
            collected.removed += 1;
            collected.removed_bytes += size;
            collected.left_bytes -= size;
        }
    }
    // What executors left that died while they fetched.
    for entry in rest.into_iter().filter(|entry| entry.part.exists() || !entry.file.exists()) {
        let Ok(Some(_lock)) = try_lock(&entry) else {
            continue;
        };
        let _ = std::fs::remove_file(&entry.part);
        if !entry.file.exists() {
            let _ = std::fs::remove_file(&entry.lock);
        }
    }
    Ok(collected)
}

/// Removes an entry, its lock last, unless it is locked.
fn remove(entry: &EntryPaths) -> bool {
    let Ok(Some(_lock)) = try_lock(entry) else {
        return false;
    };
    let removed = std::fs::remove_file(&entry.file).is_ok();
    if removed {
        let _ = std::fs::remove_file(&entry.lock);
    }
    removed
}

async fn lock(entry: &EntryPaths) -> Result<File, Failure> {
    let mut wait = FIRST_WAIT;
    loop {
        let at = entry.clone();
        if let Some(lock) = blocking(move || try_lock(&at)).await? {
            return Ok(lock);
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

/// Locks an entry, if nobody else has.
fn try_lock(entry: &EntryPaths) -> Result<Option<File>, Failure> {
    let failed = |verb| Failure::io(verb, &entry.lock);
    let lock =
        File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(&entry.lock);
    let lock = lock.map_err(failed("make"))?;
    let ours = files::try_lock(&lock).map_err(failed("lock"))? && files::is_at(&lock, &entry.lock);
    Ok(ours.then_some(lock))
}

/// The entry, if it is here and is what its name says. One that has changed since its hash was computed is hashed anew.
fn usable(entry: &EntryPaths, hash: &[u8; 32], lock: &File) -> Result<Option<File>, Failure> {
    let flags = nix::fcntl::OFlag::O_NOFOLLOW.bits();
    let mut file = match File::options().read(true).custom_flags(flags).open(&entry.file) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Failure::io("open", &entry.file)(error)),
    };
    let metadata = file.metadata().map_err(Failure::io("look at", &entry.file))?;
    let mut recorded = String::new();
    let _ = (&mut &*lock).take(1024).read_to_string(&mut recorded);
    if recorded == appearance(&metadata) {
        // Its last use; without it, it is collected early at worst.
        let _ = lock.set_modified(SystemTime::now());
        return Ok(Some(file));
    }
    let found = pour(&mut file, &mut io::sink(), u64::MAX, &entry.file, &entry.file)?;
    if found != *hash {
        tracing::warn!(path = %entry.file.display(), found = hex(&found), "a cached file has changed");
        std::fs::remove_file(&entry.file).map_err(Failure::io("remove", &entry.file))?;
        return Ok(None);
    }
    record(&file, lock, entry)?;
    io::Seek::rewind(&mut file).map_err(Failure::io("rewind", &entry.file))?;
    Ok(Some(file))
}

fn record(file: &File, lock: &File, entry: &EntryPaths) -> Result<(), Failure> {
    let metadata = file.metadata().map_err(Failure::io("look at", &entry.file))?;
    let written = lock.set_len(0).and_then(|()| lock.write_all_at(appearance(&metadata).as_bytes(), 0));
    written.map_err(Failure::io("write", &entry.lock))
}

/// What changes whenever a file does; the change time cannot be set by anybody.
fn appearance(metadata: &Metadata) -> String {
    format!(
        "{} {}.{:09} {}.{:09} {}\n",
        metadata.len(),
        metadata.mtime(),
        metadata.mtime_nsec(),
        metadata.ctime(),
        metadata.ctime_nsec(),
        metadata.ino()
    )
}

fn copy(from: &Path, mut to: File, to_path: &Path, max_bytes: u64) -> Result<[u8; 32], Failure> {
    pour(&mut open_regular(from)?, &mut to, max_bytes, from, to_path)
}

/// Writes everything from one to the other and returns its SHA-256.
fn pour(
    from: &mut impl Read,
    to: &mut impl Write,
    max_bytes: u64,
    from_path: &Path,
    to_path: &Path,
) -> Result<[u8; 32], Failure> {
    let mut hash = Sha256::new();
    let mut left = max_bytes;
    let mut buffer = vec![0; 256 << 10];
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => return Ok(hash.finalize().into()),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(Failure::io("read", from_path)(error)),
        };
        left = left.checked_sub(count as u64).ok_or(Failure::TooLarge(max_bytes))?;
        hash.update(&buffer[..count]);
        to.write_all(&buffer[..count]).map_err(Failure::io("write", to_path))?;
    }
}

fn duplicate(file: &File, path: &Path) -> Result<File, Failure> {
    file.try_clone().map_err(Failure::io("duplicate the descriptor of", path))
}
