use std::path::{Path, PathBuf};

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};
use tidemill_model::{
    ApiErrorView, EventPage, EventView, OperationPage, OperationView, PruneReport, PruneRequest,
    RunPage, RunStatus, RunSummary, RunView,
};

use super::DOCUMENT;
use crate::node::http::health::{Health, Liveness};
use crate::node::http::reference::{Endpoint, Parameter, Route};
use crate::node::http::runs::StartBody;
use crate::node::http::view::{BlockedView, ResultView};

/// One answer of a request: its status, what it means, and what it carries.
struct Answer {
    status: u16,
    what: &'static str,
    content: Value,
}

/// Makes the document, and collects the schemas that it refers to.
struct Writer {
    schemas: SchemaGenerator,
}

impl Writer {
    fn of<T: JsonSchema>(&mut self) -> Value {
        self.schemas.subschema_for::<T>().to_value()
    }

    fn json<T: JsonSchema>(&mut self, status: u16, what: &'static str) -> Answer {
        let content = json!({ "application/json": { "schema": self.of::<T>() } });
        Answer { status, what, content }
    }

    fn answers(&mut self, route: Route) -> Vec<Answer> {
        let text = |kind: &str| json!({ kind: { "schema": { "type": "string" } } });
        match route {
            Route::StartRun => vec![
                self.json::<RunView>(201, "the run was started"),
                self.json::<RunView>(200, "a run of this id exists, with the same input"),
            ],
            Route::ListRuns => vec![self.json::<RunPage>(200, "a page of runs")],
            Route::ShowRun => vec![self.json::<RunView>(200, "the run")],
            Route::ListOperations => vec![self.json::<OperationPage>(200, "a page of operations")],
            Route::ShowOperation => vec![self.json::<OperationView>(200, "the operation")],
            Route::ListEvents => {
                let mut page = self.json::<EventPage>(200, "a page of events, or a stream of them");
                page.content["text/event-stream"] = json!({ "schema": { "type": "string" } });
                // What the stream's `data` is.
                self.of::<EventView>();
                vec![page]
            }
            Route::Result => vec![
                self.json::<ResultView>(200, "the run has ended"),
                self.json::<ResultView>(202, "the run has not ended"),
                self.json::<BlockedView>(409, "the run is blocked, and why"),
            ],
            Route::Resume => vec![self.json::<ResultView>(200, "what became of the run")],
            Route::Prune => vec![self.json::<PruneReport>(200, "what left, or would leave")],
            Route::Snapshot => {
                let schema = json!({ "type": "string", "format": "binary" });
                let content = json!({ "application/vnd.sqlite3": { "schema": schema } });
                vec![Answer { status: 200, what: "an SQLite file", content }]
            }
            Route::Metrics => {
                let what = "a page in Prometheus's text format";
                vec![Answer { status: 200, what, content: text("text/plain") }]
            }
            Route::Index => {
                vec![Answer { status: 200, what: "this API as text", content: text("text/plain") }]
            }
            Route::OpenApi => {
                let content = json!({ "application/json": { "schema": { "type": "object" } } });
                vec![Answer { status: 200, what: "this document", content }]
            }
            Route::Health => vec![
                self.json::<Health>(200, "the node is ready"),
                self.json::<Health>(503, "it is not, and `status` says why"),
            ],
            Route::Live => vec![self.json::<Liveness>(200, "the process answers")],
        }
    }

    fn operation(&mut self, route: Route) -> Value {
        let endpoint = route.endpoint();
        let mut responses = Map::new();
        for Answer { status, what, content } in self.answers(route) {
            responses
                .insert(status.to_string(), json!({ "description": what, "content": content }));
        }
        let error = json!({ "application/json": { "schema": self.of::<ApiErrorView>() } });
        let refused = json!({ "description": "the request is refused", "content": error });
        responses.insert("default".to_owned(), refused);
        let mut operation = json!({
            "operationId": format!("{route:?}"),
            "summary": endpoint.answer.replace('`', ""),
            "parameters": self.parameters(&endpoint),
            "responses": responses,
        });
        if endpoint.body.is_some() {
            let body = match route {
                Route::Prune => "PruneRequest",
                _ => "StartBody",
            };
            let schema = json!({ "$ref": format!("#/components/schemas/{body}") });
            let content = json!({ "application/json": { "schema": schema } });
            operation["requestBody"] = json!({ "required": true, "content": content });
        }
        if endpoint.open {
            operation["security"] = json!([]);
        }
        operation
    }

    fn parameters(&mut self, endpoint: &Endpoint) -> Vec<Value> {
        let in_path = endpoint.path.split('/').filter_map(|segment| {
            let name = segment.strip_prefix('{')?.strip_suffix('}')?;
            let schema = match name {
                "id" => json!({ "type": "string" }),
                "op" => json!({ "type": "integer", "minimum": 1 }),
                other => panic!("say what {other} is"),
            };
            Some(json!({ "name": name, "in": "path", "required": true, "schema": schema }))
        });
        let mut parameters: Vec<Value> = in_path.collect();
        for Parameter { name, what, .. } in endpoint.parameters {
            let schema = match *name {
                "status" => self.of::<RunStatus>(),
                "workflow" | "label" => json!({ "type": "string" }),
                "limit" => json!({ "type": "integer", "minimum": 1 }),
                "after" => json!({ "type": "integer", "minimum": 0 }),
                "whole" | "follow" => json!({ "type": "boolean" }),
                "wait" => json!({ "type": "string", "pattern": "^[0-9]+(ms|s|m)$" }),
                other => panic!("say what {other} is"),
            };
            parameters.push(
                json!({ "name": name, "in": "query", "description": what, "schema": schema }),
            );
        }
        parameters
    }
}

/// The document, made of the code.
fn made() -> Value {
    let settings = SchemaSettings::draft2020_12().for_serialize().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
    });
    let mut writer = Writer { schemas: settings.into_generator() };
    // A list's rows have a golden file of their own.
    writer.of::<RunSummary>();
    let mut paths: Map<String, Value> = Map::new();
    for route in Route::ALL {
        let Endpoint { method, path, .. } = route.endpoint();
        let of_path = paths.entry(path).or_insert_with(|| json!({}));
        of_path[method.as_str().to_lowercase()] = writer.operation(route);
    }
    let mut schemas = writer.schemas.take_definitions(true);
    schemas.insert("StartBody".to_owned(), of_body::<StartBody>());
    schemas.insert("PruneRequest".to_owned(), of_body::<PruneRequest>());
    schemas.values_mut().for_each(without_rust);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "A node of Tidemill",
            "version": "1",
            "description": "Starts runs and shows them. A reader ignores fields that it does not \
                            know, and words: later versions add both.",
        },
        "servers": [{ "url": "http://127.0.0.1:7420" }],
        "security": [{}, { "token": [] }],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
        },
    })
}

/// The schema of what a request carries.
fn of_body<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().for_deserialize().with(|settings| {
        settings.inline_subschemas = true;
    });
    let mut body = settings.into_generator().into_root_schema_for::<T>().to_value();
    body.as_object_mut().unwrap().retain(|name, _| name != "$schema" && name != "title");
    body
}

/// Descriptions come from the comments of Rust types; a reader of JSON knows no `None`.
fn without_rust(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if let Some(Value::String(text)) = fields.get_mut("description") {
                *text =
                    text.replace("`None`", "absent or null").replace("[`", "`").replace("`]", "`");
            }
            fields.values_mut().for_each(without_rust);
        }
        Value::Array(items) => items.iter_mut().for_each(without_rust),
        _ => {}
    }
}

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi.json")
}

/// Set `UPDATE_OPENAPI` to write the document: its diff shows what callers will see.
#[test]
fn the_document_is_what_the_code_does() {
    let made = serde_json::to_string_pretty(&made()).unwrap() + "\n";
    if std::env::var_os("UPDATE_OPENAPI").is_some() {
        std::fs::write(file(), &made).unwrap();
    }
    let golden = std::fs::read_to_string(file()).unwrap();
    assert!(golden == made, "openapi.json is stale: write it with UPDATE_OPENAPI=1, read its diff");
}

/// The schema of this name, with the document around it, which takes no field that it does not
/// name.
fn strict(name: &str) -> jsonschema::Validator {
    let mut schema: Value = serde_json::from_str(DOCUMENT).unwrap();
    for (_, schema) in schema["components"]["schemas"].as_object_mut().unwrap() {
        if schema.get("properties").is_some() {
            schema["unevaluatedProperties"] = json!(false);
        }
    }
    schema["$ref"] = format!("#/components/schemas/{name}").into();
    jsonschema::draft202012::new(&schema).unwrap()
}

#[test]
fn each_golden_file_is_what_its_schema_says() {
    let views = Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/golden/views");
    let mut checked = 0;
    for file in std::fs::read_dir(views).unwrap() {
        let path = file.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap();
        let name = match stem {
            "run_page" => "RunPage",
            "event_page" => "EventPage",
            "operations_cut" => "OperationPage",
            stem if stem.starts_with("event") => "EventView",
            stem if stem.starts_with("summary_") => "RunSummary",
            stem if stem.starts_with("run_") => "RunView",
            other => panic!("say which schema {other} has"),
        };
        let view: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let errors: Vec<String> = strict(name)
            .iter_errors(&view)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{stem} as {name}: {errors:#?}");
        checked += 1;
    }
    assert!(checked >= 17, "{checked}");
}

#[test]
fn a_schema_refuses_what_the_api_does_not_send() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/golden/views/event.json");
    let event: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let schema = strict("EventView");
    assert!(schema.is_valid(&event));
    for (field, value) in [("seq", json!("7")), ("sum", json!(7)), ("more", json!(true))] {
        let mut other = event.clone();
        other[field] = value;
        assert!(!schema.is_valid(&other), "{field}");
    }
}
