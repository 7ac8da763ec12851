//! The numbers in the checkpoints of a run's steps, as the log has them.
//!
//! A checkpoint is any JSON. Its numbers are found by their path, such as `val.loss`; text, arrays
//! and what lies deeper than [`DEPTH_MAX`] are passed over. Everything is read once, and what is
//! kept of it is bounded.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use rusqlite::Connection;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use tidemill_eventlog::{Result, sqlite, to_sql};
use tidemill_model::{RunId, Seq};

/// How deep a number may lie in a checkpoint: `a.b.c.d`.
const DEPTH_MAX: u32 = 4;

/// Paths that are told apart: what has more of them is no set of metrics.
const PATHS_MAX: usize = 200;

/// A longer path is no name of a metric, and would fill the page.
const PATH_BYTES_MAX: usize = 120;

/// Numbers that are kept, 16 bytes each: ten times what the largest known runs record.
const VALUES_MAX: usize = 3_000_000;

/// Checkpoints that are looked at for one page: some seconds at worst.
const CHECKPOINTS_MAX: u64 = 1_000_000;

/// The numbers of one run, or of several that are read one after another.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    /// The paths, in the order in which they first appear; a number's path is an index of this.
    pub(crate) paths: Vec<String>,
    /// How many checkpoints were looked at.
    pub(crate) checkpoints: u64,
    /// How many of them could not be read.
    pub(crate) unreadable: u64,
    /// Whether paths were left out, because there are too many or they are too long.
    pub(crate) paths_left_out: bool,
    /// Whether checkpoints were left out, because there are too many.
    pub(crate) cut: bool,
    ids: HashMap<String, usize>,
    values: usize,
}

/// The numbers of one step.
#[derive(Debug, PartialEq)]
pub(crate) struct OpNumbers {
    /// The operation.
    pub(crate) op: u32,
    /// Its name.
    pub(crate) name: String,
    /// At which checkpoint each attempt begins: its index, and the attempt's number.
    pub(crate) attempts: Vec<(u32, u32)>,
    /// How many checkpoints it has.
    pub(crate) checkpoints: u32,
    /// The numbers by path: the index of the checkpoint, and the value.
    pub(crate) values: BTreeMap<usize, Vec<(u32, f64)>>,
}

impl Numbers {
    /// Reads the checkpoints of a run in log order, up to an event: its steps in the order of their
    /// first checkpoint.
    ///
    /// # Errors
    /// What SQLite says.
    pub(crate) fn read(
        &mut self,
        connection: &Connection,
        run: &RunId,
        until: Option<Seq>,
        only: Option<u32>,
    ) -> Result<Vec<OpNumbers>> {
        let failed = |e| sqlite(format_args!("read the checkpoints of {run}"), e);
        // The index has the events of the run in log order.
        let sql = "SELECT op, name, data FROM events \
                   WHERE run = ?1 AND seq <= ?2 AND kind = 'checkpoint' ORDER BY seq";
        let mut statement = connection.prepare_cached(sql).map_err(failed)?;
        let until = until.map_or(i64::MAX, to_sql);
        let mut rows = statement.query((run.as_str(), until)).map_err(failed)?;
        let (mut ops, mut places) = (Vec::new(), HashMap::new());
        let (mut path, mut found) = (String::new(), Vec::new());
        while let Some(row) = rows.next().map_err(failed)? {
            let Ok(Some(op)) = row.get::<_, Option<u32>>(0) else { continue };
            if only.is_some_and(|only| only != op) {
                continue;
            }
            if self.checkpoints >= CHECKPOINTS_MAX || self.values >= VALUES_MAX {
                self.cut = true;
                break;
            }
            self.checkpoints += 1;
            let data = row.get_ref(2).map_err(failed)?.as_str().unwrap_or_default();
            found.clear();
            path.clear();
            let Some(attempt) = self.parse(data, &mut path, &mut found) else {
                self.unreadable += 1;
                continue;
            };
            let place = *places.entry(op).or_insert_with(|| {
                let name = row.get_ref(1).ok().and_then(|name| name.as_str().ok());
                ops.push(OpNumbers::new(op, name.unwrap_or_default()));
                ops.len() - 1
            });
            self.values += found.len();
            if let Some(op) = ops.get_mut(place) {
                op.add(attempt, &found);
            }
        }
        Ok(ops)
    }

    /// The attempt of a checkpoint; its numbers are put to those found.
    fn parse(
        &mut self,
        data: &str,
        path: &mut String,
        found: &mut Vec<(usize, f64)>,
    ) -> Option<u32> {
        let data: Data<'_> = serde_json::from_str(data).ok()?;
        Leaves { numbers: self, path, found, depth: 0 }.value(data.value);
        Some(data.attempt)
    }

    fn id(&mut self, path: &str) -> Option<usize> {
        if let Some(id) = self.ids.get(path) {
            return Some(*id);
        }
        if self.paths.len() >= PATHS_MAX || path.len() > PATH_BYTES_MAX {
            self.paths_left_out = true;
            return None;
        }
        let id = self.paths.len();
        self.paths.push(path.to_owned());
        self.ids.insert(path.to_owned(), id);
        Some(id)
    }
}

impl OpNumbers {
    fn new(op: u32, name: &str) -> OpNumbers {
        let (attempts, values) = (Vec::new(), BTreeMap::new());
        OpNumbers { op, name: name.to_owned(), attempts, checkpoints: 0, values }
    }

    fn add(&mut self, attempt: u32, found: &[(usize, f64)]) {
        if self.attempts.last().is_none_or(|last| last.1 != attempt) {
            self.attempts.push((self.checkpoints, attempt));
        }
        for (path, value) in found {
            let values = self.values.entry(*path).or_default();
            match values.last_mut() {
                // A path that a checkpoint has twice, `a.b` and `a: b`, is one number.
                Some(last) if last.0 == self.checkpoints => last.1 = *value,
                Some(_) | None => values.push((self.checkpoints, *value)),
            }
        }
        self.checkpoints = self.checkpoints.saturating_add(1);
    }
}

/// What a checkpoint's event carries.
#[derive(Deserialize)]
struct Data<'a> {
    attempt: u32,
    #[serde(borrow)]
    value: &'a RawValue,
}

/// Puts the numbers of a value to those found.
struct Leaves<'a> {
    numbers: &'a mut Numbers,
    path: &'a mut String,
    found: &'a mut Vec<(usize, f64)>,
    depth: u32,
}

impl Leaves<'_> {
    /// Takes a value whose path is `path`. Numbers are taken from their text, which is several
    /// times faster than to have them read with all else.
    fn value(&mut self, value: &RawValue) {
        let text = value.get();
        match text.bytes().next() {
            Some(b'-' | b'0'..=b'9') => {
                // A number that no float can be is infinite.
                if let Some(number) = text.parse().ok().filter(|number: &f64| number.is_finite()) {
                    self.number(number);
                }
            }
            Some(b'{') if self.depth < DEPTH_MAX => {
                let (path, found, depth) = (&mut *self.path, &mut *self.found, self.depth + 1);
                let within = Leaves { numbers: &mut *self.numbers, path, found, depth };
                // It was read as JSON before, as a part of what it is in.
                let _ = serde_json::Deserializer::from_str(text).deserialize_map(within);
            }
            Some(_) | None => {}
        }
    }

    fn number(&mut self, value: f64) {
        // A checkpoint that is a number has no name for it.
        let path = if self.path.is_empty() { "value" } else { self.path.as_str() };
        if let Some(id) = self.numbers.id(path) {
            self.found.push((id, value));
        }
    }
}

impl<'de> Visitor<'de> for Leaves<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> std::result::Result<(), A::Error> {
        let length = self.path.len();
        while map.next_key_seed(Segment(self.path))?.is_some() {
            let value: &RawValue = map.next_value()?;
            self.value(value);
            self.path.truncate(length);
        }
        Ok(())
    }
}

/// Puts a field's name at the end of a path, without a copy of its own.
struct Segment<'a>(&'a mut String);

impl<'de> DeserializeSeed<'de> for Segment<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> std::result::Result<(), D::Error> {
        from.deserialize_str(self)
    }
}

impl Visitor<'_> for Segment<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field's name")
    }

    fn visit_str<E>(self, name: &str) -> std::result::Result<(), E> {
        if !self.0.is_empty() {
            self.0.push('.');
        }
        self.0.push_str(name);
        Ok(())
    }
}

/// The nearest `f64` of a whole number.
pub(crate) fn float(value: u64) -> f64 {
    let low = u32::try_from(value & u64::from(u32::MAX)).unwrap_or(u32::MAX);
    let high = u32::try_from(value >> 32).unwrap_or(u32::MAX);
    f64::from(high) * 4_294_967_296.0 + f64::from(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(value: &str) -> Vec<(String, f64)> {
        let (mut numbers, mut path, mut found) = (Numbers::default(), String::new(), Vec::new());
        let data = format!(r#"{{"attempt":3,"new":[1],"value":{value}}}"#);
        assert_eq!(numbers.parse(&data, &mut path, &mut found), Some(3), "{value}");
        found.iter().map(|(id, value)| (numbers.paths[*id].clone(), *value)).collect()
    }

    #[test]
    fn numbers_are_found_by_their_path() {
        let found = parsed(
            r#"{"loss":0.5,"val":{"loss":1,"name":"x","deep":{"er":{"n":-2,"too":{"deep":3}}}},
                "array":[1,{"in":2}],"flag":true,"none":null}"#,
        );
        let expected = [("loss", 0.5), ("val.loss", 1.0), ("val.deep.er.n", -2.0)];
        assert_eq!(found, expected.map(|(path, value)| (path.to_owned(), value)));
        assert_eq!(parsed("7"), [("value".to_owned(), 7.0)]);
        assert_eq!(parsed(r#""text""#), []);
        assert_eq!(parsed("18446744073709551615"), [("value".to_owned(), 18446744073709551615.0)]);
    }

    #[test]
    fn paths_are_bounded_in_number_and_length() {
        let (mut numbers, mut path, mut found) = (Numbers::default(), String::new(), Vec::new());
        let fields: Vec<String> = (0..1_000).map(|n| format!(r#""m{n}":{n}"#)).collect();
        let data = format!(r#"{{"attempt":1,"value":{{{}}}}}"#, fields.join(","));
        numbers.parse(&data, &mut path, &mut found);
        assert!(found.len() == PATHS_MAX && numbers.paths_left_out);
        let mut numbers = Numbers::default();
        let data = format!(r#"{{"attempt":1,"value":{{"{}":1}}}}"#, "x".repeat(1_000));
        numbers.parse(&data, &mut path, &mut found);
        assert!(numbers.paths.is_empty() && numbers.paths_left_out);
        assert_eq!(numbers.parse("[", &mut path, &mut found), None);
        let (huge, before) = (r#"{"attempt":1,"value":1e999}"#, found.len());
        assert_eq!(numbers.parse(huge, &mut path, &mut found), Some(1));
        assert_eq!(found.len(), before, "no float is that large");
    }

    #[test]
    fn a_whole_number_is_the_nearest_float() {
        for (value, expected) in
            [(0, 0.0), (1 << 53, 9007199254740992.0), (u64::MAX, 2_f64.powi(64))]
        {
            assert_eq!(float(value).to_bits(), f64::to_bits(expected), "{value}");
        }
    }
}
