//! Who answers which path: pure.

use hyper::{Method, StatusCode};

use super::Wrong;

/// Who answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    /// `/healthz`, `/livez`, `/readyz`: anybody may ask.
    Probe,
    /// `/metrics`.
    Metrics,
    /// kubex's own paths.
    Kubex,
    /// The Kubernetes API.
    Kubernetes,
    /// The Mesos API.
    Mesos,
}

impl Route {
    /// Its name in metrics.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Probe | Self::Metrics => "health",
            Self::Kubex => "kubex",
            Self::Kubernetes => "kubernetes",
            Self::Mesos => "mesos",
        }
    }
}

/// Who answers this path.
pub(super) fn route(method: &Method, path: &str) -> Result<Route, Wrong> {
    plain(path)?;
    if path == "/api/v1" && method == Method::POST {
        return Ok(Route::Mesos);
    }
    // An agent's process is called slave(1), and is asked so, too.
    if path.starts_with("/slave(") {
        return Ok(Route::Mesos);
    }
    let (first, rest) =
        path[1..].split_once('/').map_or((&path[1..], None), |(first, rest)| (first, Some(rest)));
    match (first, rest) {
        ("healthz" | "livez" | "readyz", None) => Ok(Route::Probe),
        ("metrics", None) => Ok(Route::Metrics),
        ("kubex", Some(rest)) if rest.starts_with("v1/") => Ok(Route::Kubex),
        ("slave" | "mesos" | "master" | "agent" | "files" | "system", Some(_)) => Ok(Route::Mesos),
        ("version" | "api" | "apis", None) | ("api" | "apis" | "openapi", Some(_)) => Ok(Route::Kubernetes),
        _ => Err(Wrong::new(StatusCode::NOT_FOUND, "NotFound", "the server has nothing at this path")),
    }
}

/// A path that means what it says to everybody: no `.` and `..`, no empty or half escapes, no NUL.
fn plain(path: &str) -> Result<(), Wrong> {
    let wrong = |message: &str| Err(Wrong::new(StatusCode::BAD_REQUEST, "BadRequest", message));
    if !path.starts_with('/') {
        return wrong("the path must begin with a slash");
    }
    let Some(decoded) = decode(path) else {
        return wrong("the path has a % that is not followed by two hexadecimal digits");
    };
    if decoded.iter().any(u8::is_ascii_control) {
        return wrong("the path has a control character");
    }
    if decoded.split(|&byte| byte == b'/').any(|segment| matches!(segment, b"." | b"..")) {
        return wrong("the path has a . or .. in it");
    }
    Ok(())
}

fn decode(path: &str) -> Option<Vec<u8>> {
    let mut rest = path.as_bytes();
    let mut decoded = Vec::with_capacity(rest.len());
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        if first == b'%' {
            let (digits, after) = rest.split_first_chunk::<2>()?;
            let digits = std::str::from_utf8(digits).ok().filter(|text| !text.starts_with('+'))?;
            decoded.push(u8::from_str_radix(digits, 16).ok()?);
            rest = after;
        } else {
            decoded.push(first);
        }
    }
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn get(path: &str) -> Result<Route, u16> {
        route(&Method::GET, path).map_err(|wrong| wrong.code.as_u16())
    }

    #[test]
    fn each_path_has_its_one_handler() {
        for (path, expected) in [
            ("/healthz", Route::Probe),
            ("/livez", Route::Probe),
            ("/readyz", Route::Probe),
            ("/metrics", Route::Metrics),
            ("/kubex/v1/tasks", Route::Kubex),
            ("/version", Route::Kubernetes),
            ("/api", Route::Kubernetes),
            ("/api/v1", Route::Kubernetes),
            ("/api/v1/namespaces/n/pods/p/exec", Route::Kubernetes),
            ("/apis", Route::Kubernetes),
            ("/apis/metrics.k8s.io/v1beta1/pods", Route::Kubernetes),
            ("/openapi/v3", Route::Kubernetes),
            ("/slave(1)/api/v1", Route::Mesos),
            ("/slave/S0/api/v1", Route::Mesos),
            ("/agent/S0/files/read", Route::Mesos),
            ("/mesos/master/state.json", Route::Mesos),
            ("/master/state", Route::Mesos),
            ("/files/read", Route::Mesos),
            ("/system/stats.json", Route::Mesos),
        ] {
            assert_eq!(get(path), Ok(expected), "{path}");
        }
        assert_eq!(route(&Method::POST, "/api/v1"), Ok(Route::Mesos));
        assert_eq!(route(&Method::POST, "/api/v1/namespaces"), Ok(Route::Kubernetes));
    }

    #[test]
    fn other_paths_are_not_found() {
        for path in [
            "/",
            "//",
            "//healthz",
            "/healthz/",
            "/metrics/x",
            "/kubex",
            "/kubex/v2/tasks",
            "/apix",
            "/openapi",
            "/version/",
            "/slaves/x",
            "/mesosx/y",
            "/mesos",
        ] {
            assert_eq!(get(path), Err(404), "{path}");
        }
    }

    #[test]
    fn paths_that_could_be_read_in_two_ways_are_refused() {
        for path in [
            "healthz",
            "/api/../metrics",
            "/api/./v1",
            "/api/%2e%2e/metrics",
            "/api/%2E./x",
            "/api%2f..%2fx",
            "/api/%0",
            "/api/%",
            "/api/%zz",
            "/api/%+1",
            "/api/%00",
            "/api/%0a",
        ] {
            assert_eq!(get(path), Err(400), "{path}");
        }
    }

    proptest! {
        #[test]
        fn any_path_has_a_handler_or_a_sentence(path in "\\PC*", slash in any::<bool>()) {
            let path = if slash { format!("/{path}") } else { path };
            if let Err(wrong) = route(&Method::GET, &path) {
                prop_assert!(wrong.code.is_client_error() && !wrong.message.is_empty());
            }
        }
    }
}
