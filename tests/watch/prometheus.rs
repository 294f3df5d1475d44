//! Page, dashboard and alert rules before `promtool`, and before each other.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use support::needs;
use support::requirements::program;

use super::page::{Watched, names};

#[test]
fn page_is_what_prometheus_reads() {
    let promtool = needs!(program("promtool"));
    let watched = Watched::new();
    watched.deferral("r").expect("the milter answers");
    // In the older text form, in which the tool reads a page, counters have their whole name.
    let page = watched.page();
    let counters: BTreeSet<_> = page
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter"))
        .collect();
    let plain: String = page
        .lines()
        .filter(|line| !line.starts_with("# UNIT") && *line != "# EOF")
        .map(|line| older(line, &counters) + "\n")
        .collect();
    let mut check = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut input = check.stdin.take().expect("it is piped");
    input.write_all(plain.as_bytes()).expect("it reads");
    drop(input);
    let output = check.wait_with_output().expect("it ends");
    // Names that were given before it was asked stay as they are: dashboards have them.
    let told = said(&output);
    let known = ["greygate_snapshot_duration_milliseconds "];
    let unknown: Vec<_> = told
        .lines()
        .filter(|line| line.starts_with("greygate_") || line.contains("error while"))
        .filter(|line| !known.iter().any(|it| line.contains(it)))
        .collect();
    assert!(unknown.is_empty(), "{told}");
}

#[test]
fn alert_rules_hold_and_each_alert_comes_when_it_should() {
    let promtool = needs!(program("promtool"));
    for arguments in [
        [
            "check",
            "rules",
            "../greylist-user/dist/prometheus-alerts.yml",
        ],
        ["test", "rules", "watch/alerts_test.yml"],
    ] {
        let output = Command::new(&promtool)
            .args(arguments)
            .current_dir(here())
            .output()
            .expect("it runs");
        assert!(output.status.success(), "{}", said(&output));
    }
    // Each of them is there in the test of troubles.
    let tested = fs::read_to_string(here().join("watch/alerts_test.yml")).expect("it is there");
    for alert in alerts()
        .lines()
        .filter_map(|it| it.trim().strip_prefix("- alert: "))
    {
        assert!(
            tested.contains(&format!("alertname=\"{alert}\"")),
            "{alert}"
        );
    }
}

#[test]
fn dashboard_asks_what_prometheus_understands() {
    let promtool = needs!(program("promtool"));
    let expressions = expressions(&dashboard());
    assert!(expressions.len() > 30, "{expressions:?}");
    let rules: Vec<String> = expressions
        .iter()
        .enumerate()
        .map(|(number, expression)| {
            let expression = expression
                .replace("$__rate_interval", "5m")
                .replace("$__range", "1h")
                .replace("$instance", ".*");
            let quoted = Value::from(expression);
            format!("      - {{record: 'panel:{number}', expr: {quoted}}}\n")
        })
        .collect();
    let place = tempfile::tempdir().expect("a directory");
    let file = place.path().join("panels.yml");
    let text = format!("groups:\n  - name: panels\n    rules:\n{}", rules.concat());
    fs::write(&file, text).expect("the directory is ours");
    let output = Command::new(promtool)
        .args(["check", "rules"])
        .arg(file)
        .output()
        .expect("it runs");
    assert!(output.status.success(), "{}", said(&output));
}

#[test]
fn dashboard_and_alerts_ask_for_metrics_that_the_daemon_has() {
    let exposed = names(&Watched::new().page());
    let mut asked = metrics_in(&alerts());
    for expression in expressions(&dashboard()) {
        asked.extend(metrics_in(&expression));
    }
    assert!(asked.len() > 30, "{asked:?}");
    // Those of the kernel filter are on the page once there is one; the manual has them.
    let manual = include_str!("../../docs/operations.md");
    let is_the_kernels = |name: &&String| {
        let name = name.strip_prefix("greygate_").unwrap_or_default();
        name.starts_with("xdp_") && manual.contains(&format!("`{name}{{"))
    };
    let unknown: Vec<_> = asked
        .difference(&exposed)
        .filter(|name| !is_the_kernels(name))
        .collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

#[test]
fn dashboard_is_one_that_grafana_loads_with_any_data_source() {
    let dashboard = dashboard();
    assert_eq!(dashboard["schemaVersion"], 39);
    assert!(dashboard["id"].is_null(), "Grafana gives it one");
    assert_eq!(dashboard["uid"], "greygate");
    let mut ids = BTreeSet::new();
    for panel in panels(&dashboard) {
        assert!(
            ids.insert(panel["id"].as_u64()),
            "{} comes twice",
            panel["id"]
        );
        assert!(panel["title"].is_string());
        let place = &panel["gridPos"];
        let [x, w] = ["x", "w"].map(|it| place[it].as_u64().expect("a number"));
        assert!(x + w <= 24, "{} is too wide", panel["title"]);
        if panel["type"] != "row" {
            assert!(panel["description"].is_string(), "{}", panel["title"]);
            let mut letters = BTreeSet::new();
            for target in panel["targets"].as_array().expect("a list") {
                assert!(
                    letters.insert(target["refId"].as_str()),
                    "{}",
                    panel["title"]
                );
            }
        }
    }
    let mut sources = Vec::new();
    data_sources(&dashboard, &mut sources);
    let foreign: Vec<_> = sources
        .iter()
        .filter(|uid| !["${datasource}", "-- Grafana --"].contains(&uid.as_str()))
        .collect();
    assert!(foreign.is_empty(), "{foreign:?}");
    let variables = dashboard["templating"]["list"].as_array().expect("a list");
    let names: Vec<_> = variables.iter().map(|it| &it["name"]).collect();
    assert_eq!(names, ["datasource", "instance"]);
}

fn older(line: &str, counters: &BTreeSet<&str>) -> String {
    for keyword in ["# TYPE ", "# HELP "] {
        if let Some((name, rest)) = line.strip_prefix(keyword).and_then(|it| it.split_once(' '))
            && counters.contains(name)
        {
            return format!("{keyword}{name}_total {rest}");
        }
    }
    line.to_owned()
}

fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn shipped(name: &str) -> String {
    let path = here().join("../greylist-user/dist").join(name);
    fs::read_to_string(path).expect("it is shipped")
}

fn alerts() -> String {
    shipped("prometheus-alerts.yml")
}

fn dashboard() -> Value {
    serde_json::from_str(&shipped("grafana-dashboard.json")).expect("it is JSON")
}

fn panels(dashboard: &Value) -> &[Value] {
    dashboard["panels"].as_array().expect("it has panels")
}

/// What the panels and the marks ask for.
fn expressions(dashboard: &Value) -> Vec<String> {
    let targets = panels(dashboard)
        .iter()
        .filter_map(|it| it["targets"].as_array());
    let marks = dashboard["annotations"]["list"].as_array();
    let asked = targets.chain(marks).flatten();
    asked
        .filter_map(|it| it["expr"].as_str().map(str::to_owned))
        .collect()
}

/// The words of `text` that are names of greygate's metrics; alerts' names begin otherwise.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let expressions = text.lines().filter(|line| !line.contains("description:"));
    let is_of_a_name = |it: char| it.is_ascii_alphanumeric() || it == '_';
    expressions
        .flat_map(|line| line.split(|it| !is_of_a_name(it)))
        .filter(|word| word.starts_with("greygate_"))
        .map(str::to_owned)
        .collect()
}

fn data_sources(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            if let Some(uid) = members.get("datasource").and_then(|it| it["uid"].as_str()) {
                found.push(uid.to_owned());
            }
            members.values().for_each(|it| data_sources(it, found));
        }
        Value::Array(items) => items.iter().for_each(|it| data_sources(it, found)),
        _ => {}
    }
}

fn said(output: &Output) -> String {
    let [out, err] = [&output.stdout, &output.stderr].map(|it| String::from_utf8_lossy(it));
    format!("{out}{err}")
}
