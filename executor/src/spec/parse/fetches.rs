//! What is fetched before a task starts: Mesos's URIs and our artifacts.

use std::path::{Component, Path, PathBuf};

use hyper::Uri as HttpUri;
use mesos::common::{CommandInfo, Uri};
use task::settings::{Artifact, TaskSettings};

use crate::spec::field::Field;
use crate::spec::{ArchiveKind, Fetch, FetchForm, FetchSource, SpecError};

/// The URIs of the command, then the artifacts, in order.
pub(super) fn fetches(
    command: &CommandInfo,
    command_field: &Field,
    settings: &TaskSettings,
) -> Result<Vec<Fetch>, SpecError> {
    let uri_field = command_field.child("uris");
    let uris = command.uris.iter().enumerate().map(|(index, raw)| uri(raw, &uri_field.index(index)));
    let artifact_field = Field::new("data.artifacts");
    let artifacts = settings.artifacts.iter().enumerate();
    let artifacts = artifacts.map(|(index, raw)| artifact(raw, &artifact_field.index(index)));
    uris.chain(artifacts).collect()
}

/// As Mesos's fetcher: an archive is known by its name and extracted into the sandbox, unless it is executable.
fn uri(raw: &Uri, field: &Field) -> Result<Fetch, SpecError> {
    let (source, basename) = source(&raw.value, &field.child("value"))?;
    let file = match &raw.output_file {
        Some(path) => relative(path, &field.child("output_file"))?,
        None => PathBuf::from(basename.ok_or_else(|| {
            field.child("value").error(&raw.value, "must end with the name of a file, or output_file be set")
        })?),
    };
    let (form, target) = match archive_kind(&file.to_string_lossy()) {
        _ if raw.executable == Some(true) => (FetchForm::Executable, file),
        Some(kind @ ArchiveKind::Gzip) if raw.extract.unwrap_or(true) => {
            (FetchForm::Archive(kind), file.with_extension(""))
        }
        Some(kind) if raw.extract.unwrap_or(true) => (FetchForm::Archive(kind), PathBuf::new()),
        _ => (FetchForm::Plain, file),
    };
    Ok(Fetch { source, sha256: None, target, form })
}

fn artifact(raw: &Artifact, field: &Field) -> Result<Fetch, SpecError> {
    let (source, basename) = source(&raw.url, &field.child("url"))?;
    let sha256 = Some(sha256(&raw.sha256, &field.child("sha256"))?);
    let path = raw.path.as_ref().map(|path| (path, field.child("path")));
    if raw.extract {
        if raw.executable {
            return Err(field.child("executable").error(true, "must not be set together with extract"));
        }
        let kind = basename.as_deref().and_then(archive_kind).filter(|kind| *kind != ArchiveKind::Gzip);
        let kind = kind.ok_or_else(|| {
            field.child("extract").error(true, "must be for an url that ends with .tar, .tar.gz or .tgz")
        })?;
        let target = path.map_or_else(|| Ok(PathBuf::new()), |(path, field)| relative(path, &field))?;
        return Ok(Fetch { source, sha256, target, form: FetchForm::Archive(kind) });
    }
    let target = match (path, basename) {
        (Some((path, field)), _) => relative(path, &field)?,
        (None, Some(basename)) => PathBuf::from(basename),
        (None, None) => {
            return Err(field
                .child("url")
                .error(&raw.url, "must end with the name of a file, or path be set"));
        }
    };
    let form = if raw.executable { FetchForm::Executable } else { FetchForm::Plain };
    Ok(Fetch { source, sha256, target, form })
}

/// Where from, and the name of the file there, if the path ends with one.
fn source(text: &str, field: &Field) -> Result<(FetchSource, Option<String>), SpecError> {
    let allowed = "must be an absolute path, file:, http: or https:";
    if text.starts_with('/') {
        return file(text, text, field);
    }
    let Some((scheme, rest)) = text.split_once(':') else {
        return Err(field.error(text, allowed));
    };
    match scheme.to_ascii_lowercase().as_str() {
        "file" => {
            let path = rest.strip_prefix("//localhost/").map(|path| format!("/{path}"));
            let path = path.unwrap_or_else(|| rest.strip_prefix("//").unwrap_or(rest).to_owned());
            file(text, &path, field)
        }
        "http" | "https" => http(text, field),
        _ => Err(field.error(text, allowed)),
    }
}

fn file(text: &str, path: &str, field: &Field) -> Result<(FetchSource, Option<String>), SpecError> {
    if !path.starts_with('/') {
        return Err(field.error(text, "must have an absolute path, as in file:///opt/file"));
    }
    Ok((FetchSource::File(PathBuf::from(path)), last_part(path)))
}

fn http(text: &str, field: &Field) -> Result<(FetchSource, Option<String>), SpecError> {
    let parsed = text.split('#').next().unwrap_or_default().parse::<HttpUri>();
    let uri = parsed.map_err(|error| field.error(text, format!("must be a URL: {error}")))?;
    let authority = uri.authority().filter(|authority| !authority.host().is_empty());
    let authority = authority.ok_or_else(|| field.error(text, "must be a URL with a host"))?;
    if authority.as_str().contains('@') {
        return Err(field.error(format_args!("(hidden)"), "must not hold a user or a password"));
    }
    let port_is_wrong = match authority.as_str().strip_prefix(authority.host()).unwrap_or_default() {
        "" => false,
        _ => authority.port_u16().is_none_or(|port| port == 0),
    };
    if port_is_wrong {
        return Err(field.error(text, "must have a port from 1 to 65535, or none"));
    }
    Ok((FetchSource::Http(uri.to_string()), last_part(uri.path())))
}

fn last_part(path: &str) -> Option<String> {
    let last = path.rsplit('/').next().unwrap_or_default();
    (!matches!(last, "" | "." | "..")).then(|| last.to_owned())
}

/// What a file is by the end of its name; the name has more than the ending.
fn archive_kind(name: &str) -> Option<ArchiveKind> {
    let endings = [
        (".tar.gz", ArchiveKind::TarGzip),
        (".tgz", ArchiveKind::TarGzip),
        (".tar", ArchiveKind::Tar),
        (".gz", ArchiveKind::Gzip),
    ];
    let found = endings.into_iter().find(|(ending, _)| name.ends_with(ending))?;
    let stem = name.strip_suffix(found.0)?;
    (!stem.is_empty() && !stem.ends_with('/')).then_some(found.1)
}

/// A path that stays in the sandbox, in its shortest form.
fn relative(text: &str, field: &Field) -> Result<PathBuf, SpecError> {
    let inside = Path::new(text).components().filter(|part| *part != Component::CurDir);
    let parts: Option<PathBuf> =
        inside.map(|part| if let Component::Normal(part) = part { Some(part) } else { None }).collect();
    parts
        .filter(|path| !path.as_os_str().is_empty() && text.len() <= 1024)
        .ok_or_else(|| field.error(text, "must be a path in the sandbox: relative, without `..`"))
}

fn sha256(text: &str, field: &Field) -> Result<[u8; 32], SpecError> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|one| one.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    let bytes: Option<Vec<u8>> = digits
        .filter(|digits| digits.len() == 64)
        .map(|digits| digits.chunks(2).map(|two| two[0] * 16 + two[1]).collect());
    bytes
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| field.error(text, "must be 64 hexadecimal digits"))
}
