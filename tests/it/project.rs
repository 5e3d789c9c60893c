//! What must not drift apart: events, template, configuration, documents.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use pgvigil::event::Event;
use serde_json::Value;

use crate::support::project_file;

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
    assert_eq!(described.len(), 16, "the section says how many");
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
    for name in set.keys().filter_map(serde_yaml_ng::Value::as_str) {
        assert!(
            table.contains(name),
            "template.yaml sets {name}, which nothing reads"
        );
    }
}
