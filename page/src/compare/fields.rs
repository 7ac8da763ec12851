//! Two JSON values beside each other, field by field. Pure.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Fields that are shown of two values: those that differ first.
const FIELDS_MAX: usize = 40;

/// Characters of a value, and of a path.
const VALUE_CHARS_MAX: usize = 60;
const PATH_CHARS_MAX: usize = 80;

/// Two values, field by field.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Fields {
    /// How many fields differ.
    pub differing: usize,
    /// How many are the same.
    pub same: usize,
    /// How many of all are left out.
    pub left_out: usize,
    /// Those that are shown: the differing ones first.
    pub fields: Vec<Field>,
}

/// A field of two values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Field {
    /// Where it is: `model.layers[2]`; empty for the whole value.
    pub path: String,
    /// Whether the two differ in it.
    pub differs: bool,
    /// The beginning of the first one's JSON; `None` if it has no such field.
    pub a: Option<String>,
    /// The beginning of the second one's JSON; `None` if it has no such field.
    pub b: Option<String>,
}

impl Fields {
    /// Compares two values; `None` is one that is not there.
    pub(super) fn of(a: Option<&Value>, b: Option<&Value>) -> Fields {
        let mut found = Found::default();
        if a.is_some() || b.is_some() {
            found.walk(&mut String::new(), a, b);
        }
        let Found { differing, same, mut fields, same_fields } = found;
        fields.extend(same_fields);
        fields.truncate(FIELDS_MAX);
        Fields { differing, same, left_out: differing + same - fields.len(), fields }
    }
}

#[derive(Default)]
struct Found {
    differing: usize,
    same: usize,
    fields: Vec<Field>,
    same_fields: Vec<Field>,
}

impl Found {
    /// Goes down where both have fields, which is as deep as JSON may be.
    fn walk(&mut self, path: &mut String, a: Option<&Value>, b: Option<&Value>) {
        let length = path.len();
        match (a, b) {
            (Some(Value::Object(a)), Some(Value::Object(b))) if !(a.is_empty() && b.is_empty()) => {
                let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
                for name in names {
                    if length > 0 {
                        path.push('.');
                    }
                    path.push_str(name);
                    self.walk(path, a.get(name), b.get(name));
                    path.truncate(length);
                }
            }
            (Some(Value::Array(a)), Some(Value::Array(b))) if !(a.is_empty() && b.is_empty()) => {
                for at in 0..a.len().max(b.len()) {
                    path.push_str(&format!("[{at}]"));
                    self.walk(path, a.get(at), b.get(at));
                    path.truncate(length);
                }
            }
            (a, b) => self.leaf(path, a, b),
        }
    }

    fn leaf(&mut self, path: &str, a: Option<&Value>, b: Option<&Value>) {
        let differs = a != b;
        let (count, into) = match differs {
            true => (&mut self.differing, &mut self.fields),
            false => (&mut self.same, &mut self.same_fields),
        };
        *count += 1;
        if into.len() < FIELDS_MAX {
            let shown = |value: Option<&Value>| {
                value.map(|value| beginning(&value.to_string(), VALUE_CHARS_MAX))
            };
            let (a, b) = (shown(a), shown(b));
            into.push(Field { path: beginning(path, PATH_CHARS_MAX), differs, a, b });
        }
    }
}

/// The beginning of a text; `…` stands for the rest.
pub(super) fn beginning(text: &str, chars: usize) -> String {
    match text.char_indices().nth(chars) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn shown(fields: &Fields) -> Vec<String> {
        let text = |field: &Field| {
            let side = |side: &Option<String>| side.clone().unwrap_or_else(|| "-".to_owned());
            let mark = if field.differs { "≠" } else { "=" };
            format!("{} {} {mark} {}", field.path, side(&field.a), side(&field.b))
        };
        fields.fields.iter().map(text).collect()
    }

    #[test]
    fn fields_that_differ_come_first() {
        let a = json!({"rate": 0.1, "model": {"layers": [1, 2], "name": "x"}, "gone": {}});
        let b = json!({"rate": 0.1, "model": {"layers": [1, 3, 4], "name": "x"}, "new": null});
        let fields = Fields::of(Some(&a), Some(&b));
        assert_eq!(
            shown(&fields),
            [
                "gone {} ≠ -",
                "model.layers[1] 2 ≠ 3",
                "model.layers[2] - ≠ 4",
                "new - ≠ null",
                "model.layers[0] 1 = 1",
                "model.name \"x\" = \"x\"",
                "rate 0.1 = 0.1"
            ]
        );
        assert_eq!((fields.differing, fields.same, fields.left_out), (4, 3, 0));
        assert_eq!(shown(&Fields::of(Some(&json!(1)), Some(&json!([1])))), [" 1 ≠ [1]"]);
        assert_eq!(Fields::of(None, None), Fields::default());
    }

    #[test]
    fn large_values_are_bounded() {
        let large = |by: usize| json!((0..100_000).map(|n| n + by).collect::<Vec<_>>());
        let fields = Fields::of(Some(&large(0)), Some(&large(1)));
        assert_eq!((fields.differing, fields.fields.len()), (100_000, FIELDS_MAX));
        assert_eq!(fields.left_out, 100_000 - FIELDS_MAX);
        let text = "é".repeat(1_000);
        let fields = Fields::of(Some(&json!({text.clone(): text})), None);
        assert!(fields.fields[0].a.as_ref().unwrap().chars().count() <= VALUE_CHARS_MAX + 1);
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (0..3).prop_map(Value::from),
            "[ab]{0,2}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[abc]", inner, 0..4).prop_map(|fields| fields
                    .into_iter()
                    .collect::<serde_json::Map<_, _>>()
                    .into()),
            ]
        })
    }

    proptest! {
        #[test]
        fn values_differ_in_a_field_or_are_the_same(a in any_value(), b in any_value()) {
            let fields = Fields::of(Some(&a), Some(&b));
            prop_assert_eq!(fields.differing == 0, a == b);
            prop_assert_eq!(fields.differing + fields.same, fields.fields.len() + fields.left_out);
            let turned = Fields::of(Some(&b), Some(&a));
            prop_assert_eq!((turned.differing, turned.same), (fields.differing, fields.same));
            prop_assert!(fields.fields.is_sorted_by_key(|field| !field.differs));
        }
    }
}
