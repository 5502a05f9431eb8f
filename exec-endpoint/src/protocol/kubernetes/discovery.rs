//! What there is, as clients discover it (`apidiscovery.k8s.io/v2`, and the older lists): pure.

use serde_json::{Value, json};

/// The content type of aggregated discovery.
pub const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
/// The version of Kubernetes whose API this is a part of.
const MINOR: &str = "36";

/// Whether a client takes aggregated discovery.
pub fn is_aggregated(accept: &str) -> bool {
    let has = |wanted: &str, part: &str| wanted.split(';').any(|own| own.trim() == part);
    accept.split(',').any(|wanted| has(wanted, "as=APIGroupDiscoveryList") && has(wanted, "v=v2"))
}

/// `/version`.
pub fn version() -> Value {
    json!({
        "major": "1",
        "minor": MINOR,
        "gitVersion": format!("v1.{MINOR}.0-kube-executor.{}", env!("CARGO_PKG_VERSION")),
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "",
        "platform": format!("{}/{}", std::env::consts::OS, architecture()),
    })
}

/// `/api`, not aggregated.
pub fn core() -> Value {
    json!({ "kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [] })
}

/// `/apis`, not aggregated.
pub fn groups() -> Value {
    json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": [metrics_group()] })
}

/// `/apis/metrics.k8s.io`.
pub fn metrics_group() -> Value {
    let version = json!({ "groupVersion": "metrics.k8s.io/v1beta1", "version": "v1beta1" });
    json!({ "kind": "APIGroup", "apiVersion": "v1", "name": "metrics.k8s.io", "versions": [version], "preferredVersion": version })
}

/// `/api/v1`.
pub fn core_resources() -> Value {
    let resources: Vec<Value> = CORE.iter().flat_map(Resource::plain).collect();
    json!({ "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "v1", "resources": resources })
}

/// `/apis/metrics.k8s.io/v1beta1`.
pub fn metrics_resources() -> Value {
    let resources: Vec<Value> = METRICS.iter().flat_map(Resource::plain).collect();
    json!({ "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "metrics.k8s.io/v1beta1", "resources": resources })
}

/// `/api`, aggregated.
pub fn aggregated_core() -> Value {
    aggregated("", "v1", CORE)
}

/// `/apis`, aggregated.
pub fn aggregated_groups() -> Value {
    aggregated("metrics.k8s.io", "v1beta1", METRICS)
}

struct Resource {
    name: &'static str,
    singular: &'static str,
    kind: &'static str,
    short: &'static [&'static str],
    namespaced: bool,
    verbs: &'static [&'static str],
    /// Name, kind, verbs.
    subresources: &'static [(&'static str, &'static str, &'static [&'static str])],
}

const CORE: &[Resource] = &[
    Resource {
        name: "events",
        singular: "event",
        kind: "Event",
        short: &["ev"],
        namespaced: true,
        verbs: &["list", "watch"],
        subresources: &[],
    },
    Resource {
        name: "namespaces",
        singular: "namespace",
        kind: "Namespace",
        short: &["ns"],
        namespaced: false,
        verbs: &["get", "list"],
        subresources: &[],
    },
    Resource {
        name: "pods",
        singular: "pod",
        kind: "Pod",
        short: &["po"],
        namespaced: true,
        verbs: &["get", "list", "watch"],
        subresources: &[
            ("attach", "PodAttachOptions", &["create", "get"]),
            ("exec", "PodExecOptions", &["create", "get"]),
            ("log", "Pod", &["get"]),
        ],
    },
];

const METRICS: &[Resource] = &[Resource {
    name: "pods",
    singular: "",
    kind: "PodMetrics",
    short: &[],
    namespaced: true,
    verbs: &["get", "list"],
    subresources: &[],
}];

impl Resource {
    fn plain(&self) -> Vec<Value> {
        let mut all = vec![json!({
            "name": self.name,
            "singularName": self.singular,
            "namespaced": self.namespaced,
            "kind": self.kind,
            "verbs": self.verbs,
            "shortNames": self.short,
        })];
        all.extend(self.subresources.iter().map(|(name, kind, verbs)| {
            json!({
                "name": format!("{}/{name}", self.name),
                "singularName": "",
                "namespaced": self.namespaced,
                "kind": kind,
                "verbs": verbs,
            })
        }));
        all
    }

    fn aggregated(&self, group: &str, version: &str) -> Value {
        let kind = |kind: &str| json!({ "group": group, "version": version, "kind": kind });
        let subresources: Vec<Value> = self
            .subresources
            .iter()
            .map(|(name, own, verbs)| json!({ "subresource": name, "responseKind": kind(own), "verbs": verbs }))
            .collect();
        json!({
            "resource": self.name,
            "responseKind": kind(self.kind),
            "scope": if self.namespaced { "Namespaced" } else { "Cluster" },
            "singularResource": self.singular,
            "verbs": self.verbs,
            "shortNames": self.short,
            "subresources": subresources,
        })
    }
}

fn aggregated(group: &str, version: &str, resources: &[Resource]) -> Value {
    let resources: Vec<Value> =
        resources.iter().map(|resource| resource.aggregated(group, version)).collect();
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": [{
            "metadata": { "name": group, "creationTimestamp": null },
            "versions": [{ "version": version, "resources": resources, "freshness": "Current" }],
        }],
    })
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aggregated_discovery_is_given_to_who_asks_for_its_second_version() {
        let kubectl = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";
        assert!(is_aggregated(kubectl));
        assert!(!is_aggregated(
            "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json"
        ));
        assert!(!is_aggregated("application/json"));
    }

    #[test]
    fn both_forms_name_the_same_resources() {
        let names = |list: &Value| -> Vec<String> {
            let all = list["resources"].as_array().unwrap().iter();
            all.map(|resource| resource["name"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(
            names(&core_resources()),
            ["events", "namespaces", "pods", "pods/attach", "pods/exec", "pods/log"]
        );
        let aggregated = aggregated_core();
        let resources = aggregated["items"][0]["versions"][0]["resources"].as_array().unwrap();
        assert_eq!(resources.len(), 3);
        assert_eq!(resources[2]["subresources"].as_array().unwrap().len(), 3);
    }
}
