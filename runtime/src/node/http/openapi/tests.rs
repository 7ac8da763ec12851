use std::path::Path;

use serde_json::{Map, Value, json};
use tidemill_model::openapi::{self, Answer, Schemas};
use tidemill_model::{
    EventPage, EventView, ForkFromRequest, ForkRequest, OperationPage, OperationView, PromisePage,
    PromiseView, PruneReport, PruneRequest, RunPage, RunStatus, RunSummary, RunView,
};

use super::DOCUMENT;
use crate::node::http::asks::AskBody;
use crate::node::http::forks::ForkView;
use crate::node::http::health::{Health, Liveness};
use crate::node::http::promises::{AnsweredView, TokenView};
use crate::node::http::reference::{Endpoint, Parameter, Route};
use crate::node::http::runs::StartBody;
use crate::node::http::signals::SignalledView;
use crate::node::http::view::{BlockedView, ResultView};

/// Makes the document, and collects the schemas that it refers to.
struct Writer {
    schemas: Schemas,
}

impl Writer {
    fn answers(&mut self, route: Route) -> Vec<Answer> {
        let schemas = &mut self.schemas;
        match route {
            Route::StartRun => vec![
                schemas.json::<RunView>(201, "the run was started"),
                schemas.json::<RunView>(200, "a run of this id exists, with the same input"),
            ],
            Route::ListRuns => vec![schemas.json::<RunPage>(200, "a page of runs")],
            Route::ShowRun => vec![schemas.json::<RunView>(200, "the run")],
            Route::ListOperations => {
                vec![schemas.json::<OperationPage>(200, "a page of operations")]
            }
            Route::ShowOperation => vec![schemas.json::<OperationView>(200, "the operation")],
            Route::ListEvents => {
                let mut page =
                    schemas.json::<EventPage>(200, "a page of events, or a stream of them");
                page.content["text/event-stream"] = json!({ "schema": { "type": "string" } });
                // What the stream's `data` is.
                schemas.of::<EventView>();
                vec![page]
            }
            Route::Result => vec![
                schemas.json::<ResultView>(200, "the run has ended"),
                schemas.json::<ResultView>(202, "the run has not ended"),
                schemas.json::<BlockedView>(409, "the run is blocked, and why"),
            ],
            Route::Signal => vec![
                schemas.json::<SignalledView>(201, "the run keeps it"),
                schemas.json::<SignalledView>(200, "the run had one of this key"),
            ],
            Route::ListPromises => {
                vec![schemas.json::<PromisePage>(200, "promises in the order in which they began")]
            }
            Route::ShowPromise => vec![schemas.json::<PromiseView>(200, "the promise")],
            Route::Resolve | Route::Reject => {
                vec![schemas.json::<AnsweredView>(200, "the answer is recorded, now or before")]
            }
            Route::PromiseToken => vec![schemas.json::<TokenView>(201, "the token")],
            Route::Fork | Route::ForkFrom => vec![
                schemas.json::<ForkView>(201, "the fork was made"),
                schemas.json::<ForkView>(200, "it existed, or would be made"),
            ],
            Route::Cancel | Route::Pause | Route::Resume | Route::Terminate => {
                vec![schemas.json::<ResultView>(200, "what became of the run")]
            }
            Route::Prune => vec![schemas.json::<PruneReport>(200, "what left, or would leave")],
            Route::Snapshot => {
                let content = openapi::file("application/vnd.sqlite3");
                vec![Answer { status: 200, what: "an SQLite file", content }]
            }
            Route::Metrics => {
                let what = "a page in Prometheus's text format";
                vec![Answer { status: 200, what, content: openapi::text("text/plain") }]
            }
            Route::Index => {
                vec![Answer {
                    status: 200,
                    what: "this API as text",
                    content: openapi::text("text/plain"),
                }]
            }
            Route::OpenApi => {
                let content = json!({ "application/json": { "schema": { "type": "object" } } });
                vec![Answer { status: 200, what: "this document", content }]
            }
            Route::Health => vec![
                schemas.json::<Health>(200, "the node is ready"),
                schemas.json::<Health>(503, "it is not, and `status` says why"),
            ],
            Route::Live => vec![schemas.json::<Liveness>(200, "the process answers")],
        }
    }

    fn operation(&mut self, route: Route) -> Value {
        let endpoint = route.endpoint();
        let answers = self.answers(route);
        let mut operation = json!({
            "operationId": format!("{route:?}"),
            "summary": endpoint.answer.replace('`', ""),
            "parameters": self.parameters(&endpoint),
            "responses": self.schemas.responses(answers),
        });
        if endpoint.body.is_some() {
            let body = match route {
                Route::Prune => "PruneRequest",
                Route::Fork => "ForkRequest",
                Route::ForkFrom => "ForkFromRequest",
                Route::Cancel | Route::Pause | Route::Terminate => "AskBody",
                _ => "StartBody",
            };
            // A signal has any JSON.
            let schema = match route {
                Route::Signal | Route::Resolve | Route::Reject => json!({}),
                _ => json!({ "$ref": format!("#/components/schemas/{body}") }),
            };
            let content = json!({ "application/json": { "schema": schema } });
            operation["requestBody"] = json!({ "required": true, "content": content });
        }
        if endpoint.open {
            operation["security"] = json!([]);
        }
        operation
    }

    fn parameters(&mut self, endpoint: &Endpoint) -> Vec<Value> {
        let mut parameters = openapi::in_path(endpoint.path, |name| match name {
            "id" => json!({ "type": "string" }),
            "op" => json!({ "type": "integer", "minimum": 1 }),
            "name" => json!({ "type": "string", "minLength": 1, "maxLength": 200 }),
            other => panic!("say what {other} is"),
        });
        for Parameter { name, what, .. } in endpoint.parameters {
            let schema = match *name {
                "status" => self.schemas.of::<RunStatus>(),
                "workflow" | "label" | "key" | "by" | "name" | "run" | "token" | "for" => {
                    json!({ "type": "string" })
                }
                "limit" => json!({ "type": "integer", "minimum": 1 }),
                "after" => json!({ "type": "integer", "minimum": 0 }),
                "whole" | "follow" | "all" | "dry_run" => json!({ "type": "boolean" }),
                "wait" | "life" => json!({ "type": "string", "pattern": "^[0-9]+(ms|s|m|h|d)$" }),
                other => panic!("say what {other} is"),
            };
            parameters.push(openapi::in_query(name, what, &schema));
        }
        parameters
    }
}

/// The document, made of the code.
fn made() -> Value {
    let mut writer = Writer { schemas: Schemas::new() };
    // A list's rows have a golden file of their own.
    writer.schemas.of::<RunSummary>();
    let mut paths: Map<String, Value> = Map::new();
    for route in Route::ALL {
        let Endpoint { method, path, .. } = route.endpoint();
        let of_path = paths.entry(path).or_insert_with(|| json!({}));
        of_path[method.as_str().to_lowercase()] = writer.operation(route);
    }
    let bodies = vec![
        ("AskBody", openapi::body::<AskBody>()),
        ("StartBody", openapi::body::<StartBody>()),
        ("ForkRequest", openapi::body::<ForkRequest>()),
        ("ForkFromRequest", openapi::body::<ForkFromRequest>()),
        ("PruneRequest", openapi::body::<PruneRequest>()),
    ];
    let info = json!({
        "title": "A node of Tidemill",
        "version": "1",
        "description": "Starts runs and shows them. A reader ignores fields that it does not know, \
                        and words: later versions add both.",
    });
    let schemas = writer.schemas.finish(bodies);
    openapi::document(&info, "http://127.0.0.1:7420", &paths, &schemas)
}

#[test]
fn the_document_is_what_the_code_does() {
    openapi::hold(&Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi.json"), &made());
}

/// The schema of this name, which takes no field that it does not name.
fn strict(name: &str) -> jsonschema::Validator {
    let document = serde_json::from_str(DOCUMENT).unwrap();
    jsonschema::draft202012::new(&openapi::strict(document, name)).unwrap()
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
