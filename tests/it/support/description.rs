//! Holds every answer to the API's own description (`src/http/openapi.json`).

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

use jsonschema::Validator;
use serde_json::{Value, json};

use super::app::Answer;

/// The document as it is served.
pub(crate) static DOCUMENT: LazyLock<Value> = LazyLock::new(|| {
    let text = include_str!("../../../src/http/openapi.json");
    serde_json::from_str(text).expect("parsing src/http/openapi.json")
});

/// Follows a reference, if it is one.
fn resolved(value: &'static Value) -> &'static Value {
    let Some(reference) = value["$ref"].as_str() else {
        return value;
    };
    let pointer = reference.trim_start_matches('#');
    let target = DOCUMENT.pointer(pointer);
    target.unwrap_or_else(|| panic!("{reference} leads nowhere"))
}

/// The validator of a schema of the document, compiled once.
fn validator(schema: &Value) -> Arc<Validator> {
    static COMPILED: LazyLock<Mutex<HashMap<String, Arc<Validator>>>> =
        LazyLock::new(Mutex::default);
    let key = schema.to_string();
    let mut compiled = COMPILED.lock().expect("compiling schemas");
    let validator = compiled.entry(key).or_insert_with(|| {
        let root = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "components": DOCUMENT["components"],
            "allOf": [schema],
        });
        let built = jsonschema::options()
            .should_validate_formats(true)
            .build(&root);
        Arc::new(built.unwrap_or_else(|error| panic!("{schema}: {error}")))
    });
    Arc::clone(validator)
}

/// What is wrong with a value by a schema of the document.
pub(crate) fn breaches(schema: &Value, value: &Value) -> Vec<String> {
    let validator = validator(schema);
    let errors = validator.iter_errors(value);
    errors
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect()
}

/// What the document says of a path: by itself, or as one with a parameter.
fn operations_at(path: &str) -> &'static Value {
    let exact = &DOCUMENT["paths"][path];
    if !exact.is_null() {
        return exact;
    }
    let is_it = |template: &str| {
        let mut parts = template.split('/').zip(path.split('/'));
        template.split('/').count() == path.split('/').count()
            && template.contains('{')
            && parts
                .all(|(part, given)| part == given || part.starts_with('{') && !given.is_empty())
    };
    let mut paths = DOCUMENT["paths"].as_object().into_iter().flatten();
    let found = paths.find(|(template, _)| is_it(template));
    found.map_or(&Value::Null, |(_, operations)| operations)
}

/// Panics where an answer is not as the document says: its status, its type, its headers, its content.
pub(crate) fn check(method: &str, path: &str, answer: &Answer) {
    let context = || format!("{method} {path} {}: {}", answer.status, answer.text);
    let operations = operations_at(path);
    let operation = &operations[method.to_ascii_lowercase()];
    let response = match (operations.is_null(), operation.is_null()) {
        (true, _) => &DOCUMENT["components"]["responses"]["NotFound"],
        (_, true) => &DOCUMENT["components"]["responses"]["MethodNotAllowed"],
        _ => &operation["responses"][answer.status.to_string()],
    };
    assert!(!response.is_null(), "no such answer: {}", context());
    let response = resolved(response);
    for (name, header) in response["headers"].as_object().into_iter().flatten() {
        let value = answer.headers.get(&name.to_ascii_lowercase());
        assert!(value.is_some(), "without {name}: {}", context());
        if header["schema"]["type"] == "integer" {
            assert!(value.is_some_and(|value| value.parse::<u32>().is_ok_and(|n| n > 0)));
        }
    }
    let Some(contents) = response["content"].as_object() else {
        assert_eq!(answer.text, "", "{}", context());
        return;
    };
    let content_type = answer.headers["content-type"]
        .split(';')
        .next()
        .unwrap_or_default();
    let content = contents.get(content_type);
    let content = content.unwrap_or_else(|| panic!("{content_type}: {}", context()));
    if content_type.ends_with("json") {
        let breaches = breaches(&content["schema"], &answer.json());
        assert!(breaches.is_empty(), "{breaches:#?}\n{}", context());
    }
}
