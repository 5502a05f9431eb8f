//! The sandbox files that `dcos task log` and `dcos task ls` read: a task's stdout and stderr, by the descriptors that its
//! executor hands over. A path is compared with those of known tasks and never opened.

use std::os::fd::OwnedFd;

use hyper::header::{CONTENT_DISPOSITION, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::json;
use task::control::Stream;

use super::answer::{self, Refused};
use super::containers::{self, Place};
use super::route::{Agent, File};
use super::state::{all, seen};
use crate::endpoint::{Body, Caller, Endpoint};
use crate::gate::Closing;
use crate::policy::Verb;
use crate::protocol::query::Query;
use crate::session::log;

/// The most that is read at once, as of Mesos: 16 pages.
const LONGEST_READ: u64 = 16 * 4096;
/// The most that is downloaded: the end of a longer file is left out.
const LONGEST_DOWNLOAD: u64 = 64 << 20;

/// An answer for these paths.
pub(super) async fn answer(
    endpoint: &Endpoint,
    caller: &Caller,
    agent: &Agent,
    file: File,
    query: &str,
) -> Result<Response<Body>, Refused> {
    let query = Query::parse(query).map_err(|error| Refused::bad(format!("{error}.\n")))?;
    let get = |name: &'static str| query.all(name).next();
    if file == File::Debug {
        return Ok(json_answer(&json!({})));
    }
    let path = get("path").ok_or_else(|| Refused::bad("Expecting 'path=value' in query.\n"))?;
    let range = if file == File::Read { Some(Range::parse(get("offset"), get("length"))?) } else { None };
    let not_found = || Refused::not_found("");
    if let (File::Browse, Some(names)) = (file, folders(endpoint, caller, agent, path)) {
        return Ok(json_answer(&json!(names.iter().map(|name| folder(path, name)).collect::<Vec<_>>())));
    }
    let (place, stream) = find(endpoint, agent, path).ok_or_else(not_found)?;
    let granted = containers::ask(endpoint, caller, &place, vec![Verb::Logs], &[]);
    let granted = match granted {
        Err(_) if !endpoint.gate.sees(&caller.who, place.target()) => return Err(not_found()),
        other => other?,
    };
    let read = match (file, stream) {
        (File::Browse, None) => browse(&place, path).await,
        (File::Browse, Some(_)) | (File::Debug, _) => Err(not_found()),
        (File::Read | File::Download, None) => Err(Refused::bad("Cannot read a directory.\n")),
        (File::Read, Some(stream)) => read(&place, stream, range.unwrap_or_default()).await,
        (File::Download, Some(stream)) => download(&place, stream).await,
    };
    granted.close(&Closing { reason: "read".to_owned(), ..Closing::default() });
    read
}

/// The folders in a pod's sandbox, or in its `tasks`, if the path is one of these: those of the tasks that the caller may see.
fn folders(endpoint: &Endpoint, caller: &Caller, agent: &Agent, path: &str) -> Option<Vec<String>> {
    let parts = parts(path);
    let mut found = None;
    for one in seen(endpoint, caller, agent) {
        let sandbox = self::parts(&one.pod.pod.sandbox);
        match parts.strip_prefix(sandbox.as_slice()) {
            Some([]) => found.get_or_insert_with(Vec::new).push("tasks".to_owned()),
            Some(["tasks"]) => {
                found.get_or_insert_with(Vec::new).extend(one.tasks.iter().map(|task| task.id.value.clone()));
            }
            _ => {}
        }
    }
    found
}

fn folder(path: &str, name: &str) -> serde_json::Value {
    json!({"path": inside(path, name), "size": 4096, "mtime": 0, "mode": "drwxr-xr-x", "nlink": 2, "uid": "root",
        "gid": "root"})
}

fn inside(folder: &str, name: &str) -> String {
    format!("{}/{name}", folder.trim_end_matches("/.").trim_end_matches('/'))
}

fn parts(path: &str) -> Vec<&str> {
    path.split('/').filter(|part| !part.is_empty() && *part != ".").collect()
}

/// The task whose folder a path is, or whose stream, whoever may know of it.
fn find(endpoint: &Endpoint, agent: &Agent, path: &str) -> Option<(Place, Option<Stream>)> {
    let parts = parts(path);
    for one in all(endpoint, agent, |_, _| true) {
        for task in &one.tasks {
            let listed = format!("{}/tasks/{}", one.pod.pod.sandbox, task.id);
            for folder in [listed.as_str(), task.sandbox.as_str()] {
                let folder = self::parts(folder);
                let stream = match parts.strip_prefix(folder.as_slice()) {
                    Some([]) => None,
                    Some(["stdout"]) => Some(Stream::Stdout),
                    Some(["stderr"]) => Some(Stream::Stderr),
                    _ => continue,
                };
                return Some((Place { pod: one.pod.clone(), task: task.clone() }, stream));
            }
        }
    }
    None
}

/// Which part of a file: pure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Range {
    /// None for the file's end: only its size is wanted.
    offset: Option<u64>,
    length: Option<u64>,
}

impl Range {
    fn parse(offset: Option<&str>, length: Option<&str>) -> Result<Self, Refused> {
        let number = |name: &str, text: Option<&str>| {
            let Some(text) = text else { return Ok(None) };
            match text.parse::<i64>() {
                Ok(-1) => Ok(None),
                Ok(number) => u64::try_from(number)
                    .map(Some)
                    .map_err(|_| Refused::bad(format!("Negative {name} provided: {number}.\n"))),
                Err(_) => Err(Refused::bad(format!(
                    "Failed to parse {name}: Failed to convert '{text}' to number.\n"
                ))),
            }
        };
        Ok(Self { offset: number("offset", offset)?, length: number("length", length)? })
    }
}

async fn read(
    place: &Place,
    stream: Stream,
    Range { offset, length }: Range,
) -> Result<Response<Body>, Refused> {
    let file = open(place, stream).await?;
    let Some(offset) = offset else {
        return Ok(json_answer(&json!({"data": "", "offset": size(&file)?})));
    };
    let length = length.unwrap_or(LONGEST_READ).min(LONGEST_READ);
    let bytes = read_at(&file, offset, length)?;
    Ok(json_answer(&json!({"data": String::from_utf8_lossy(&bytes), "offset": offset})))
}

async fn download(place: &Place, stream: Stream) -> Result<Response<Body>, Refused> {
    let file = open(place, stream).await?;
    let mut bytes = Vec::new();
    let wanted = size(&file)?.min(LONGEST_DOWNLOAD);
    while (bytes.len() as u64) < wanted {
        let part = read_at(&file, bytes.len() as u64, LONGEST_READ.min(wanted - bytes.len() as u64))?;
        if part.is_empty() {
            break;
        }
        bytes.extend_from_slice(&part);
        tokio::task::yield_now().await;
    }
    let mut response = answer::whole(StatusCode::OK, "application/octet-stream", bytes);
    let name = match stream {
        Stream::Stdout => "attachment; filename=stdout",
        Stream::Stderr => "attachment; filename=stderr",
    };
    response.headers_mut().insert(CONTENT_DISPOSITION, HeaderValue::from_static(name));
    Ok(response)
}

async fn browse(place: &Place, path: &str) -> Result<Response<Body>, Refused> {
    let mut entries = Vec::new();
    for (stream, name) in [(Stream::Stderr, "stderr"), (Stream::Stdout, "stdout")] {
        let Ok(file) = open(place, stream).await else { continue };
        let stat = rustix::fs::fstat(&file).map_err(|error| Refused::failed(error.to_string()))?;
        entries.push(json!({
            "path": inside(path, name), "size": stat.st_size,
            "mtime": stat.st_mtime, "mode": "-rw-r--r--", "nlink": stat.st_nlink, "uid": "root", "gid": "root",
        }));
    }
    Ok(json_answer(&json!(entries)))
}

/// The file that a stream is written to now.
async fn open(place: &Place, stream: Stream) -> Result<OwnedFd, Refused> {
    let opened = log::open(&place.pod.socket, &place.task, false).await;
    let (_, files) = opened.map_err(|error| Refused::failed(error.to_string()))?;
    let mut of_stream = files.into_iter().filter(|(file, _)| file.stream == stream);
    let found = of_stream.next_back().map(|(_, segment)| segment.into_file());
    found.ok_or_else(|| Refused::not_found(""))
}

fn size(file: &OwnedFd) -> Result<u64, Refused> {
    let stat = rustix::fs::fstat(file).map_err(|error| Refused::failed(error.to_string()))?;
    Ok(u64::try_from(stat.st_size).unwrap_or_default())
}

fn read_at(file: &OwnedFd, offset: u64, length: u64) -> Result<Vec<u8>, Refused> {
    let mut bytes = vec![0; usize::try_from(length.min(LONGEST_READ)).unwrap_or_default()];
    let count = rustix::io::pread(file, &mut bytes[..], offset);
    bytes.truncate(count.map_err(|error| Refused::failed(error.to_string()))?);
    Ok(bytes)
}

fn json_answer(value: &serde_json::Value) -> Response<Body> {
    answer::whole(StatusCode::OK, "application/json", value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_read_as_an_agent_reads_it() {
        let range =
            |offset, length| Range::parse(offset, length).map_err(|refused| refused.status().as_u16());
        assert_eq!(range(None, None), Ok(Range { offset: None, length: None }));
        assert_eq!(range(Some("-1"), Some("0")), Ok(Range { offset: None, length: Some(0) }));
        assert_eq!(range(Some("2"), Some("-1")), Ok(Range { offset: Some(2), length: None }));
        for bad in [(Some("x"), None), (Some("-2"), None), (Some("0"), Some("x")), (Some("0"), Some("-2"))] {
            assert_eq!(range(bad.0, bad.1), Err(400), "{bad:?}");
        }
    }
}
