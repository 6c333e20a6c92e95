//! What is watched exists: the Grafana dashboard and the Prometheus configuration of `docker/`, held
//! against what `/metrics` of a real node prints and what `compose.yml` starts.
//!
//! What must never be here: a list of metrics; the node says which it has.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    time::Duration,
};

use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper_util::{client::legacy, rt::TokioExecutor};
use serde_json::Value;
use stakehold::{client::Client, harness::Cluster};
use stakehold_actors::{api::Request, domain::types::AccountId};
use tokio::time::timeout;

const LIVENESS: Duration = Duration::from_secs(40);
/// What Prometheus adds to each series, and what histograms have.
const LABELS: [&str; 3] = ["instance", "job", "le"];
/// Words of PromQL that are neither functions (those stand before a parenthesis) nor metrics.
const WORDS: [&str; 10] =
    ["by", "without", "on", "ignoring", "group_left", "group_right", "and", "or", "unless", "bool"];

fn docker(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").join("docker").join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The samples of `/metrics`: names, each with its labels.
type Printed = BTreeMap<String, BTreeSet<String>>;

fn printed(text: &str) -> Printed {
    let mut found = Printed::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, rest) = line.split_at(line.find(['{', ' ']).expect("a sample has a value"));
        let labels = rest.strip_prefix('{').and_then(|rest| rest.split_once('}')).map_or("", |(labels, _)| labels);
        let names = labels.split("\",").filter_map(|label| label.split_once('=')).map(|(name, _)| name.to_owned());
        found.entry(name.to_owned()).or_default().extend(names);
    }
    found
}

/// What a PromQL expression names: metrics, and labels that it groups by.
fn names(expression: &str) -> (Vec<String>, Vec<String>) {
    let (mut metrics, mut labels) = (Vec::new(), Vec::new());
    let mut rest = expression;
    while let Some(first) = rest.chars().next() {
        if first == '[' || first == '{' {
            let end = rest.find([']', '}']).expect("what is opened is closed");
            rest = &rest[end + 1..];
        } else if first.is_ascii_alphabetic() || first == '_' || first == ':' {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':').unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            rest = after.trim_start();
            if WORDS.contains(&word) {
                if let Some(list) = rest.strip_prefix('(') {
                    let (list, after) = list.split_once(')').expect("what is opened is closed");
                    labels.extend(list.split(',').map(|label| label.trim().to_owned()));
                    rest = after;
                }
            } else if !rest.starts_with('(') && !names_a_grouped_function(rest) {
                metrics.push(word.to_owned());
            }
        } else if first.is_ascii_digit() {
            // A number and, of a duration, its unit.
            rest = rest.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '.');
        } else {
            rest = &rest[first.len_utf8()..];
        }
    }
    (metrics, labels)
}

/// `sum by (le) (…)`: the function's parenthesis comes after its grouping.
fn names_a_grouped_function(rest: &str) -> bool {
    rest.starts_with("by ") || rest.starts_with("without ") || rest.starts_with("by(") || rest.starts_with("without(")
}

async fn metrics_of_a_node() -> String {
    let program = Path::new(env!("CARGO_BIN_EXE_stakehold"));
    let cluster = Cluster::start(program, 1, &[]).await.unwrap_or_else(|error| panic!("{error}"));
    let target = cluster.target();
    // A call over each front end, so that what is counted by route is there.
    for (client, account) in [(Client::http(&target), AccountId(1)), (Client::quic(&target), AccountId(2))] {
        let client = client.unwrap_or_else(|error| panic!("{error}"));
        let create = Request::CreateAccount { account, name: "Ada".into() };
        timeout(LIVENESS, client.call(create)).await.expect("it is answered").unwrap_or_else(|error| panic!("{error}"));
    }
    let client = legacy::Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let address = format!("{}/metrics", target.http).parse().expect("an address");
    let answer = timeout(LIVENESS, client.get(address)).await.expect("it is answered").expect("the node listens");
    assert!(answer.status().is_success(), "{answer:?}");
    let body = answer.into_body().collect().await.expect("the whole of it").to_bytes();
    String::from_utf8(body.to_vec()).expect("text")
}

/// Every query of a dashboard, with its panel's title and data source.
fn queries(dashboard: &Value) -> Vec<(String, String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned();
    let mut queries = Vec::new();
    for panel in dashboard["panels"].as_array().expect("a dashboard has panels") {
        for target in panel["targets"].as_array().expect("a panel has queries") {
            queries.push((text(&panel["title"]), text(&panel["datasource"]["uid"]), text(&target["expr"])));
        }
    }
    queries
}

#[tokio::test]
async fn the_dashboard_names_only_what_a_node_prints() {
    let text = metrics_of_a_node().await;
    let printed = printed(&text);
    assert!(printed.len() > 20, "{text}");
    let dashboard: Value = serde_json::from_str(&docker("monitoring/grafana/dashboards/stakehold.json")).expect("JSON");
    let provisioned = docker("monitoring/grafana/provisioning/datasources/prometheus.yml");
    let queries = queries(&dashboard);
    assert!(queries.len() >= 15, "{queries:?}");
    for (title, source, expression) in queries {
        assert!(provisioned.contains(&format!("uid: {source}\n")), "“{title}” asks {source}, which is not provisioned");
        let (metrics, labels) = names(&expression);
        assert!(!metrics.is_empty(), "“{title}” shows nothing: {expression}");
        for metric in &metrics {
            assert!(printed.contains_key(metric), "“{title}” shows {metric}, which no node prints");
        }
        for label in labels {
            let there = LABELS.contains(&&*label) || metrics.iter().all(|metric| printed[metric].contains(&label));
            assert!(there, "“{title}” groups by {label}, which {metrics:?} do not have");
        }
    }
}

#[test]
fn prometheus_asks_the_nodes_that_compose_starts() {
    let (prometheus, compose) = (docker("monitoring/prometheus.yml"), docker("compose.yml"));
    let line = prometheus.lines().find_map(|line| line.trim().strip_prefix("- targets:")).expect("there are targets");
    let targets: Vec<String> = serde_json::from_str(line).expect("a list in one line");
    // A service's name stands alone in its line; what it publishes is in a line of its section.
    let mut listening = Vec::new();
    let mut service = "";
    for line in compose.lines() {
        if let Some(name) = line.strip_prefix("  ").and_then(|line| line.strip_suffix(':'))
            && !name.starts_with([' ', '#'])
        {
            service = name;
        } else if line.trim_start().starts_with("ports:")
            && let Some((before, _)) = line.split_once("/tcp")
        {
            listening.push(format!("{service}:{}", before.rsplit(':').next().expect("a port")));
        }
    }
    assert_eq!(listening.len(), 3, "{listening:?}");
    assert_eq!(targets, listening);
    assert!(compose.contains("./monitoring/prometheus.yml:/etc/prometheus/prometheus.yml"), "it is where it is read");
}

#[test]
fn the_checker_itself_sees_what_it_should() {
    let (metrics, labels) =
        names("histogram_quantile(0.5, sum by (le, x) (rate(a_bucket{y=\"z(\"}[30s]))) + 2 * b unless c");
    assert_eq!((metrics.join(" "), labels.join(" ")), ("a_bucket b c".into(), "le x".into()));
    let printed = printed("# HELP a b\na{cell=\"0\",queue=\"x\"} 1\nb 2\n# EOF\n");
    assert_eq!(printed.keys().map(String::as_str).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(printed["a"], ["cell".to_owned(), "queue".to_owned()].into());
}
