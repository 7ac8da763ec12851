//! Holds what the node sends to the OpenAPI document that it serves: every reply of every test.

use std::sync::LazyLock;

use serde_json::{Value, json};

static DOCUMENT: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("../../openapi.json")).unwrap());

/// Checks the body of a reply against the schema that the document has for it.
#[track_caller]
pub(crate) fn check(method: &str, path: &str, status: u16, body: &Value) {
    let path = path.split('?').next().unwrap();
    let paths = DOCUMENT["paths"].as_object().unwrap();
    let known = paths.iter().find(|(template, _)| fits(template, path));
    let operation = known.and_then(|(_, of_path)| of_path.get(method.to_lowercase()));
    let schema = match operation {
        Some(operation) => {
            let responses = &operation["responses"];
            let is_refusal = status >= 400 && body.get("kind").is_some();
            let response = match responses.get(status.to_string()) {
                // A blocked run's result is an error and a result.
                Some(response) if !is_refusal || body["kind"] == "blocked" => response,
                Some(_) | None => &responses["default"],
            };
            response["content"]["application/json"]["schema"].clone()
        }
        None => json!({ "$ref": "#/components/schemas/ApiErrorView" }),
    };
    let root = json!({ "allOf": [schema], "components": DOCUMENT["components"] });
    let validator = jsonschema::draft202012::new(&root).unwrap();
    let errors: Vec<String> = validator
        .iter_errors(body)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{method} {path} answers {status}: {errors:#?}\n{body:#}");
}

fn fits(template: &str, path: &str) -> bool {
    let (template, path): (Vec<&str>, Vec<&str>) =
        (template.split('/').collect(), path.split('/').collect());
    let same = |(one, other): (&&str, &&str)| one.starts_with('{') || one == other;
    template.len() == path.len() && template.iter().zip(&path).all(same)
}
