//! A sandbox, a cache and a server on 127.0.0.1 for the tests of fetching.

mod archives;
mod caching;
mod downloads;
mod files;
mod threads;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::text::hex;

const OWNER: Owner = Owner { uid: 1234, gid: 2345 };

struct Fixture {
    folder: tempfile::TempDir,
    cache: Cache,
}

impl Fixture {
    fn new() -> Self {
        Self::with(Options {
            max_bytes: 1 << 20,
            stall_timeout: Duration::from_millis(500),
            ..Options::default()
        })
    }

    fn with(options: Options) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("sandbox")).unwrap();
        let cache = Cache::open(&folder.path().join("state"), options).unwrap();
        Self { folder, cache }
    }

    fn sandbox(&self) -> PathBuf {
        self.folder.path().join("sandbox")
    }

    fn host_file(&self, name: &str, content: &[u8]) -> FetchSource {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        FetchSource::File(path)
    }

    fn entry(&self, content: &[u8]) -> PathBuf {
        self.folder.path().join("state/cache/sha256").join(hex(&sha(content)))
    }

    async fn fetch(
        &self,
        source: FetchSource,
        sha256: Option<[u8; 32]>,
        target: &str,
        form: FetchForm,
    ) -> Result<(), FetchError> {
        let fetch = Fetch { source, sha256, target: PathBuf::from(target), form };
        fetch_one(&fetch, self).await
    }

    /// Every path in the sandbox, with what it holds or where it leads.
    fn tree(&self) -> BTreeMap<String, String> {
        let mut tree = BTreeMap::new();
        let mut folders = vec![self.sandbox()];
        while let Some(folder) = folders.pop() {
            for item in std::fs::read_dir(folder).unwrap() {
                let path = item.unwrap().path();
                let name = path.strip_prefix(self.sandbox()).unwrap().display().to_string();
                let metadata = std::fs::symlink_metadata(&path).unwrap();
                if metadata.is_dir() {
                    tree.insert(name + "/", String::new());
                    folders.push(path);
                } else if metadata.is_symlink() {
                    tree.insert(name, format!("-> {}", std::fs::read_link(path).unwrap().display()));
                } else {
                    tree.insert(name, String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned());
                }
            }
        }
        tree
    }
}

async fn fetch_one(one: &Fetch, fixture: &Fixture) -> Result<(), FetchError> {
    fetch(std::slice::from_ref(one), &fixture.sandbox(), &fixture.cache, OWNER).await
}

fn tree(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
    entries.iter().map(|(name, content)| ((*name).to_owned(), (*content).to_owned())).collect()
}

fn sha(content: &[u8]) -> [u8; 32] {
    Sha256::digest(content).into()
}

/// A server on 127.0.0.1 that answers each request line's path as told, and counts.
struct Server {
    base: String,
    count: Arc<AtomicUsize>,
    paths: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    async fn new(answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::start(None, answer).await
    }

    async fn start(
        tls: Option<TlsAcceptor>,
        answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let base = format!("{scheme}://{}", listener.local_addr().unwrap());
        let (count, paths) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
        let (counted, seen, answer) = (Arc::clone(&count), Arc::clone(&paths), Arc::new(answer));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
                let (tls, answer, seen) = (tls.clone(), Arc::clone(&answer), Arc::clone(&seen));
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, &*answer, &seen).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, &*answer, &seen).await;
                            }
                        }
                    }
                });
            }
        });
        Self { base, count, paths, task }
    }

    fn url(&self, path: &str) -> FetchSource {
        FetchSource::Http(format!("{}{path}", self.base))
    }

    fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    answer: &(dyn Fn(&str) -> Vec<u8> + Send + Sync),
    seen: &Mutex<Vec<String>>,
) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => request.push(byte),
            Err(_) => return,
        }
    }
    let request = String::from_utf8(request).unwrap();
    let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
    seen.lock().unwrap().push(path.clone());
    let answer = answer(&path);
    let _ = stream.write_all(&answer).await;
    if answer.ends_with(b"STALL") {
        // Until the client leaves.
        let _ = stream.read_u8().await;
    }
    let _ = stream.shutdown().await;
}

fn ok(content: &[u8]) -> Vec<u8> {
    let mut answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", content.len()).into_bytes();
    answer.extend_from_slice(content);
    answer
}

fn redirect(status: u16, to: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status} Elsewhere\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n").into_bytes()
}
