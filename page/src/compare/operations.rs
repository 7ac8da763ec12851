//! The operations of two runs beside each other, by their numbers. Pure.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tidemill_eventlog::Row;
use tidemill_model::{Timestamp, took_ms};

use super::divergence::same_text;
use super::fields::beginning;

/// Rows of the table: the differing ones first.
const ROWS_MAX: usize = 200;

/// How large the JSON of the rows may be: with other texts around them it stays below 256 KiB.
const ROWS_BYTES_MAX: usize = 90 * 1024;

/// A value up to this size is compared by what it means, a larger one by its text.
const COMPARED_BYTES_MAX: usize = 512;

/// Characters of a value in the table.
const VALUE_CHARS_MAX: usize = 40;

/// The operations of two runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Operations {
    /// How many differ.
    pub differing: usize,
    /// How many are the same.
    pub same: usize,
    /// How many of all are left out.
    pub left_out: usize,
    /// Those that are shown: the differing ones first, each in the order of their numbers.
    pub rows: Vec<OpPair>,
}

/// An operation of both runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct OpPair {
    /// Its number.
    pub op: u32,
    /// In what they differ, of `kind`, `name`, `status`, `input` and `output`; empty where they are
    /// the same. How long it took is no difference.
    pub differs: Vec<String>,
    /// In the first run; `None` if it has not started it.
    pub a: Option<OpOfSide>,
    /// In the second run; `None` if it has not started it.
    pub b: Option<OpOfSide>,
}

/// An operation of one of the runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct OpOfSide {
    /// `step`, `timer`, `child`, or as an event of a newer version names it.
    pub kind: String,
    /// Its name.
    pub name: Option<String>,
    /// `open`, or how it ended, as its event names it: `completed`, `failed`, `fired`, `dropped`.
    pub status: String,
    /// From its start to its end, in milliseconds; `None` if it is open.
    pub duration_ms: Option<u64>,
    /// The beginning of what it was given.
    pub input: Option<String>,
    /// The beginning of what it brought: an output, an error, a value.
    pub output: Option<String>,
}

/// What of an operation is in memory.
#[derive(Debug)]
pub(super) struct Op {
    kind: String,
    name: Option<String>,
    status: Cow<'static, str>,
    started: Timestamp,
    ended: Option<Timestamp>,
    input: Option<Payload>,
    output: Option<Payload>,
}

/// A value, or what tells it from others.
#[derive(Debug)]
enum Payload {
    Whole(String),
    Large { hash: u64, beginning: String },
}

#[derive(Deserialize)]
struct Carried<'a> {
    #[serde(borrow)]
    input: Option<&'a RawValue>,
    #[serde(borrow)]
    output: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    #[serde(borrow)]
    value: Option<&'a RawValue>,
}

/// The operations of a run, by their numbers.
pub(super) type Ops = BTreeMap<u32, Op>;

/// Takes an input or act to the operation that it concerns.
pub(super) fn observe(ops: &mut Ops, row: &Row) {
    let Some(op) = row.op else { return };
    let carried = row.data.as_deref().and_then(|data| serde_json::from_str::<Carried>(data).ok());
    let input = carried.as_ref().and_then(|carried| carried.input);
    let output =
        carried.as_ref().and_then(|carried| carried.output.or(carried.error).or(carried.value));
    let output = output.map(|output| Payload::of(output.get()));
    let (kind, end) = row.kind.rsplit_once('_').unwrap_or((&row.kind, ""));
    match ops.get_mut(&op.get()) {
        None => {
            // What the log answers at once is never open.
            let at_once = matches!(row.kind.as_str(), "now" | "status_set");
            let started = Op {
                kind: if at_once { row.kind.clone() } else { kind.to_owned() },
                name: row.name.clone(),
                status: Cow::Borrowed(if at_once { "completed" } else { "open" }),
                started: row.ts,
                ended: at_once.then_some(row.ts),
                input: input.map(|input| Payload::of(input.get())),
                output,
            };
            ops.insert(op.get(), started);
        }
        Some(known) => {
            known.status = match end {
                "completed" => Cow::Borrowed("completed"),
                "failed" => Cow::Borrowed("failed"),
                "fired" => Cow::Borrowed("fired"),
                "dropped" => Cow::Borrowed("dropped"),
                // Of a newer version.
                _ => Cow::Owned(row.kind.clone()),
            };
            known.ended = Some(row.ts);
            known.output = output.or(known.output.take());
        }
    }
}

/// The operations of both runs, the differing ones first.
pub(super) fn compare(a: &Ops, b: &Ops) -> Operations {
    let mut all = Operations::default();
    let mut same = Vec::new();
    let numbers = a.keys().chain(b.keys().filter(|op| !a.contains_key(op)));
    let mut numbers: Vec<u32> = numbers.copied().collect();
    numbers.sort_unstable();
    for op in numbers {
        let (a, b) = (a.get(&op), b.get(&op));
        let differs = differences(a, b);
        let (count, rows) = match differs.is_empty() {
            true => (&mut all.same, &mut same),
            false => (&mut all.differing, &mut all.rows),
        };
        *count += 1;
        if rows.len() < ROWS_MAX {
            rows.push(OpPair { op, differs, a: a.map(Op::shown), b: b.map(Op::shown) });
        }
    }
    all.rows.extend(same);
    all.rows.truncate(ROWS_MAX);
    while serde_json::to_vec(&all.rows).is_ok_and(|json| json.len() > ROWS_BYTES_MAX) {
        all.rows.truncate(all.rows.len() / 2);
    }
    all.left_out = all.differing + all.same - all.rows.len();
    all
}

fn differences(a: Option<&Op>, b: Option<&Op>) -> Vec<String> {
    let (Some(a), Some(b)) = (a, b) else { return vec!["kind".to_owned()] };
    [
        ("kind", a.kind != b.kind),
        ("name", a.name != b.name),
        ("status", a.status != b.status),
        ("input", !Payload::same(a.input.as_ref(), b.input.as_ref())),
        ("output", !Payload::same(a.output.as_ref(), b.output.as_ref())),
    ]
    .into_iter()
    .filter(|(_, differs)| *differs)
    .map(|(what, _)| what.to_owned())
    .collect()
}

impl Op {
    fn shown(&self) -> OpOfSide {
        let beginning = |payload: &Payload| beginning(payload.text(), VALUE_CHARS_MAX);
        OpOfSide {
            kind: self.kind.clone(),
            name: self.name.clone(),
            status: self.status.clone().into_owned(),
            duration_ms: took_ms(self.started, self.ended),
            input: self.input.as_ref().map(beginning),
            output: self.output.as_ref().map(beginning),
        }
    }
}

impl Payload {
    fn of(text: &str) -> Payload {
        if text.len() <= COMPARED_BYTES_MAX {
            return Payload::Whole(text.to_owned());
        }
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        let beginning = beginning(text, VALUE_CHARS_MAX + 1);
        Payload::Large { hash: hasher.finish(), beginning }
    }

    fn text(&self) -> &str {
        match self {
            Payload::Whole(text) => text,
            Payload::Large { beginning, .. } => beginning,
        }
    }

    fn same(a: Option<&Payload>, b: Option<&Payload>) -> bool {
        match (a, b) {
            (Some(Payload::Whole(a)), Some(Payload::Whole(b))) => same_text(Some(a), Some(b)),
            (Some(Payload::Large { hash: a, .. }), Some(Payload::Large { hash: b, .. })) => a == b,
            (None, None) => true,
            (Some(_) | None, Some(_) | None) => false,
        }
    }
}
