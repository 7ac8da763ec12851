//! `docs/file-format.md` names every event kind, with the class, the columns and the fields that
//! the declaration gives it.

use std::fmt::Write as _;

use serde::de::value::Error;
use serde::de::{Deserializer, Error as _, Visitor};

use super::*;

/// What the declaration says of a kind beside its text and its class.
pub(in crate::event) struct Declared {
    /// The columns that it fills beside `data`.
    pub(in crate::event) columns: Vec<&'static str>,
    /// The fields of `data`; one that may be left out ends in `?`.
    pub(in crate::event) fields: Vec<String>,
}

/// A payload that is all of `data`, with nothing in it that may be left out.
pub(in crate::event) trait Least: DeserializeOwned + Serialize {
    fn least() -> Self;
}

impl Least for NodeStarted {
    fn least() -> NodeStarted {
        NodeStarted { node: None, epoch: None, instance: None, versions: [].into() }
    }
}

impl Least for Box<RunCreated> {
    fn least() -> Box<RunCreated> {
        Box::new(RunCreated {
            workflow: OpName::new("sweep").unwrap(),
            input: Json::null(),
            labels: [].into(),
            seed: Seed::from_random([1; 16]),
            parent: None,
            spawned_by: None,
            outlives_parent: false,
            app_version: String::new(),
            durability: Durability::Local,
            by: None,
            forked: None,
            within_ms: None,
        })
    }
}

impl Least for Box<Signal> {
    fn least() -> Box<Signal> {
        let name = OpName::new("approval").unwrap();
        Box::new(Signal { number: 1, name, value: Json::null(), key: None, by: None })
    }
}

/// The fields of a payload that is all of `data`.
pub(in crate::event) fn whole_fields<T: Least>() -> Vec<String> {
    let mut names: &[&str] = &[];
    assert!(T::deserialize(FieldNames(&mut names)).is_err(), "it is given nothing");
    assert!(!names.is_empty(), "the payload is a struct");
    let least = serde_json::to_value(T::least()).unwrap();
    let mark = |name| if least.get(name).is_some() { "" } else { "?" };
    names.iter().map(|name| format!("{name}{}", mark(name))).collect()
}

/// Notes the names of the fields that a struct asks for, and gives it none.
struct FieldNames<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for FieldNames<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(Error::custom("nothing is there"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Error> {
        *self.0 = fields;
        Err(Error::custom("nothing is there"))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

fn row(cells: [&str; 4]) -> String {
    let cell = |text: &str| if text.is_empty() { " |".to_owned() } else { format!(" {text} |") };
    format!("|{}", cells.map(cell).concat())
}

/// The rows of the document's table of kinds, as the declaration has them.
fn declared_rows() -> String {
    EventKind::ALL.iter().fold(String::new(), |mut rows, kind| {
        let Declared { columns, fields } = kind.declared();
        let class = format!("{:?}", kind.class()).to_lowercase();
        let cells = [&format!("`{kind}`"), &class, &columns.join(", "), &fields.join(", ")];
        writeln!(rows, "{}", row(cells.map(String::as_str))).unwrap();
        rows
    })
}

/// In the order of the declaration, so that the whole table can be taken from a failure's text.
#[test]
fn the_document_has_each_kind_as_it_is_declared() {
    let document = include_str!("../../../../docs/file-format.md");
    let (_, table) =
        document.split_once("| kind | class | columns | fields of `data` |\n").unwrap();
    let rows = table.lines().skip(1).take_while(|line| line.starts_with('|'));
    let documented: String = rows.map(|row| format!("{row}\n")).collect();
    let declared = declared_rows();
    assert_eq!(documented, declared, "the table is\n{declared}");
}
