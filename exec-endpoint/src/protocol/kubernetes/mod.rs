//! The read-only part of the Kubernetes API that stock clients need around exec, attach and logs.
//!
//! ```text
//!  request -> Route -> discovery | namespaces, pods, events: inventory -> what the caller sees -> objects or a table, or a watch
//!                   -> log | exec, attach, signal: remotecommand | metrics.k8s.io
//! ```
//! A pod is a pod instance, a container is a task (its name without the leading `<pod>-`), a namespace is a framework's name.
//!
//! | module | what it does |
//! |---|---|
//! | [`route`], [`selector`] | what is asked: pure |
//! | [`view`] | what a caller sees, and what changes in it: pure |
//! | [`objects`], [`table`], [`discovery`] | the answers: pure |
//! | [`watch`] | changes as they come |
//! | [`log`] | logs |
//! | [`metrics`] | `metrics.k8s.io` |
//! | [`status`] | failures, and responses |

pub mod discovery;
pub mod log;
pub mod metrics;
pub mod objects;
pub mod route;
pub mod selector;
pub mod status;
pub mod table;
pub mod view;
pub mod watch;

#[cfg(test)]
pub(crate) mod fixtures;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::ACCEPT;
use hyper::{HeaderMap, Request, Response, StatusCode};
use jiff::Timestamp;
use serde_json::Value;
use task::control::Task;

use crate::endpoint::{Body, Caller, Endpoint};
use crate::inventory::{Inventory, PodView};
use crate::policy::{Target, Verb as Right};
use crate::protocol::query::Query;
use crate::protocol::remotecommand;
use route::{Name, Route, Verb};
use selector::Selector;
use status::Failure;
use table::{Form, Include};
use view::{View, Views};

/// What is remembered between requests: a few inventories that clients may go on from, and the last samples of what tasks use.
#[derive(Debug, Default)]
pub struct Memory {
    history: watch::History,
    samples: metrics::Samples,
}

/// Answers a request of the Kubernetes API.
pub async fn handle(endpoint: Arc<Endpoint>, caller: Caller, request: Request<Incoming>) -> Response<Body> {
    answer(endpoint, caller, request).await.unwrap_or_else(|failure| failure.response())
}

/// What is wanted of a collection.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scope {
    namespace: Option<String>,
    name: Option<String>,
    labels: Selector,
    fields: Selector,
}

impl Scope {
    fn parse(namespace: Option<String>, name: Option<String>, query: &Query) -> Result<Self, Failure> {
        let labels = Selector::labels(query.text("labelSelector").unwrap_or_default())?;
        let fields = query.text("fieldSelector").unwrap_or_default();
        let fields = Selector::fields(fields, &objects::FIELDS)?;
        Ok(Self { namespace, name, labels, fields })
    }

    fn admits(&self, view: &View) -> bool {
        let pod = &view.pod.pod;
        self.namespace.as_ref().is_none_or(|namespace| *namespace == pod.framework)
            && self.name.as_ref().is_none_or(|name| *name == pod.name)
            && self.labels.holds(|key| objects::label(view, key))
            && self.fields.holds(|name| objects::field(view, name))
    }
}

/// What a caller sees of what is wanted.
fn views(endpoint: &Endpoint, caller: &Caller, inventory: &Inventory, scope: &Scope, right: &Right) -> Views {
    let mut views = view::visible(inventory, |pod, task| {
        let target = Target { framework: &pod.framework, pod: &pod.name, task: &task.name };
        endpoint.gate.allows(&caller.who, right, Some(target))
    });
    views.retain(|_, view| scope.admits(view));
    views
}

async fn answer(
    endpoint: Arc<Endpoint>,
    caller: Caller,
    request: Request<Incoming>,
) -> Result<Response<Body>, Failure> {
    let route = Route::parse(request.method(), request.uri().path());
    let text = request.uri().query().unwrap_or_default().to_owned();
    let query = Query::parse(&text)?;
    let accept = accept(request.headers());
    let form = form(&accept, &query);
    let aggregated = discovery::is_aggregated(&accept);
    let ok = |value: &Value| Ok(status::json(StatusCode::OK, status::JSON, value));
    match route {
        Route::Version => ok(&discovery::version()),
        Route::Core if aggregated => {
            Ok(status::json(StatusCode::OK, discovery::AGGREGATED, &discovery::aggregated_core()))
        }
        Route::Groups if aggregated => {
            Ok(status::json(StatusCode::OK, discovery::AGGREGATED, &discovery::aggregated_groups()))
        }
        Route::Core => ok(&discovery::core()),
        Route::Groups => ok(&discovery::groups()),
        Route::CoreResources => ok(&discovery::core_resources()),
        Route::MetricsGroup => ok(&discovery::metrics_group()),
        Route::MetricsResources => ok(&discovery::metrics_resources()),
        Route::Namespaces(Verb::List) if !query.boolean("watch").unwrap_or(true) => {
            ok(&namespaces(&endpoint, &caller, form?))
        }
        Route::Namespace(name) => namespace(&endpoint, &caller, &name, form?),
        Route::Pods(namespace, verb) => {
            let (name, watched) = match verb {
                Verb::List => (None, query.boolean("watch")?),
                Verb::Watch(name) => (name, true),
            };
            let scope = Scope::parse(namespace, name, &query)?;
            if watched {
                return watch::start(endpoint, caller, scope, form?, &query);
            }
            ok(&pods(&endpoint, &caller, &scope, form?))
        }
        Route::Pod(name) => pod(&endpoint, &caller, &name, form?),
        Route::Log(name) => {
            let attempt = |pod: &PodView, task: &Task| drop(log::ask(&endpoint, &caller, pod, task));
            let (pod, task) = resolve(&endpoint, &caller, &name, query.text("container"), attempt)?;
            Ok(log::log(endpoint, caller, pod, task, &text).await)
        }
        Route::Session(name, subresource) => {
            let attempt = |pod: &PodView, task: &Task| {
                remotecommand::attempt(&endpoint, &caller, pod, task, subresource, &text);
            };
            let (pod, task) = resolve(&endpoint, &caller, &name, query.text("container"), attempt)?;
            Ok(remotecommand::handle(endpoint, caller, pod, task, subresource, request).await)
        }
        Route::Events(Verb::List) if !query.boolean("watch").unwrap_or(true) => ok(&events(&endpoint, form?)),
        Route::PodMetrics(namespace) => {
            let scope = Scope::parse(namespace, None, &query)?;
            ok(&metrics::list(&endpoint, &caller, &scope).await)
        }
        Route::PodMetricsOf(Name { namespace, name }) => {
            let scope =
                Scope { namespace: Some(namespace.clone()), name: Some(name.clone()), ..Scope::default() };
            let found = metrics::one(&endpoint, &caller, &scope).await;
            let missing = || Failure::not_found("podmetrics.metrics.k8s.io", &format!("{namespace}/{name}"));
            found.ok_or_else(missing).and_then(|metrics| ok(&metrics))
        }
        Route::Namespaces(_) | Route::Events(_) => Err(Failure::not_allowed("this cannot be watched here")),
        Route::ReadOnly => {
            Err(Failure::not_allowed("the server does not allow this method on the requested resource"))
        }
        Route::Unknown => Err(Failure::new(
            StatusCode::NOT_FOUND,
            "NotFound",
            "the server could not find the requested resource",
        )),
    }
}

fn accept(headers: &HeaderMap) -> String {
    let all: Vec<&str> = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    all.join(",")
}

fn form(accept: &str, query: &Query) -> Result<Form, Failure> {
    let include = Include::parse(query.text("includeObject"));
    let include =
        include.ok_or_else(|| Failure::bad_request("includeObject must be None, Metadata or Object"))?;
    Ok(Form::parse(accept, include))
}

/// The inventory as it is now. A client may go on from its revision.
fn present(endpoint: &Endpoint) -> Arc<Inventory> {
    let inventory = Arc::clone(&endpoint.inventory.borrow());
    endpoint.kubernetes.history.remember(&inventory);
    inventory
}

/// Milliseconds since 1970.
fn now() -> u64 {
    u64::try_from(Timestamp::now().as_millisecond()).unwrap_or(0)
}

fn pods(endpoint: &Endpoint, caller: &Caller, scope: &Scope, form: Form) -> Value {
    let inventory = present(endpoint);
    let views = views(endpoint, caller, &inventory, scope, &Right::List);
    match form {
        Form::Object => {
            let items = views.values().map(|view| objects::pod(view, None)).collect();
            objects::list("PodList", "v1", inventory.revision, items)
        }
        Form::Table(version, include) => {
            let now = now();
            let rows = views.values().map(|view| table::pod_row(view, include, version, now, None)).collect();
            table::table(version, inventory.revision, table::pod_columns(), rows)
        }
    }
}

fn pod(endpoint: &Endpoint, caller: &Caller, name: &Name, form: Form) -> Result<Response<Body>, Failure> {
    let Name { namespace, name } = name;
    let scope = Scope { namespace: Some(namespace.clone()), name: Some(name.clone()), ..Scope::default() };
    let views = views(endpoint, caller, &present(endpoint), &scope, &Right::List);
    let key = (namespace.clone(), name.clone());
    let missing = || match known(endpoint, caller, &endpoint.inventory.borrow()).contains_key(&key) {
        true => Failure::forbidden(format!("{} may not list pod {name:?}", caller.who.user)),
        false => Failure::not_found("pods", name),
    };
    let view = views.values().next().ok_or_else(missing)?;
    let value = match form {
        Form::Object => objects::pod(view, None),
        Form::Table(version, include) => {
            let row = table::pod_row(view, include, version, now(), None);
            table::table(version, view.pod.revision, table::pod_columns(), vec![row])
        }
    };
    Ok(status::json(StatusCode::OK, status::JSON, &value))
}

fn namespaces(endpoint: &Endpoint, caller: &Caller, form: Form) -> Value {
    let inventory = present(endpoint);
    let (revision, all) = (inventory.revision, frameworks(endpoint, caller, &inventory));
    match form {
        Form::Object => {
            let items =
                all.iter().map(|(name, created)| objects::namespace(name, *created, revision)).collect();
            objects::list("NamespaceList", "v1", revision, items)
        }
        Form::Table(version, include) => {
            let now = now();
            let row = |(name, created): (&String, &u64)| {
                table::namespace_row(name, *created, include, version, now, revision)
            };
            table::table(version, revision, table::namespace_columns(), all.iter().map(row).collect())
        }
    }
}

fn namespace(
    endpoint: &Endpoint,
    caller: &Caller,
    name: &str,
    form: Form,
) -> Result<Response<Body>, Failure> {
    let inventory = present(endpoint);
    let all = frameworks(endpoint, caller, &inventory);
    let created = *all.get(name).ok_or_else(|| Failure::not_found("namespaces", name))?;
    let value = match form {
        Form::Object => objects::namespace(name, created, inventory.revision),
        Form::Table(version, include) => {
            let row = table::namespace_row(name, created, include, version, now(), inventory.revision);
            table::table(version, inventory.revision, table::namespace_columns(), vec![row])
        }
    };
    Ok(status::json(StatusCode::OK, status::JSON, &value))
}

/// The names of frameworks that the caller sees a pod of, and since when the oldest of those is there.
fn frameworks(endpoint: &Endpoint, caller: &Caller, inventory: &Inventory) -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    for ((namespace, _), view) in views(endpoint, caller, inventory, &Scope::default(), &Right::List) {
        let created = all.entry(namespace).or_insert(u64::MAX);
        *created = view.pod.pod.started_at.min(*created);
    }
    all
}

fn events(endpoint: &Endpoint, form: Form) -> Value {
    let revision = endpoint.inventory.borrow().revision;
    match form {
        Form::Object => objects::list("EventList", "v1", revision, Vec::new()),
        Form::Table(version, _) => table::table(version, revision, table::event_columns(), Vec::new()),
    }
}

/// The pods and tasks that a caller has any right to.
fn known(endpoint: &Endpoint, caller: &Caller, inventory: &Inventory) -> Views {
    view::visible(inventory, |pod, task| {
        let target = Target { framework: &pod.framework, pod: &pod.name, task: &task.name };
        endpoint.gate.sees(&caller.who, target)
    })
}

/// The task that a pod's name and perhaps a container's mean, among those that the caller has any right to. Which one, the gate
/// looks at later. Others are as if they were not there, but that the attempt is told.
fn resolve(
    endpoint: &Endpoint,
    caller: &Caller,
    name: &Name,
    container: Option<&str>,
    attempt: impl FnOnce(&PodView, &Task),
) -> Result<(Arc<PodView>, Task), Failure> {
    let inventory = present(endpoint);
    let Name { namespace, name } = name;
    let key = (namespace.clone(), name.clone());
    let all = view::visible(&inventory, |_, _| true);
    let all = all.get(&key).ok_or_else(|| Failure::not_found("pods", name))?;
    let known = known(endpoint, caller, &inventory).remove(&key);
    let chosen = match &known {
        Some(known) => {
            let scope =
                Scope { namespace: Some(namespace.clone()), name: Some(name.clone()), ..Scope::default() };
            let listed = views(endpoint, caller, &inventory, &scope, &Right::List).remove(&key);
            let task = choose(name, known, listed.as_ref(), container).map_err(Failure::bad_request);
            task.map(|task| (Arc::clone(&known.pod), task.clone()))
        }
        None => Err(Failure::not_found("pods", name)),
    };
    if chosen.is_err() {
        let is_known = |task: &Task| known.iter().flat_map(View::tasks).any(|known| known.id == task.id);
        let meant = match container {
            Some(container) => named(name, all, container),
            None => all.tasks().next().filter(|_| known.is_none()),
        };
        if let Some(task) = meant.filter(|task| !is_known(task)) {
            attempt(&all.pod, task);
        }
    }
    chosen
}

/// The task that a container's name means: without the pod's name, or whole.
fn named<'a>(pod: &str, view: &'a View, container: &str) -> Option<&'a Task> {
    let short = view.tasks().find(|task| view::container_name(pod, &task.name) == container);
    short.or_else(|| view.tasks().find(|task| task.name == container))
}

/// The task that is meant. Unnamed, it is the only one that the caller may list; or else the only one.
fn choose<'a>(
    pod: &str,
    known: &'a View,
    listed: Option<&View>,
    container: Option<&str>,
) -> Result<&'a Task, String> {
    let names = || {
        let own = |task: &Task| view::container_name(pod, &task.name).to_owned();
        let names: Vec<String> = listed.map(|listed| listed.tasks().map(own).collect()).unwrap_or_default();
        format!("choose one of: [{}]", names.join(" "))
    };
    if let Some(wanted) = container {
        return named(pod, known, wanted)
            .ok_or_else(|| format!("container {wanted} is not valid for pod {pod}, {}", names()));
    }
    let ids: Vec<_> = listed.unwrap_or(known).tasks().map(|task| &task.id).collect();
    let [only] = ids.as_slice() else {
        return Err(format!("a container name must be specified for pod {pod}, {}", names()));
    };
    known.tasks().find(|task| task.id == **only).ok_or_else(|| format!("pod {pod} has no container"))
}
