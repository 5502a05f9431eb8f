//! `metrics.k8s.io/v1beta1`: what tasks use, for `kubectl top pod`.
//!
//! ```text
//!  List to each executor -> sample (processor time so far, memory) - sample before, at least 0.5 s older -> usage over that window
//! ```

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use jiff::Timestamp;
use serde_json::{Value, json};
use task::control::{Answer, Pod, Request, Usage};
use tokio::time::Instant;

use super::view::{View, Views, container_name};
use super::{Scope, objects, present, views};
use crate::control::Control;
use crate::endpoint::{Caller, Endpoint};
use crate::inventory::PodView;
use crate::policy::Verb as Right;

/// The shortest window that says something.
const SHORTEST: Duration = Duration::from_millis(500);
/// Older samples say too little about now.
const LONGEST: Duration = Duration::from_secs(60);
/// So long an executor may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// The last sample of each task: by its executor's container and its id.
#[derive(Debug, Default)]
pub struct Samples(Mutex<HashMap<Key, Sample>>);

type Key = (String, String);

/// What a task has used at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sample {
    at: Instant,
    usage: Usage,
}

/// What a task uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rate {
    /// Billionths of a processor.
    nanocores: u64,
    memory_bytes: u64,
    window: Duration,
}

/// A list of what pods use, of those that the caller may see so.
pub async fn list(endpoint: &Endpoint, caller: &Caller, scope: &Scope) -> Value {
    let (revision, items) = measure(endpoint, caller, scope).await;
    objects::list("PodMetricsList", "metrics.k8s.io/v1beta1", revision, items)
}

/// What one pod uses; `None` when it is not there, or nothing of it runs.
pub async fn one(endpoint: &Endpoint, caller: &Caller, scope: &Scope) -> Option<Value> {
    measure(endpoint, caller, scope).await.1.pop()
}

async fn measure(endpoint: &Endpoint, caller: &Caller, scope: &Scope) -> (u64, Vec<Value>) {
    let inventory = present(endpoint);
    let views = views(endpoint, caller, &inventory, scope, &Right::Metrics);
    let mut before = endpoint
        .kubernetes
        .samples
        .recall(|container| inventory.pods.values().any(|pod| pod.pod.container_id == container));
    let mut present = sample(&views).await;
    let is_new =
        |(key, now): (&Key, &Sample)| before.get(key).is_none_or(|before| rate(before, now).is_none());
    if present.iter().any(is_new) {
        before.extend(
            present
                .iter()
                .filter(|one| is_new(*one))
                .map(|(key, now)| (key.clone(), *now))
                .collect::<Vec<_>>(),
        );
        tokio::time::sleep(SHORTEST).await;
        present = sample(&views).await;
    }
    endpoint.kubernetes.samples.keep(&present);
    let now = Timestamp::now();
    let items = views.values().filter_map(|view| pod(view, &before, &present, now)).collect();
    (inventory.revision, items)
}

/// Asks all executors at once. Those that do not answer are left out.
async fn sample(views: &Views) -> HashMap<Key, Sample> {
    let pods = join_all(views.values().map(|view| ask(&view.pod))).await;
    let mut samples = HashMap::new();
    for (pod, at) in pods.into_iter().flatten() {
        for task in pod.tasks {
            if let Some(usage) = task.usage {
                samples.insert((pod.container_id.clone(), task.id.value), Sample { at, usage });
            }
        }
    }
    samples
}

async fn ask(pod: &Arc<PodView>) -> Option<(Box<Pod>, Instant)> {
    match tokio::time::timeout(PATIENCE, Control::ask(&pod.socket, &Request::List)).await {
        Ok(Ok((_, Answer::Pod(pod), _))) => Some((pod, Instant::now())),
        Ok(Ok((control, other, _))) => {
            tracing::warn!(error = %control.unexpected(&other), "ask what tasks use");
            None
        }
        Ok(Err(error)) => {
            tracing::warn!(%error, "ask what tasks use");
            None
        }
        Err(_) => {
            tracing::warn!(socket = %pod.socket.display(), "no answer within {PATIENCE:?} to what tasks use");
            None
        }
    }
}

impl Samples {
    /// The samples of pods that are still there.
    fn recall(&self, is_there: impl Fn(&str) -> bool) -> HashMap<Key, Sample> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|(container, _), _| is_there(container));
        all.clone()
    }

    fn keep(&self, samples: &HashMap<Key, Sample>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.extend(samples.iter().map(|(key, sample)| (key.clone(), *sample)));
    }
}

/// The rate between two samples; `None` when the window is too short or too long.
fn rate(before: &Sample, now: &Sample) -> Option<Rate> {
    let window = now.at.checked_duration_since(before.at)?;
    if !(SHORTEST..=LONGEST).contains(&window) {
        return None;
    }
    // A new cgroup begins at nothing.
    let micros = now.usage.cpu_micros.saturating_sub(before.usage.cpu_micros);
    let nanocores = u128::from(micros) * 1_000_000_000 / window.as_micros().max(1);
    let nanocores = u64::try_from(nanocores).unwrap_or(u64::MAX);
    Some(Rate { nanocores, memory_bytes: now.usage.memory_bytes, window })
}

fn pod(
    view: &View,
    before: &HashMap<Key, Sample>,
    present: &HashMap<Key, Sample>,
    now: Timestamp,
) -> Option<Value> {
    let pod = &view.pod.pod;
    let rate_of = |id: &str| {
        let key = (pod.container_id.clone(), id.to_owned());
        rate(before.get(&key)?, present.get(&key)?)
    };
    let rates: Vec<_> = view.tasks().filter_map(|task| Some((task, rate_of(task.id.as_str())?))).collect();
    // The pod's window holds all of its containers'.
    let window = rates.iter().map(|(_, rate)| rate.window).max()?;
    let containers: Vec<Value> = rates
        .iter()
        .map(|(task, rate)| {
            let usage = json!({
                "cpu": format!("{}n", rate.nanocores),
                "memory": format!("{}Ki", rate.memory_bytes / 1024),
            });
            json!({ "name": container_name(&pod.name, &task.name), "usage": usage })
        })
        .collect();
    let timestamp = Timestamp::from_second(now.as_second()).unwrap_or(now).to_string();
    let mut metadata = objects::metadata(view, None);
    metadata["creationTimestamp"] = timestamp.clone().into();
    Some(json!({
        "kind": "PodMetrics",
        "apiVersion": "metrics.k8s.io/v1beta1",
        "metadata": metadata,
        "timestamp": timestamp,
        "window": format!("{:.3}s", window.as_secs_f64()),
        "containers": containers,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_rate_is_processor_time_over_the_window_that_is_given() {
        let at = Instant::now();
        let sample = |later: u64, cpu_micros: u64| Sample {
            at: at + Duration::from_millis(later),
            usage: Usage { cpu_micros, memory_bytes: 4096, processes: 1 },
        };
        let half = rate(&sample(0, 1_000_000), &sample(2000, 2_000_000)).unwrap();
        assert_eq!(
            (half.nanocores, half.memory_bytes, half.window),
            (500_000_000, 4096, Duration::from_secs(2))
        );
        assert_eq!(rate(&sample(0, 5000), &sample(1000, 10)).unwrap().nanocores, 0);
        for later in [0, 499, 60_001] {
            assert!(rate(&sample(0, 0), &sample(later, 1)).is_none(), "{later}");
        }
        assert!(rate(&sample(500, 0), &sample(0, 1)).is_none());
    }
}
