//! The fields of a form, from a JSON schema. What the schema says beyond them is checked by the code
//! that takes the answer. Pure.

use serde::Deserialize;
use serde_json::{Map, Value};
use tidemill_model::Json;

/// Fields of an object; a larger one is asked for as JSON.
const FIELDS_MAX: usize = 60;

/// Choices that are offered; more are asked for as text.
const CHOICES_MAX: usize = 200;

/// How many references are followed.
const DEPTH_MAX: usize = 8;

/// A longer text is written in more than one line.
const LINE_CHARS_MAX: u64 = 200;

/// What a schema asks for.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Shape {
    /// One value.
    One(Field),
    /// An object with these properties.
    Object(Vec<Field>),
}

/// A field of a form.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Field {
    /// The property; empty of a single value.
    pub(super) property: String,
    /// What it is called.
    pub(super) label: String,
    /// What it means.
    pub(super) hint: Option<String>,
    /// Whether it cannot be left out.
    pub(super) required: bool,
    pub(super) kind: Kind,
    /// What it holds before anybody types.
    pub(super) initial: Option<String>,
}

/// What a field takes.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    Text {
        chars_max: Option<u64>,
        lines: bool,
    },
    Date,
    /// Each with its words.
    Choice(Vec<(Value, String)>),
    Integer(Range),
    Number(Range),
    Bool,
    /// Whatever is no more special.
    Json,
}

/// The smallest and the largest number.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Range {
    pub(super) min: Option<f64>,
    pub(super) max: Option<f64>,
}

impl Field {
    /// A field that no schema describes.
    pub(super) fn plain(label: &str, kind: Kind) -> Field {
        let (property, label) = (String::new(), label.to_owned());
        Field { property, label, hint: None, required: false, kind, initial: None }
    }
}

impl Shape {
    /// Reads a schema.
    pub(super) fn of(schema: &Json) -> Shape {
        let Ok(root) = schema.decode::<Value>() else {
            return Shape::One(Field::plain("Answer", Kind::Json));
        };
        let whole = Resolved::of(&root, &root);
        if let Some(fields) = whole.fields(&root, &order(schema)) {
            return Shape::Object(fields);
        }
        Shape::One(whole.field("", "Answer", !whole.nullable))
    }

    /// Its fields.
    pub(super) fn fields(&self) -> &[Field] {
        match self {
            Shape::One(field) => std::slice::from_ref(field),
            Shape::Object(fields) => fields,
        }
    }
}

/// The properties in the order in which the schema writes them.
fn order(schema: &Json) -> Vec<String> {
    #[derive(Deserialize)]
    struct Root {
        properties: Names,
    }
    schema.decode::<Root>().map(|root| root.properties.0).unwrap_or_default()
}

/// The names of an object, in order.
struct Names(Vec<String>);

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Names, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Names;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut map: A,
            ) -> Result<Names, A::Error> {
                let mut names: Vec<String> = Vec::new();
                while let Some((name, _)) = map.next_entry::<String, serde::de::IgnoredAny>()? {
                    if !names.contains(&name) && names.len() <= FIELDS_MAX {
                        names.push(name);
                    }
                }
                Ok(Names(names))
            }
        }
        from.deserialize_map(Visitor)
    }
}

/// A schema with what it refers to: the first layer that says something counts.
struct Resolved<'a> {
    layers: Vec<&'a Map<String, Value>>,
    nullable: bool,
}

impl<'a> Resolved<'a> {
    fn of(root: &'a Value, schema: &'a Value) -> Resolved<'a> {
        let (mut layers, mut nullable, mut next) = (Vec::new(), false, Some(schema));
        while let Some(layer) = next.and_then(Value::as_object).filter(|_| layers.len() < DEPTH_MAX)
        {
            layers.push(layer);
            next = match layer.get("$ref").and_then(Value::as_str) {
                Some(reference) => reference.strip_prefix('#').and_then(|at| root.pointer(at)),
                None => only_one(layer, &mut nullable),
            };
        }
        let mut found = Resolved { layers, nullable };
        if let Some(types) = found.get("type").and_then(Value::as_array) {
            found.nullable |= types.iter().any(|word| word == "null");
        }
        found
    }

    fn get(&self, word: &str) -> Option<&'a Value> {
        self.layers.iter().find_map(|layer| layer.get(word))
    }

    fn text(&self, word: &str) -> Option<&'a str> {
        self.get(word).and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty())
    }

    /// Its type, besides that it may be null.
    fn word(&self) -> Option<&'a str> {
        match self.get("type")? {
            Value::String(word) => Some(word),
            Value::Array(words) => {
                let mut words = words.iter().filter_map(Value::as_str).filter(|it| *it != "null");
                words.next().filter(|_| words.next().is_none())
            }
            _ => None,
        }
    }

    /// The fields of an object whose properties are all named.
    fn fields(&self, root: &'a Value, order: &[String]) -> Option<Vec<Field>> {
        let is_object = self.word().is_none_or(|word| word == "object") && !self.nullable;
        let properties = self.get("properties").and_then(Value::as_object);
        let properties = properties.filter(|all| is_object && !all.is_empty())?;
        let required = self.get("required").and_then(Value::as_array);
        let required: Vec<&str> =
            required.into_iter().flatten().filter_map(Value::as_str).collect();
        // What has no field could not be filled in.
        if properties.len() > FIELDS_MAX || required.iter().any(|it| !properties.contains_key(*it))
        {
            return None;
        }
        let place = |name: &String| order.iter().position(|it| it == name).unwrap_or(usize::MAX);
        let mut names: Vec<&String> = properties.keys().collect();
        names.sort_by_key(|name| place(name));
        let field = |name: &String| {
            let property = Resolved::of(root, &properties[name]);
            property.field(name, name, required.contains(&name.as_str()))
        };
        Some(names.into_iter().map(field).collect())
    }

    fn field(&self, property: &str, name: &str, required: bool) -> Field {
        let (kind, required) = (self.kind(), required && !self.nullable);
        let initial = self.get("default").and_then(|value| initial(&kind, value));
        Field {
            property: property.to_owned(),
            label: self.text("title").unwrap_or(name).to_owned(),
            hint: self.text("description").map(str::to_owned),
            required,
            kind,
            initial,
        }
    }

    fn kind(&self) -> Kind {
        if let Some(choices) = self.choices() {
            return Kind::Choice(choices);
        }
        let number = |word: &str| self.get(word).and_then(Value::as_f64);
        let range = Range { min: number("minimum"), max: number("maximum") };
        match (self.word(), self.text("format")) {
            (Some("string"), Some("date")) => Kind::Date,
            (Some("string"), _) => {
                let chars_max = self.get("maxLength").and_then(Value::as_u64);
                let lines = chars_max.is_none_or(|max| max > LINE_CHARS_MAX);
                Kind::Text { chars_max, lines }
            }
            (Some("integer"), _) => Kind::Integer(range),
            (Some("number"), _) => Kind::Number(range),
            (Some("boolean"), _) => Kind::Bool,
            _ => Kind::Json,
        }
    }

    /// The values that it can have, each with its words; `None` if it names none, or too many.
    fn choices(&self) -> Option<Vec<(Value, String)>> {
        let ways = self.get("oneOf").or_else(|| self.get("anyOf")).and_then(Value::as_array);
        let mut choices = Vec::new();
        match (self.get("enum"), self.get("const"), ways) {
            (Some(_), ..) | (_, Some(_), _) => {
                choices.extend(named(|word| self.get(word))?);
            }
            (.., Some(ways)) => {
                for way in ways {
                    choices.extend(named(|word| way.get(word))?);
                }
            }
            _ => return None,
        }
        choices.retain(|(value, _)| !value.is_null() || !self.nullable);
        let fits = !choices.is_empty() && choices.len() <= CHOICES_MAX;
        Some(choices).filter(|_| fits)
    }
}

/// The only schema that a value can have besides null.
fn only_one<'a>(layer: &'a Map<String, Value>, nullable: &mut bool) -> Option<&'a Value> {
    if let Some([only]) = layer.get("allOf").and_then(Value::as_array).map(Vec::as_slice) {
        return Some(only);
    }
    let ways = layer.get("anyOf").or_else(|| layer.get("oneOf"))?.as_array()?;
    let is_null = |way: &&Value| way.get("type").is_some_and(|word| word == "null");
    let mut others = ways.iter().filter(|way| !is_null(way));
    let only = others.next().filter(|_| others.next().is_none())?;
    *nullable |= ways.iter().any(|way| is_null(&way));
    Some(only)
}

/// The scalar values that a schema names by `const` or `enum`.
fn named<'a>(get: impl Fn(&str) -> Option<&'a Value>) -> Option<Vec<(Value, String)>> {
    let values = match get("const") {
        Some(value) => vec![value],
        None => get("enum")?.as_array()?.iter().collect(),
    };
    let title = get("title").and_then(Value::as_str).filter(|_| values.len() == 1);
    let choice = |value: &Value| {
        let words = match value {
            Value::String(text) => text.clone(),
            Value::Array(_) | Value::Object(_) => return None,
            other => other.to_string(),
        };
        Some((value.clone(), title.map_or(words, str::to_owned)))
    };
    values.into_iter().map(choice).collect()
}

/// How a field holds a value before anybody types.
fn initial(kind: &Kind, value: &Value) -> Option<String> {
    Some(match (kind, value) {
        (_, Value::Null) => return None,
        (Kind::Text { .. } | Kind::Date, Value::String(text)) => text.clone(),
        (Kind::Text { .. } | Kind::Date, _) => return None,
        (_, value) => value.to_string(),
    })
}
