//! Forms that are made of schemas, and read back.

use proptest::prelude::*;
use serde_json::{Map, Value, json};
use tidemill_model::{Json, PromiseView};

use super::{AnswerForm, PromiseShown, acting, posted, view};

/// The value that a form with this schema gives.
fn value(schema: &Value, pairs: &[(&str, &str)]) -> Result<Value, String> {
    let form = AnswerForm::of(&view(Some(schema), None));
    let value = form.value(&posted(pairs)).map_err(|problems| problems.join("; "))?;
    Ok(value.decode().unwrap())
}

#[test]
fn a_schema_is_fields_and_fields_are_a_value() {
    let schema = json!({
        "type": "object",
        "properties": {
            "zone": { "type": "string", "title": "Zone", "maxLength": 3, "description": "where" },
            "amount": { "type": "integer", "minimum": 1, "maximum": 10 },
            "rate": { "type": ["number", "null"] },
            "colour": { "enum": ["red", 1, "1"] },
            "sure": { "type": "boolean" },
            "day": { "type": "string", "format": "date" },
            "size": { "$ref": "#/$defs/Size" },
            "more": { "type": "array" },
        },
        "required": ["zone", "amount", "sure", "rate"],
        "$defs": { "Size": { "oneOf": [
            { "const": "S", "title": "Small" }, { "const": "L", "title": "Large" }] } },
    });
    let promise = PromiseShown { promise: view(Some(&schema), None), values: Vec::new() };
    let page = promise.html(&acting()).into_string();
    for part in [
        "name=\"value.zone\" maxlength=\"3\" required",
        "inputmode=\"numeric\" step=\"1\" min=\"1\" max=\"10\" name=\"value.amount\"",
        "type=\"date\" name=\"value.day\"",
        "<option value=\"&quot;S&quot;\">Small</option>",
        "<textarea class=\"code\" name=\"value.more\"",
        "where",
    ] {
        assert!(page.contains(part), "no {part} in {page}");
    }
    let full = [
        ("value.zone", "a\u{e9}b"),
        ("value.amount", " 7 "),
        ("value.rate", "1.5"),
        ("value.colour", "\"1\""),
        ("value.sure", "true"),
        ("value.day", "2026-11-20"),
        ("value.size", "\"L\""),
        ("value.more", "[1]"),
    ];
    let read = json!({ "zone": "aéb", "amount": 7, "rate": 1.5, "colour": "1", "sure": true,
        "day": "2026-11-20", "size": "L", "more": [1] });
    assert_eq!(value(&schema, &full).unwrap(), read);
    let least = [("value.zone", "x"), ("value.amount", "1"), ("value.sure", "false")];
    let read = json!({ "zone": "x", "amount": 1, "sure": false });
    assert_eq!(value(&schema, &least).unwrap(), read, "a rate may be left out");
    let wrong = [
        ("value.zone", "long"),
        ("value.amount", "11"),
        ("value.rate", "x"),
        ("value.colour", "blue"),
        ("value.day", "2026-02-30"),
        ("value.more", "{"),
    ];
    let error = value(&schema, &wrong).unwrap_err();
    for part in [
        "Zone: it has 4 characters, of at most 3",
        "amount: use at most 10",
        "rate: use a number",
        "colour: choose one of those",
        "sure: fill it in",
        "day: use a date",
        "more: this is not JSON",
    ] {
        assert!(error.contains(part), "no `{part}` in {error}");
    }
}

#[test]
fn fields_come_in_the_order_of_the_schema() {
    let text = r#"{"properties": {"z": {"type": "string"}, "a": {"type": "string"}}}"#;
    let promise = PromiseView { schema: Some(Json::parse(text).unwrap()), ..view(None, None) };
    let page = AnswerForm::of(&promise).html(None).into_string();
    assert!(page.find("value.z").unwrap() < page.find("value.a").unwrap(), "{page}");
}

#[test]
fn a_single_value_is_one_field_and_what_no_field_has_is_json() {
    assert_eq!(value(&json!({ "type": "integer" }), &[("value", "-3")]), Ok(json!(-3)));
    assert_eq!(value(&json!({ "enum": ["a", "b"] }), &[("value", "\"b\"")]), Ok(json!("b")));
    let optional = json!({ "anyOf": [{ "type": "string" }, { "type": "null" }] });
    assert_eq!(value(&optional, &[]), Ok(Value::Null));
    assert!(value(&json!({ "type": "string" }), &[]).unwrap_err().contains("fill it in"));
    for schema in [json!(true), json!({}), json!({ "type": "array" }), json!([1])] {
        assert_eq!(value(&schema, &[("value", "[1]")]), Ok(json!([1])), "{schema}");
    }
    // A property that has no field could not be filled in, so the whole is JSON.
    let schema = json!({ "properties": { "a": { "type": "string" } }, "required": ["b"] });
    assert_eq!(value(&schema, &[("value", "{\"b\": 1}")]), Ok(json!({ "b": 1 })));
    let around = json!({ "$ref": "#" });
    assert_eq!(value(&around, &[("value", "1")]), Ok(json!(1)), "it ends");
}

/// A schema of an object and a value that fits it, with what a browser would send.
fn filled() -> impl Strategy<Value = (Value, Value, Vec<(String, String)>)> {
    let field = prop_oneof![
        "\\PC{1,12}".prop_map(|text| (json!({ "type": "string" }), json!(text), text)),
        any::<i64>().prop_map(|n| (json!({ "type": "integer" }), json!(n), n.to_string())),
        (-1e9_f64..1e9).prop_map(|n| (json!({ "type": "number" }), json!(n), json!(n).to_string())),
        any::<bool>().prop_map(|it| (json!({ "type": "boolean" }), json!(it), it.to_string())),
        ("\\PC{0,8}", "\\PC{0,8}").prop_map(|(one, other)| {
            (json!({ "enum": [one, other] }), json!(other), json!(other).to_string())
        }),
        (0_u32..28).prop_map(|day| {
            let date = format!("2026-02-{:02}", day + 1);
            (json!({ "type": "string", "format": "date" }), json!(date), date)
        }),
        proptest::collection::vec(any::<i32>(), 0..3).prop_map(|all| (
            json!({ "type": "array" }),
            json!(all),
            json!(all).to_string()
        )),
    ];
    proptest::collection::btree_map("\\PC{1,6}", (field, any::<bool>()), 1..6).prop_map(|fields| {
        let (mut properties, mut value, mut sent) = (Map::new(), Map::new(), Vec::new());
        let mut required = Vec::new();
        for (name, ((schema, read, text), needed)) in fields {
            properties.insert(name.clone(), schema);
            value.insert(name.clone(), read);
            sent.push((format!("value.{name}"), text));
            if needed {
                required.push(name);
            }
        }
        let schema = json!({ "type": "object", "properties": properties, "required": required });
        (schema, Value::Object(value), sent)
    })
}

/// The names of the fields of a page, as the browser takes them from it.
fn names_in(page: &str) -> Vec<String> {
    let names = page.split(" name=\"").skip(1).filter_map(|rest| rest.split('"').next());
    let plain = |name: &str| {
        let name = name.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"");
        name.replace("&amp;", "&")
    };
    names.map(plain).collect()
}

proptest! {
    #[test]
    fn what_is_typed_into_a_form_is_the_value_that_its_schema_means((schema, expected, sent) in filled()) {
        let form = AnswerForm::of(&view(Some(&schema), None));
        let mut names = names_in(&form.html(None).into_string());
        let mut wanted: Vec<String> = sent.iter().map(|(name, _)| name.clone()).collect();
        names.sort();
        wanted.sort();
        prop_assert_eq!(names, wanted);
        let pairs: Vec<(&str, &str)> = sent.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let typed = posted(&pairs);
        let read = form.value(&typed).unwrap().decode::<Value>().unwrap();
        prop_assert_eq!(&read, &expected);
        // A form that is shown again holds what was typed, so sending it again gives the same.
        let again = form.html(Some(&typed)).into_string();
        prop_assert!(!again.contains("aria-invalid"), "{}", again);
    }

    #[test]
    fn any_schema_and_any_form_end_without_a_panic(schema in any_json(), text in "\\PC{0,20}") {
        let form = AnswerForm::of(&view(Some(&schema), None));
        let page = form.html(None).into_string();
        for name in names_in(&page) {
            let _read = form.value(&posted(&[(&name, &text)]));
        }
    }
}

/// JSON with the words of schemas in it.
fn any_json() -> impl Strategy<Value = Value> {
    let words = prop_oneof![
        Just("type"),
        Just("properties"),
        Just("enum"),
        Just("oneOf"),
        Just("anyOf"),
        Just("allOf"),
        Just("$ref"),
        Just("const"),
        Just("required"),
        Just("default"),
        Just("title"),
        Just("format"),
    ];
    let leaf = prop_oneof![
        Just(json!("string")),
        Just(json!("object")),
        Just(json!("#")),
        Just(json!("#/properties")),
        Just(json!(null)),
        Just(json!("date")),
        any::<i64>().prop_map(|n| json!(n)),
        any::<bool>().prop_map(|it| json!(it)),
    ];
    leaf.prop_recursive(4, 32, 4, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            proptest::collection::btree_map(words.clone().prop_map(str::to_owned), inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}
