//! What the OpenAPI documents of a node and of an observer have in common. Only the tests that make
//! them and hold their files to them use it, with the feature `schema`: no program carries it.

use std::path::Path;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::ApiErrorView;

/// One answer of a request: its status, what it means, and what it carries.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// What it means.
    pub what: &'static str,
    /// What it carries, by its media type.
    pub content: Value,
}

/// The schemas that a document refers to.
#[derive(Debug)]
pub struct Schemas(SchemaGenerator);

impl Schemas {
    /// None yet.
    #[expect(clippy::new_without_default, reason = "an empty document is no default of anything")]
    pub fn new() -> Schemas {
        let settings = SchemaSettings::draft2020_12().for_serialize().with(|settings| {
            settings.definitions_path = "/components/schemas".into();
        });
        Schemas(settings.into_generator())
    }

    /// What refers to the schema of a type, which is added.
    pub fn of<T: JsonSchema>(&mut self) -> Value {
        self.0.subschema_for::<T>().to_value()
    }

    /// An answer that is JSON of a type.
    pub fn json<T: JsonSchema>(&mut self, status: u16, what: &'static str) -> Answer {
        let content = json!({ "application/json": { "schema": self.of::<T>() } });
        Answer { status, what, content }
    }

    /// The `responses` of an operation: these, and what a refusal is.
    pub fn responses(&mut self, answers: Vec<Answer>) -> Value {
        let mut responses = Map::new();
        for Answer { status, what, content } in answers {
            responses
                .insert(status.to_string(), json!({ "description": what, "content": content }));
        }
        let error = json!({ "application/json": { "schema": self.of::<ApiErrorView>() } });
        let refused = json!({ "description": "the request is refused", "content": error });
        responses.insert("default".to_owned(), refused);
        responses.into()
    }

    /// All of them, by their names, and these of request bodies.
    ///
    /// # Panics
    /// If two types have one name: rename one with `schemars(rename = …)`.
    pub fn finish(mut self, bodies: Vec<(&str, Value)>) -> Map<String, Value> {
        let mut schemas = self.0.take_definitions(true);
        schemas.extend(bodies.into_iter().map(|(name, schema)| (name.to_owned(), schema)));
        for name in schemas.keys() {
            let plain = name.trim_end_matches(|c: char| c.is_ascii_digit());
            let is_second = plain != name && schemas.contains_key(plain);
            assert!(!is_second, "two types are called {plain}");
        }
        schemas.values_mut().for_each(without_rust);
        schemas
    }
}

/// What an answer carries that is a text of this media type.
pub fn text(media_type: &str) -> Value {
    json!({ media_type: { "schema": { "type": "string" } } })
}

/// What an answer carries that is a file of this media type.
pub fn file(media_type: &str) -> Value {
    json!({ media_type: { "schema": { "type": "string", "format": "binary" } } })
}

/// The schema of what a request carries.
///
/// # Panics
/// If the type's schema is no object, which a request's body is.
pub fn body<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().for_deserialize().with(|settings| {
        settings.inline_subschemas = true;
    });
    let mut body = settings.into_generator().into_root_schema_for::<T>().to_value();
    let fields = body.as_object_mut().expect("a body is an object");
    fields.retain(|name, _| name != "$schema" && name != "title");
    body
}

/// The parameters in a path, `{name}` each; `schema` says what each is.
pub fn in_path(path: &str, schema: impl Fn(&str) -> Value) -> Vec<Value> {
    let names = path.split('{').skip(1).filter_map(|rest| rest.split_once('}'));
    let parameter =
        |name| json!({ "name": name, "in": "path", "required": true, "schema": schema(name) });
    names.map(|(name, _)| parameter(name)).collect()
}

/// A parameter of a query.
pub fn in_query(name: &str, what: &str, schema: &Value) -> Value {
    json!({ "name": name, "in": "query", "description": what, "schema": schema })
}

/// The whole document. Its requests may carry a bearer token.
pub fn document(
    info: &Value,
    server: &str,
    paths: &Map<String, Value>,
    schemas: &Map<String, Value>,
) -> Value {
    json!({
        "openapi": "3.1.0",
        "info": info,
        "servers": [{ "url": server }],
        "security": [{}, { "token": [] }],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
        },
    })
}

/// Holds a file to the document that the code makes. With `UPDATE_OPENAPI` set it writes the file:
/// its diff shows what callers will see.
///
/// # Panics
/// If the file is another one, or cannot be read or written.
pub fn hold(file: &Path, made: &Value) {
    let made = serde_json::to_string_pretty(made).expect("a document has a text") + "\n";
    if std::env::var_os("UPDATE_OPENAPI").is_some() {
        std::fs::write(file, &made).expect("write the document");
    }
    let golden = std::fs::read_to_string(file).expect("read the document");
    let name = file.display();
    assert!(golden == made, "{name} is stale: write it with UPDATE_OPENAPI=1, read its diff");
}

/// The schema that a document has under this name, with the document around it, which takes no
/// field that it does not name.
///
/// # Panics
/// If the document has no schemas.
pub fn strict(mut document: Value, name: &str) -> Value {
    let schemas = document["components"]["schemas"].as_object_mut().expect("it has schemas");
    for schema in schemas.values_mut().filter(|schema| schema.get("properties").is_some()) {
        schema["unevaluatedProperties"] = json!(false);
    }
    document["$ref"] = format!("#/components/schemas/{name}").into();
    document
}

/// Descriptions come from the comments of Rust types; a reader of JSON knows no `None`, and sees the
/// form of the JSON in the schema itself.
fn without_rust(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if let Some(Value::String(text)) = fields.get_mut("description") {
                let prose = text.split(" As JSON:").next().unwrap_or_default();
                *text =
                    prose.replace("`None`", "absent or null").replace("[`", "`").replace("`]", "`");
            }
            fields.values_mut().for_each(without_rust);
        }
        Value::Array(items) => items.iter_mut().for_each(without_rust),
        _ => {}
    }
}
