//! What must not drift apart: events, template, configuration, documents.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use pgvigil::config::{CloudWatchMetrics, METRICS};
use pgvigil::event::Event;
use serde_json::Value;

use crate::support::{project_file, scratch};

fn root(path: &str) -> PathBuf {
    project_file(path)
}

fn read(path: &str) -> String {
    fs::read_to_string(root(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn events() -> Vec<(String, Value)> {
    let files = fs::read_dir(root("events")).expect("listing events");
    let mut events: Vec<(String, Value)> = files
        .filter_map(|file| file.ok()?.file_name().into_string().ok())
        .map(|name| {
            let text = read(&format!("events/{name}"));
            let event =
                serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
            (name.trim_end_matches(".json").to_owned(), event)
        })
        .collect();
    events.sort_by(|one, other| one.0.cmp(&other.0));
    events
}

#[test]
fn each_event_file_is_what_its_name_says() {
    for (name, event) in events() {
        let is_request = name.starts_with("api-") || name.starts_with("function-url-");
        match Event::from_json(event) {
            Ok(Event::Http(_)) => assert!(is_request, "{name} is a request"),
            Ok(Event::Task(task)) => {
                assert!(!is_request, "{name} is a task");
                assert!(
                    name.ends_with(&task.name),
                    "{name} is the task {}",
                    task.name
                );
            }
            Err(error) => panic!("{name}: {error}"),
        }
    }
}

#[test]
fn each_event_file_is_used_by_a_test() {
    let users = read("tests/it/emulator.rs");
    for (name, _) in events() {
        assert!(
            users.contains(&format!("\"{name}\"")),
            "events/{name}.json is invoked by no test"
        );
    }
}

/// Short forms of AWS's templates (`!Ref`) are tags, which the YAML reader keeps beside the value.
fn template() -> serde_yaml_ng::Value {
    serde_yaml_ng::from_str(&read("template.yaml")).expect("parsing template.yaml")
}

/// What EventBridge Scheduler replaces by the schedule's own time.
const SCHEDULED_TIME: &str = "<aws.scheduler.scheduled-time>";

/// The time of the examples.
const EXAMPLE_TIME: &str = "2025-08-25T12:00:00Z";

/// What the function gets of a schedule's input.
fn delivered(input: &str) -> Value {
    serde_json::from_str(&input.replace(SCHEDULED_TIME, EXAMPLE_TIME)).expect("parsing an input")
}

#[test]
fn schedules_send_what_the_event_files_hold() {
    let template = template();
    let schedules = template["Resources"]["Function"]["Properties"]["Events"]
        .as_mapping()
        .expect("finding the events");
    let mut inputs = Vec::new();
    for (name, schedule) in schedules {
        if schedule["Type"].as_str() != Some("ScheduleV2") {
            continue;
        }
        let input = schedule["Properties"]["Input"]
            .as_str()
            .unwrap_or_else(|| panic!("{name:?} has no input"));
        inputs.push(delivered(input));
    }
    let scheduled = |(name, event): (String, Value)| name.starts_with("schedule-").then_some(event);
    let mut files: Vec<Value> = events().into_iter().filter_map(scheduled).collect();
    inputs.sort_by_key(Value::to_string);
    files.sort_by_key(Value::to_string);
    assert_eq!(inputs, files);
}

/// Only the name differs: of the database, and so of the schedule.
#[test]
fn documented_schedules_of_further_databases_are_those_of_the_default_one() {
    let page = read("docs/operations.md");
    let blocks = page.split("```yaml\n").skip(1);
    let blocks = blocks.filter_map(|rest| rest.split("```").next());
    let loops: Vec<&str> = blocks
        .filter(|block| block.contains("Fn::ForEach"))
        .collect();
    assert_eq!(loops.len(), 1, "{loops:?}");
    let loops: serde_yaml_ng::Value = serde_yaml_ng::from_str(loops[0]).expect("parsing it");
    let template = template();
    let schedules = &template["Resources"]["Function"]["Properties"]["Events"];
    let mut inputs = Vec::new();
    for (name, documented) in [("Sample", "SampleTargets"), ("Cleanup", "CleanupTargets")] {
        let of_default = &schedules[format!("Schedule{name}")]["Properties"];
        let key = format!("Schedule{name}&{{Name}}");
        let of_others = &loops[format!("Fn::ForEach::{documented}")][2][key]["Properties"];
        let target = &of_others["Target"];
        for (one, other) in [
            (
                &of_default["ScheduleExpression"],
                &of_others["ScheduleExpression"],
            ),
            (
                &of_default["FlexibleTimeWindow"],
                &of_others["FlexibleTimeWindow"],
            ),
            (&of_default["RetryPolicy"], &target["RetryPolicy"]),
            (&of_default["DeadLetterConfig"], &target["DeadLetterConfig"]),
        ] {
            assert!(!one.is_null() && one == other, "{name}: {one:?}, {other:?}");
        }
        let input = |of: &serde_yaml_ng::Value| of["Input"].as_str().map(str::to_owned);
        let of_default = input(of_default).expect("an input");
        let of_others = input(target)
            .expect("an input")
            .replace("${Name}", "reports");
        let mut expected = delivered(&of_default);
        expected["target"] = "reports".into();
        assert_eq!(delivered(&of_others), expected, "{name}");
        inputs.push(expected);
    }
    let file = read("events/target-sample.json");
    let file: Value = serde_json::from_str(&file).expect("parsing an event");
    assert_eq!(file, inputs[0]);
}

#[test]
fn each_metric_is_documented_with_its_unit() {
    let page = read("docs/operations.md");
    let section = page
        .split("\n## ")
        .find(|section| section.starts_with("Metrics in CloudWatch"));
    let section = section.expect("finding the section");
    let row = |line: &str| {
        let mut cells = line.strip_prefix("| `")?.split(" | ");
        let name = cells.next()?.trim_end_matches('`').to_owned();
        Some((name, cells.next()?.to_owned()))
    };
    let documented: BTreeSet<(String, String)> = section.lines().filter_map(row).collect();
    let described = pgvigil::task::metrics::described();
    let described: BTreeSet<(String, String)> = described
        .map(|(name, unit)| (name.to_owned(), unit.to_owned()))
        .collect();
    assert_eq!(documented, described);
    assert_eq!(described.len(), METRICS.len(), "the section says how many");
}

/// Names of variables in the table at the head of `config.rs`, the one list that the others follow.
fn variables(text: &str) -> BTreeSet<String> {
    let name = |line: &str| {
        Some(
            line.trim_start_matches("//! ")
                .strip_prefix("| `")?
                .split_once('`')?
                .0
                .to_owned(),
        )
    };
    text.lines()
        .filter_map(name)
        .filter(|name| name.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
        .collect()
}

#[test]
fn the_tables_of_variables_agree_with_the_code() {
    let source = read("src/config.rs");
    let table = variables(&source);
    assert!(table.len() >= 10, "{table:?}");
    let code = source.split("#[cfg(test)]").next().unwrap_or_default();
    let read_by_code: BTreeSet<String> = code
        .split("var(\"")
        .skip(1)
        .filter_map(|rest| Some(rest.split_once('"')?.0.to_owned()))
        .collect();
    assert_eq!(table, read_by_code);
    assert_eq!(table, variables(&read("README.md")), "README.md");
    let template = template();
    let set = template["Resources"]["Function"]["Properties"]["Environment"]["Variables"]
        .as_mapping()
        .expect("finding the variables");
    let set: BTreeSet<String> = set
        .keys()
        .filter_map(|name| name.as_str().map(str::to_owned))
        .collect();
    // What is for this machine, and the log's filter, which is changed for an hour and by hand.
    let local = ["DATABASE_URL", "DATABASE_TLS", "RUST_LOG"].map(str::to_owned);
    let deployed: BTreeSet<String> = table.difference(&local.into()).cloned().collect();
    assert_eq!(set, deployed, "template.yaml");
}

/// What the API's description says there is, as API Gateway names it.
fn described_routes() -> BTreeSet<String> {
    let description: Value =
        serde_json::from_str(&read("src/http/openapi.json")).expect("parsing the description");
    let paths = description["paths"].as_object().expect("finding the paths");
    let mut routes = BTreeSet::new();
    for (path, item) in paths {
        for method in ["get", "head", "post", "put", "patch", "delete"] {
            if item.get(method).is_some() {
                routes.insert(format!("{} {path}", method.to_uppercase()));
            }
        }
    }
    assert!(routes.len() >= 10, "{routes:?}");
    routes
}

/// Whether the API's description asks for no token there.
fn is_described_as_open(method: &str, path: &str) -> bool {
    let description: Value =
        serde_json::from_str(&read("src/http/openapi.json")).expect("parsing the description");
    let operation = &description["paths"][path][method.to_ascii_lowercase()];
    let named = operation["security"].as_array();
    method == "OPTIONS"
        || named.is_some_and(|named| named.iter().all(|way| way["bearer"].is_null()))
}

/// A route that is missing answers 404 on AWS alone; one too many, or without the authorizer, is a door.
#[test]
fn the_gateway_has_each_route_and_lets_nobody_past_the_authorizer() {
    let template = template();
    let resources = template["Resources"].as_mapping().expect("resources");
    let mut routed = BTreeSet::new();
    for resource in resources.values() {
        if resource["Type"].as_str() != Some("AWS::ApiGatewayV2::Route") {
            continue;
        }
        let properties = &resource["Properties"];
        let key = properties["RouteKey"].as_str().expect("a route's key");
        // Without a token: whether it lives, what a browser asks before it sends one, and the page, which has no data in it.
        let (method, path) = key.split_once(' ').expect("a method and a path");
        let is_page = path == "/dashboard" || path.starts_with("/dashboard/");
        // And what reads no claims, since a project's own token or key opens it.
        let is_of_project =
            key == "POST /api/monitoring/vitals" || path.starts_with("/api/monitoring/lighthouse/");
        let is_open = key == "GET /api/monitoring/health"
            || method == "OPTIONS"
            || is_of_project
            || is_page && matches!(method, "GET" | "HEAD");
        assert_eq!(is_described_as_open(method, path), is_open, "{key}");
        let by_mode = |value: &serde_yaml_ng::Value| {
            let text = serde_yaml_ng::to_string(value).unwrap_or_default();
            text.starts_with("!If") && text.contains("GatewayMode")
        };
        for property in ["AuthorizationType", "AuthorizerId"] {
            assert_eq!(properties[property].is_null(), is_open, "{key}: {property}");
            assert_eq!(
                by_mode(&properties[property]),
                !is_open,
                "{key}: {property}"
            );
        }
        assert!(routed.insert(key.to_owned()), "{key} is there twice");
    }
    let mut expected = described_routes();
    expected.insert("OPTIONS /api/monitoring/{route}".to_owned());
    assert_eq!(routed, expected);
}

/// The function has few instances: without a limit of their own these routes could keep all of them busy.
#[test]
fn what_a_stranger_may_send_has_a_limit_of_its_own() {
    let template = template();
    let resources = template["Resources"].as_mapping().expect("resources");
    let stage = &template["Resources"]["ApiStage"];
    let limit = |settings: &serde_yaml_ng::Value| settings["ThrottlingRateLimit"].as_u64();
    let of_all = limit(&stage["Properties"]["DefaultRouteSettings"]).expect("a limit");
    let made_before = stage["DependsOn"]
        .as_sequence()
        .expect("what is made before");
    let mut limited = 0;
    for (name, resource) in resources {
        let key = resource["Properties"]["RouteKey"].as_str().unwrap_or("");
        if key != "POST /api/monitoring/vitals" && !key.contains("/api/monitoring/lighthouse/") {
            continue;
        }
        let own = limit(&stage["Properties"]["RouteSettings"][key]);
        assert!(own.is_some_and(|own| own < of_all), "{key}: {own:?}");
        // API Gateway refuses settings of a route that is not there yet.
        assert!(made_before.contains(name), "{key}");
        limited += 1;
    }
    assert_eq!(limited, 9);
}

#[test]
fn the_readme_names_each_route_and_method() {
    let page = read("README.md");
    let rows: Vec<&str> = page
        .lines()
        .filter(|line| line.starts_with("| `"))
        .collect();
    for route in described_routes() {
        let (method, path) = route.split_once(' ').expect("a method and a path");
        let is_row = |row: &&str| {
            let cell = row.split('|').nth(1).unwrap_or_default().trim();
            let cell = cell.trim_matches('`');
            cell.rsplit_once(' ').is_some_and(|(methods, at)| {
                at == path && methods.split(", ").any(|known| known == method)
            })
        };
        assert!(rows.iter().any(is_row), "README.md lacks {route}");
    }
}

/// Whoever is woken wants to know by what: each alarm tells the topic, and what silence means is said for each.
#[test]
fn each_alarm_tells_somebody_and_says_what_silence_means() {
    let template = template();
    let resources = template["Resources"].as_mapping().expect("resources");
    let alarms: Vec<_> = resources
        .iter()
        .filter(|(_, resource)| resource["Type"].as_str() == Some("AWS::CloudWatch::Alarm"))
        .collect();
    let page = read("docs/operations.md");
    for (name, alarm) in &alarms {
        let name = name.as_str().expect("an alarm's name");
        let properties = &alarm["Properties"];
        for action in ["AlarmActions", "OKActions"] {
            assert!(!properties[action][0].is_null(), "{name}: {action}");
        }
        let silence = properties["TreatMissingData"].as_str();
        let expected = if name == "DatabaseGone" {
            "breaching"
        } else {
            "notBreaching"
        };
        assert_eq!(silence, Some(expected), "{name}");
        assert!(
            page.contains(&format!("| `{name}` |")),
            "{name} is in no table"
        );
        if properties["Namespace"].as_str() == Some("pgvigil") {
            let metric = properties["MetricName"].as_str().unwrap_or_default();
            let mut described = pgvigil::task::metrics::described();
            assert!(described.any(|(known, _)| known == metric), "{metric}");
        }
    }
    assert_eq!(alarms.len(), 4);
}

/// A sum that nobody checks is wrong after the next change.
#[test]
fn what_it_costs_is_counted_as_in_the_template() {
    let page = read("docs/cost.md");
    let number = |cell: &str| cell.trim_matches('*').replace(',', "").parse::<f64>().ok();
    let rows: Vec<Vec<&str>> = page
        .lines()
        .filter_map(|line| line.strip_prefix('|')?.strip_suffix('|'))
        .map(|line| line.split('|').map(str::trim).collect())
        .filter(|cells: &Vec<&str>| cells.len() == 5)
        .collect();
    let cents = |dollars: f64| (dollars * 100.0).round();
    let (mut items, mut sums, mut totals_seen) = (Vec::new(), [0.0, 0.0], 0);
    for cells in &rows {
        let numbers: Vec<f64> = cells[1..].iter().filter_map(|cell| number(cell)).collect();
        match (numbers.as_slice(), cells[0]) {
            ([quantity, price, month, beyond], name) => {
                assert_eq!(cents(quantity * price), cents(*month), "{name}");
                assert!(*beyond == 0.0 || beyond == month, "{name}");
                items.push((name, *quantity));
                sums = [sums[0] + month, sums[1] + beyond];
            }
            (totals, "**together**") => {
                let totals: Vec<f64> = totals.iter().map(|&total| cents(total)).collect();
                assert_eq!(totals, sums.map(cents));
                totals_seen += 1;
            }
            _ => {}
        }
    }
    assert_eq!(totals_seen, 1, "{rows:?}");
    assert!(items.len() >= 10, "{rows:?}");
    let head = page.split("\n## ").next().expect("the head");
    let told = format!(
        "**{:.2} dollars a month by list price, {:.2} with",
        sums[0], sums[1]
    );
    assert!(
        head.contains(&told),
        "the head says something other than {told}"
    );

    let template = template();
    let resources = template["Resources"].as_mapping().expect("resources");
    let of_type = |name: &str| {
        let types = resources.values().filter_map(|it| it["Type"].as_str());
        types.filter(|it| *it == name).count()
    };
    let schedules = resources["Function"]["Properties"]["Events"].as_mapping();
    let schedules = schedules.map_or(0, |events| events.len());
    let parameters = template["Parameters"].as_mapping().expect("parameters");
    let names = parameters.keys().filter_map(|name| name.as_str());
    let secrets = names.filter(|name| name.ends_with("SecretArn")).count();
    let published = CloudWatchMetrics::default();
    let published = METRICS
        .iter()
        .filter(|name| published.contains(name))
        .count();
    for (part, counted) in [
        ("metrics of ours", published),
        ("alarms", of_type("AWS::CloudWatch::Alarm")),
        ("Secrets Manager, secrets", secrets),
    ] {
        let item = items.iter().find(|(name, _)| name.contains(part));
        let (name, quantity) = item.unwrap_or_else(|| panic!("no row of {part}"));
        assert_eq!(*quantity, counted as f64, "{name}");
    }
    let memory = &resources["Function"]["Properties"]["MemorySize"];
    let memory = memory.as_u64().expect("the function's memory");
    for said in [
        format!("of {schedules} schedules"),
        format!("The function has {memory} MB"),
        format!("would be {:.2}", METRICS.len() as f64 * 0.3),
    ] {
        assert!(page.contains(&said), "cost.md does not say: {said}");
    }
    assert_eq!(METRICS.len(), 20, "the page says how many");
}

/// Same commit, same bytes: when it was zipped, by whom and from where leaves no trace.
#[test]
fn the_zip_depends_on_its_content_only() {
    let zip = |program: &str| {
        let target = scratch::file("function.zip", "");
        let mut python = Command::new("python3");
        python.arg(root("script/zip_function.py")).arg(&target);
        python.args([
            scratch::file(program, "program"),
            scratch::file("ca", "roots"),
        ]);
        let status = python.status().expect("running python3");
        assert!(status.success(), "{status}");
        fs::read(target).expect("reading the zip")
    };
    let first = zip("one");
    // The format's clock has a resolution of two seconds.
    std::thread::sleep(Duration::from_millis(2100));
    let second = zip("another");
    assert_eq!(first, second);
    let holds = |name: &[u8]| first.windows(name.len()).any(|bytes| bytes == name);
    assert!(holds(b"bootstrap") && holds(b"roots.pem"));
}
