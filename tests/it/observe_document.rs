//! The observer's OpenAPI document: every address in it answers what it says.

use std::time::Duration;

use serde_json::{Value, json};

use crate::observe::path_of;
use crate::support::bucket::Bucket;
use crate::support::http::Api;
use crate::support::machine::Machine;
use crate::support::observing::Settings;
use crate::support::wait;

const BOUND: Duration = Duration::from_secs(60);

/// A document whose objects take no field that it does not name.
fn strict(mut document: Value) -> Value {
    let schemas = document["components"]["schemas"].as_object_mut().expect("it has schemas");
    for schema in schemas.values_mut().filter(|schema| schema.get("properties").is_some()) {
        schema["unevaluatedProperties"] = json!(false);
    }
    document
}

/// Holds an answer to a schema of the document.
#[track_caller]
fn hold(document: &Value, schema: &Value, answer: &Value, what: &str) {
    let mut whole = document.clone();
    whole["allOf"] = json!([schema]);
    let schema = jsonschema::draft202012::new(&whole).expect("a schema");
    let errors: Vec<String> = schema
        .iter_errors(answer)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{what}: {errors:#?}\n{answer:#}");
}

/// A path of the document with names of the world of this test in it, and what must be asked.
fn address(path: &str, (source, live, child, op): (&str, &str, &str, &str)) -> String {
    let is_promise = path.contains("/promises/");
    let id = match path {
        _ if is_promise => "asked:1",
        path if path.contains("/operations") || path.contains("/curves") => child,
        _ => "search",
    };
    let verb = if is_promise { "resolve" } else { "resume" };
    let (node, moment) = source.split_once('@').expect("a moment");
    let path = path.replace("/s3/{bucket}/{fleet}/{node}", node).replace("{moment}", moment);
    let path = path.replace("/live/{host}", live).replace("{id}", id).replace("{op}", op);
    let path = path.replace("{payload}", "input").replace("{verb}", verb);
    let query = match path.rsplit('/').next() {
        Some("compare") => format!("?a=search&b={child}"),
        Some("sql" | "sql.csv") => "?q=SELECT+*+FROM+runs".to_owned(),
        _ => String::new(),
    };
    path + &query
}

#[track_caller]
fn check_get(api: &Api, document: &Value, path: &str, address: &str) {
    let reply = api.get(address).expect("the service answers");
    assert_eq!(reply.status, 200, "{address}: {}", reply.body);
    let content = &document["paths"][path]["get"]["responses"]["200"]["content"];
    if content.get("application/json").is_some() {
        hold(document, &content["application/json"]["schema"], &reply.body, address);
    } else {
        assert!(!api.bytes(address).expect("a file").is_empty(), "{address}");
    }
    if content.get("text/html").is_some() {
        let page = api.page(address).expect("the service answers");
        let text = page.body.as_str().unwrap_or_default().to_ascii_lowercase();
        assert!(page.status == 200 && text.starts_with("<!doctype html>"), "{address}");
    }
}

#[test]
fn every_address_answers_what_the_document_says() {
    let bucket = Bucket::new();
    let mut vm = Machine::new(&bucket, "vm", "n1").sidecar_args(&["--ttl", "10s"]);
    vm.start().wait_ready();
    let rates = json!({ "rates": [0.1, 0.5], "epochs": 4 });
    vm.api().start("search", "tune", &rates);
    vm.api().wait_completed("search", BOUND);
    vm.api().start("waits", "nap", &json!({ "millis": 600_000 }));
    vm.api().start("wrong", "gives_up", &json!(50));
    vm.api().start("asked", "number", &json!(null));
    wait::until_true("the promise", BOUND, || {
        let promise = vm.api().get("/v1/promises/asked:1");
        promise.is_ok_and(|reply| reply.status == 200)
    });
    vm.barrier_ok();

    let observer = Settings::of(&bucket).node(&vm.api()).start();
    let api = observer.api();
    let document = api.get("/openapi.json").expect("the service answers").body;
    let document = strict(document);
    let source = path_of(&bucket, "n1", "latest");
    let live = vm.api().base().replacen("http://", "/live/", 1);
    wait::until_true("the node to be known", BOUND, || {
        let fleets = api.get("/").expect("the service answers").body;
        fleets["fleets"][0]["nodes"][0]["live"].is_string()
    });
    let children = api.get(&format!("{source}/runs/search/children")).expect("it answers").body;
    let child = children["rows"][0]["id"].as_str().expect("a child").to_owned();
    let all = api.get(&format!("{source}/v1/runs/{child}/operations")).expect("it answers").body;
    let op = all["operations"][0]["op"].to_string();

    let paths = document["paths"].as_object().expect("paths");
    assert!(paths.len() > 30, "{}", paths.len());
    for (path, operations) in paths {
        let address = address(path, (&source, &live, &child, &op));
        assert!(!address.contains(['{', '}']), "{address}");
        if operations.get("get").is_some() {
            check_get(&api, &document, path, &address);
        } else {
            // A page's form has a token that this has not.
            let reply = api.post(&address, &json!({})).expect("the service answers");
            assert_eq!(reply.status, 403, "{address}: {}", reply.body);
            let refused = &operations["post"]["responses"]["default"]["content"];
            hold(&document, &refused["application/json"]["schema"], &reply.body, &address);
        }
    }
    let compare = "/s3/{bucket}/{fleet}/{node}@{moment}/compare";
    let two = format!("{source}/compare?a={child}&b_at=latest");
    check_get(&api, &document, compare, &two);
    assert_eq!(vm.shut_down(), 0);
}
