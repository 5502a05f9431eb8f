//! Which request it is, from method and path: pure.

use hyper::Method;

use crate::protocol::query::decode;
use crate::protocol::remotecommand::Subresource;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// `/version`.
    Version,
    /// `/api`.
    Core,
    /// `/apis`.
    Groups,
    /// `/api/v1`.
    CoreResources,
    /// `/apis/metrics.k8s.io`.
    MetricsGroup,
    /// `/apis/metrics.k8s.io/v1beta1`.
    MetricsResources,
    /// Namespaces.
    Namespaces(Verb),
    /// One namespace.
    Namespace(String),
    /// Pods, of one namespace or all.
    Pods(Option<String>, Verb),
    /// One pod.
    Pod(Name),
    /// The log of a pod's container.
    Log(Name),
    /// A session in a pod's container.
    Session(Name, Subresource),
    /// Events, of which there are none.
    Events(Verb),
    /// What pods use, of one namespace or all.
    PodMetrics(Option<String>),
    /// What one pod uses.
    PodMetricsOf(Name),
    /// Something that only reads are served of.
    ReadOnly,
    /// Nothing that is here.
    Unknown,
}

/// A collection is read once, or watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verb {
    /// Read, or watched if the query says so.
    List,
    /// Watched (`/api/v1/watch/...`), and only this object if it is named.
    Watch(Option<String>),
}

/// The name of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// The framework's name.
    pub namespace: String,
    /// The pod instance's.
    pub name: String,
}

impl Route {
    /// The route of a request.
    pub fn parse(method: &Method, path: &str) -> Self {
        let segments: Result<Vec<String>, _> =
            path.trim_matches('/').split('/').map(|part| decode("the path", part)).collect();
        let Ok(segments) = segments else { return Self::Unknown };
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        let route = match segments.as_slice() {
            ["version"] => Self::Version,
            ["api"] => Self::Core,
            ["apis"] => Self::Groups,
            ["api", "v1", rest @ ..] => core(rest),
            ["apis", "metrics.k8s.io"] => Self::MetricsGroup,
            ["apis", "metrics.k8s.io", "v1beta1", rest @ ..] => metrics(rest),
            ["apis", "events.k8s.io", "v1", "events"]
            | ["apis", "events.k8s.io", "v1", "namespaces", _, "events"] => Self::Events(Verb::List),
            _ => Self::Unknown,
        };
        match route {
            // A WebSocket comes by GET, SPDY by POST.
            Self::Session(_, Subresource::Exec | Subresource::Attach)
                if matches!(*method, Method::GET | Method::POST) =>
            {
                route
            }
            Self::Session(_, Subresource::Signal) if *method == Method::POST => route,
            Self::Unknown => route,
            _ if matches!(*method, Method::GET | Method::HEAD) && !matches!(route, Self::Session(..)) => {
                route
            }
            _ => Self::ReadOnly,
        }
    }
}

fn core(rest: &[&str]) -> Route {
    match rest {
        [] => Route::CoreResources,
        ["namespaces"] => Route::Namespaces(Verb::List),
        ["watch", "namespaces"] => Route::Namespaces(Verb::Watch(None)),
        ["watch", "namespaces", namespace] => Route::Namespaces(Verb::Watch(Some((*namespace).to_owned()))),
        ["namespaces", namespace] => Route::Namespace((*namespace).to_owned()),
        ["pods"] => Route::Pods(None, Verb::List),
        ["watch", "pods"] => Route::Pods(None, Verb::Watch(None)),
        ["namespaces", namespace, "pods"] => Route::Pods(Some((*namespace).to_owned()), Verb::List),
        ["watch", "namespaces", namespace, "pods"] => {
            Route::Pods(Some((*namespace).to_owned()), Verb::Watch(None))
        }
        ["watch", "namespaces", namespace, "pods", name] => {
            Route::Pods(Some((*namespace).to_owned()), Verb::Watch(Some((*name).to_owned())))
        }
        ["namespaces", namespace, "pods", name, rest @ ..] => {
            let name = Name { namespace: (*namespace).to_owned(), name: (*name).to_owned() };
            match rest {
                [] => Route::Pod(name),
                ["log"] => Route::Log(name),
                ["exec"] => Route::Session(name, Subresource::Exec),
                ["attach"] => Route::Session(name, Subresource::Attach),
                ["signal"] => Route::Session(name, Subresource::Signal),
                _ => Route::Unknown,
            }
        }
        ["events"] | ["namespaces", _, "events"] => Route::Events(Verb::List),
        ["watch", "events"] | ["watch", "namespaces", _, "events"] => Route::Events(Verb::Watch(None)),
        _ => Route::Unknown,
    }
}

fn metrics(rest: &[&str]) -> Route {
    match rest {
        [] => Route::MetricsResources,
        ["pods"] => Route::PodMetrics(None),
        ["namespaces", namespace, "pods"] => Route::PodMetrics(Some((*namespace).to_owned())),
        ["namespaces", namespace, "pods", name] => {
            Route::PodMetricsOf(Name { namespace: (*namespace).to_owned(), name: (*name).to_owned() })
        }
        _ => Route::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(path: &str) -> Route {
        Route::parse(&Method::GET, path)
    }

    fn name() -> Name {
        Name { namespace: "kube".into(), name: "etcd-0".into() }
    }

    #[test]
    fn every_path_has_its_route() {
        assert_eq!(get("/version"), Route::Version);
        assert_eq!(
            (get("/api"), get("/api/v1"), get("/apis/")),
            (Route::Core, Route::CoreResources, Route::Groups)
        );
        assert_eq!(get("/api/v1/pods"), Route::Pods(None, Verb::List));
        assert_eq!(get("/api/v1/namespaces/kube/pods"), Route::Pods(Some("kube".into()), Verb::List));
        assert_eq!(get("/api/v1/namespaces/kube/pods/etcd-0"), Route::Pod(name()));
        assert_eq!(get("/api/v1/namespaces/k%75be/pods/etcd%2D0/log"), Route::Log(name()));
        assert_eq!(
            get("/api/v1/namespaces/kube/pods/etcd-0/exec"),
            Route::Session(name(), Subresource::Exec)
        );
        let watched = Verb::Watch(Some("etcd-0".into()));
        assert_eq!(
            get("/api/v1/watch/namespaces/kube/pods/etcd-0"),
            Route::Pods(Some("kube".into()), watched)
        );
        assert_eq!(
            get("/apis/metrics.k8s.io/v1beta1/namespaces/kube/pods/etcd-0"),
            Route::PodMetricsOf(name())
        );
    }

    #[test]
    fn what_is_not_here_is_unknown_and_what_would_write_is_refused() {
        for path in [
            "/",
            "/api/v2",
            "/openapi/v3",
            "/api/v1/nodes",
            "/api/v1/namespaces/a/pods/b/eviction",
            "/%zz",
            "/apis/apps/v1",
        ] {
            assert_eq!(get(path), Route::Unknown, "{path}");
        }
        let pod = "/api/v1/namespaces/kube/pods/etcd-0";
        assert_eq!(Route::parse(&Method::DELETE, pod), Route::ReadOnly);
        assert_eq!(Route::parse(&Method::POST, &format!("{pod}/log")), Route::ReadOnly);
        assert_eq!(Route::parse(&Method::GET, &format!("{pod}/signal")), Route::ReadOnly);
        assert_eq!(
            Route::parse(&Method::POST, &format!("{pod}/signal")),
            Route::Session(name(), Subresource::Signal)
        );
        assert_eq!(
            Route::parse(&Method::POST, &format!("{pod}/exec")),
            Route::Session(name(), Subresource::Exec)
        );
    }

    #[test]
    fn an_encoded_slash_does_not_split_a_name() {
        assert_eq!(
            get("/api/v1/namespaces/a%2Fpods%2Fb/pods"),
            Route::Pods(Some("a/pods/b".into()), Verb::List)
        );
    }
}
