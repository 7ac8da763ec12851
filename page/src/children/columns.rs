//! Which columns the table has, and in which order its rows are. Pure.

use std::cmp::Ordering;
use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tidemill_model::RunId;

use super::best::{best, less_is_better};
use super::curves::curves;
use super::read::{Family, Member};
use super::{Cell, ChildRow, ChildrenPage, ChildrenQuery, Column, LeftOut};
use crate::curves::metric::{axis, metric};
use crate::curves::numbers::Numbers;

/// Rows of a page.
const ROWS_MAX: usize = 100;

/// Columns of one origin.
const OF_ORIGIN_MAX: usize = 12;

/// Columns in all: with [`ROWS_MAX`] rows some 2,600 elements.
const COLUMNS_MAX: usize = 18;

/// Values of a child that become columns, and how deep they lie.
const LEAVES_MAX: usize = 64;
const DEPTH_MAX: u32 = 4;

/// A longer path is no name of a parameter.
const NAME_BYTES_MAX: usize = 120;

/// Columns that are told apart at all; children with names of their own have no table.
const NAMES_MAX: usize = 1_000;

/// A short array is a value of its own.
const ARRAY_CHARS_MAX: usize = 24;

/// Characters of a text in a cell, from what all texts of a page may take to what they must.
const TEXT_CHARS: [usize; 4] = [40, 20, 10, 4];

/// What the texts of a page may take, as they are escaped.
const TEXTS_BYTES_MAX: usize = 60 * 1024;

/// Where the values of a column are from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ColumnOf {
    /// The children's inputs.
    Input,
    /// Their outputs.
    Output,
    /// The best of what their steps measured.
    Best,
}

impl ColumnOf {
    /// Each of them.
    pub const ALL: [ColumnOf; 3] = [ColumnOf::Input, ColumnOf::Output, ColumnOf::Best];

    /// What `show` takes, and what a column's key begins with.
    pub fn as_str(self) -> &'static str {
        match self {
            ColumnOf::Input => "input",
            ColumnOf::Output => "output",
            ColumnOf::Best => "best",
        }
    }
}

/// A column with the values of all children.
struct WholeColumn {
    column: Column,
    cells: Vec<Option<Cell>>,
}

pub(super) fn page(run: &RunId, asked: &ChildrenQuery, family: &Family) -> ChildrenPage {
    let Family { members, numbers, children } = family;
    let axis = family_axis(numbers, members);
    let metrics = metrics(numbers, axis);
    let all = [
        of_payload(ColumnOf::Input, members, |member| member.input.as_ref()),
        of_payload(ColumnOf::Output, members, |member| member.output.as_ref()),
        of_best(members, numbers, &metrics, axis),
    ];
    let order = order(asked, members, &all);
    let (columns, left_out) = chosen(all, asked.show);
    let first = asked.page.saturating_sub(1).saturating_mul(ROWS_MAX);
    let on_page: Vec<usize> = order.iter().copied().skip(first).take(ROWS_MAX).collect();
    let names: Vec<String> =
        metrics.iter().filter_map(|id| numbers.paths.get(*id)).cloned().collect();
    let drawn = match &asked.metric {
        Some(name) => metrics.iter().copied().find(|id| numbers.paths.get(*id) == Some(name)),
        None => metrics.first().copied(),
    };
    ChildrenPage {
        run: run.clone(),
        query: asked.clone(),
        children: *children,
        not_read: children.saturating_sub(u64::try_from(members.len()).unwrap_or(u64::MAX)),
        pages: members.len().div_ceil(ROWS_MAX).max(1),
        cut: numbers.cut,
        rows: rows(members, &columns, &on_page),
        columns: columns.into_iter().map(|whole| whole.column).collect(),
        left_out,
        metrics: names,
        curves: drawn.and_then(|path| curves(numbers, members, &order, path, axis)),
    }
}

/// The number that counts the steps of all children.
fn family_axis(numbers: &Numbers, members: &[Member]) -> Option<usize> {
    let ops: Vec<_> = members.iter().flat_map(|member| &member.ops).collect();
    axis(numbers, &ops)
}

/// What was measured: first what is on held-out data.
fn metrics(numbers: &Numbers, axis: Option<usize>) -> Vec<usize> {
    let mut metrics: Vec<usize> = (0..numbers.paths.len()).filter(|id| axis != Some(*id)).collect();
    let held_out = |id: &usize| numbers.paths.get(*id).is_some_and(|path| metric(path).held_out);
    metrics.sort_by_key(|id| !held_out(id));
    metrics
}

fn of_best(
    members: &[Member],
    numbers: &Numbers,
    metrics: &[usize],
    axis: Option<usize>,
) -> Vec<WholeColumn> {
    let column = |id: &usize| {
        let name = numbers.paths.get(*id)?;
        let less = less_is_better(name);
        let cells = members.iter().map(|member| {
            let (at, value) = best(&member.ops, *id, axis, less)?;
            Some(Cell { value: value.into(), at: Some(at) })
        });
        Some(whole(ColumnOf::Best, name, Some(less), cells.collect()))
    };
    metrics.iter().filter_map(column).collect()
}

fn whole(of: ColumnOf, name: &str, less: Option<bool>, cells: Vec<Option<Cell>>) -> WholeColumn {
    let key = format!("{}.{name}", of.as_str());
    let value = |cell: &Option<Cell>| cell.as_ref().map(|cell| cell.value.clone());
    let differs = cells.windows(2).any(|pair| value(&pair[0]) != value(&pair[1]));
    WholeColumn { column: Column { key, of, name: name.to_owned(), differs, less }, cells }
}

/// The columns of inputs or outputs: first those in which the children differ.
fn of_payload<'a>(
    of: ColumnOf,
    members: &'a [Member],
    payload: impl Fn(&'a Member) -> Option<&'a Value>,
) -> Vec<WholeColumn> {
    let mut names: HashMap<String, usize> = HashMap::new();
    let mut columns: Vec<(String, Vec<Option<Cell>>)> = Vec::new();
    for (at, member) in members.iter().enumerate() {
        let mut leaves = Vec::new();
        if let Some(value) = payload(member) {
            flatten(of, value, "", 0, &mut leaves);
        }
        for (name, value) in leaves {
            let known = names.get(&name).copied();
            let place = match known {
                Some(place) => place,
                None if columns.len() >= NAMES_MAX => continue,
                None => {
                    names.insert(name.clone(), columns.len());
                    columns.push((name, vec![None; members.len()]));
                    columns.len() - 1
                }
            };
            if let Some(cell) = columns.get_mut(place).and_then(|column| column.1.get_mut(at)) {
                *cell = Some(Cell { value, at: None });
            }
        }
    }
    let mut columns: Vec<WholeColumn> =
        columns.into_iter().map(|(name, cells)| whole(of, &name, None, cells)).collect();
    columns.sort_by_key(|whole| !whole.column.differs);
    columns
}

/// The values of an object by their paths. A value that is no object has the name of its origin.
fn flatten(of: ColumnOf, value: &Value, path: &str, depth: u32, into: &mut Vec<(String, Value)>) {
    let mut put = |value: Value| {
        let name = if path.is_empty() { of.as_str() } else { path };
        into.push((name.to_owned(), value));
    };
    match value {
        Value::Object(fields) if depth < DEPTH_MAX => {
            for (name, value) in fields {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                if into.len() < LEAVES_MAX && path.len() <= NAME_BYTES_MAX {
                    flatten(of, value, &path, depth + 1, into);
                }
            }
        }
        Value::Object(_) => {}
        Value::Array(items) => {
            let is_short = !items.is_empty() && items.len() <= ARRAY_CHARS_MAX;
            let text = is_short.then(|| value.to_string());
            if let Some(text) = text.filter(|text| text.len() <= ARRAY_CHARS_MAX) {
                put(Value::String(text));
            }
        }
        value => put(value.clone()),
    }
}

/// The columns that are shown, and how many are not.
fn chosen(all: [Vec<WholeColumn>; 3], show: Option<ColumnOf>) -> (Vec<WholeColumn>, LeftOut) {
    let sizes = all.each_ref().map(Vec::len);
    let wanted = |of: ColumnOf, size: usize| match show {
        Some(show) if show == of => size.min(COLUMNS_MAX),
        Some(_) => 0,
        None => size.min(OF_ORIGIN_MAX),
    };
    let mut shares = [0, 1, 2].map(|at: usize| wanted(ColumnOf::ALL[at], sizes[at]));
    while shares.iter().sum::<usize>() > COLUMNS_MAX {
        // The origin with the most columns has one less.
        let most = (0..shares.len()).max_by_key(|at| shares[*at]).unwrap_or(0);
        shares[most] -= 1;
    }
    let mut columns = Vec::new();
    for (share, whole) in shares.iter().zip(all) {
        columns.extend(whole.into_iter().take(*share));
    }
    let left = |at: usize| sizes[at] - shares[at];
    (columns, LeftOut { input: left(0), output: left(1), best: left(2) })
}

/// What a row is sorted by; what has nothing comes last.
enum Key<'a> {
    Number(f64),
    Text(&'a str),
    Nothing,
}

impl Key<'_> {
    fn of(value: &Value) -> Key<'_> {
        match value {
            Value::Number(number) => number.as_f64().map_or(Key::Nothing, Key::Number),
            Value::String(text) => Key::Text(text),
            Value::Bool(true) => Key::Text("true"),
            Value::Bool(false) => Key::Text("false"),
            Value::Null | Value::Array(_) | Value::Object(_) => Key::Nothing,
        }
    }

    fn compare(&self, other: &Key<'_>, desc: bool) -> Ordering {
        let turned = |order: Ordering| if desc { order.reverse() } else { order };
        match (self, other) {
            (Key::Nothing, Key::Nothing) => Ordering::Equal,
            (Key::Nothing, _) => Ordering::Greater,
            (_, Key::Nothing) => Ordering::Less,
            (Key::Number(a), Key::Number(b)) => turned(a.total_cmp(b)),
            (Key::Text(a), Key::Text(b)) => turned(a.cmp(b)),
            (Key::Number(_), Key::Text(_)) => turned(Ordering::Less),
            (Key::Text(_), Key::Number(_)) => turned(Ordering::Greater),
        }
    }
}

/// The places of all children in the order that was asked for. Those that are equal, and all of
/// them where there is no such column, stay in the order in which they were started.
fn order(asked: &ChildrenQuery, members: &[Member], all: &[Vec<WholeColumn>; 3]) -> Vec<usize> {
    let sort = asked.sort.as_deref().unwrap_or("started");
    let column = all.iter().flatten().find(|whole| whole.column.key == sort);
    let micros = |member: &Member| {
        // Exact until the year 2255.
        Key::Number(member.started.as_micros().to_string().parse().unwrap_or_default())
    };
    let key = |at: &usize| -> Key<'_> {
        let Some(member) = members.get(*at) else { return Key::Nothing };
        let cell = |whole: &&WholeColumn| whole.cells.get(*at).and_then(Option::as_ref).is_some();
        match (sort, column) {
            ("id", _) => Key::Text(member.id.as_str()),
            ("status", _) => Key::Text(member.status.as_str()),
            ("duration", _) => member
                .duration_ms
                .map_or(Key::Nothing, |ms| Key::Number(crate::curves::numbers::float(ms))),
            (_, Some(column)) => match Some(&column).filter(|whole| cell(whole)) {
                Some(whole) => match &whole.cells[*at] {
                    Some(cell) => Key::of(&cell.value),
                    None => Key::Nothing,
                },
                None => Key::Nothing,
            },
            (_, None) => micros(member),
        }
    };
    let mut order: Vec<usize> = (0..members.len()).collect();
    order.sort_by(|a, b| key(a).compare(&key(b), asked.desc));
    order
}

/// The rows of a page, with texts that are short enough for it.
fn rows(members: &[Member], columns: &[WholeColumn], on_page: &[usize]) -> Vec<ChildRow> {
    let texts = |chars: usize| -> usize {
        let cells = on_page.iter().flat_map(|at| columns.iter().map(|whole| whole.cells.get(*at)));
        cells.flatten().flatten().map(|cell| escaped(&cell.value, chars)).sum()
    };
    let fits = |chars: &usize| texts(*chars) <= TEXTS_BYTES_MAX;
    let chars = TEXT_CHARS.into_iter().find(fits).unwrap_or(1);
    let row = |at: &usize| {
        let member = members.get(*at)?;
        let cell = |whole: &WholeColumn| {
            let cell = whole.cells.get(*at)?.clone()?;
            Some(Cell { value: shortened(cell.value, chars), at: cell.at })
        };
        Some(ChildRow {
            id: member.id.clone(),
            status: member.status,
            started: member.started,
            duration_ms: member.duration_ms,
            cells: columns.iter().map(cell).collect(),
        })
    };
    on_page.iter().filter_map(row).collect()
}

/// How many bytes the beginning of a text takes where markup has a meaning.
fn escaped(value: &Value, chars: usize) -> usize {
    let size = |c: char| match c {
        '<' | '>' | '&' | '"' | '\\' | '\u{0}'..='\u{1f}' => 6,
        c => c.len_utf8(),
    };
    value.as_str().map_or(0, |text| text.chars().take(chars).map(size).sum())
}

fn shortened(value: Value, chars: usize) -> Value {
    match value {
        Value::String(text) if text.chars().count() > chars => {
            let head: String = text.chars().take(chars).collect();
            Value::String(format!("{head}…"))
        }
        value => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flat(value: &Value) -> Vec<(String, Value)> {
        let mut leaves = Vec::new();
        flatten(ColumnOf::Input, value, "", 0, &mut leaves);
        leaves
    }

    #[test]
    fn a_payload_is_flat() {
        let value = serde_json::json!({
            "model": {"width": 8, "name": "x", "layers": [64, 32], "deep": {"er": {"no": {"n": 1}}}},
            "rate": 0.1, "none": null, "data": vec![0; 100], "empty": {},
        });
        let expected = [
            ("model.layers", serde_json::json!("[64,32]")),
            ("model.name", serde_json::json!("x")),
            ("model.width", serde_json::json!(8)),
            ("none", Value::Null),
            ("rate", serde_json::json!(0.1)),
        ];
        assert_eq!(flat(&value), expected.map(|(name, value)| (name.to_owned(), value)));
        assert_eq!(flat(&serde_json::json!(7)), [("input".to_owned(), serde_json::json!(7))]);
    }

    #[test]
    fn what_has_no_value_comes_last_in_both_orders() {
        let values = [Value::Null, 2.into(), "b".into(), 10.into(), "a".into()];
        let sorted = |desc: bool| {
            let mut sorted: Vec<&Value> = values.iter().collect();
            sorted.sort_by(|a, b| Key::of(a).compare(&Key::of(b), desc));
            sorted.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(sorted(false), ["2", "10", "\"a\"", "\"b\"", "null"]);
        assert_eq!(sorted(true), ["\"b\"", "\"a\"", "10", "2", "null"]);
    }

    #[test]
    fn no_origin_takes_all_columns() {
        let columns = |of: ColumnOf, count: usize| -> Vec<WholeColumn> {
            (0..count).map(|n| whole(of, &n.to_string(), None, Vec::new())).collect()
        };
        let all = || [ColumnOf::Input, ColumnOf::Output, ColumnOf::Best];
        let of = |counts: [usize; 3], show| {
            let [a, b, c] = all();
            let all = [columns(a, counts[0]), columns(b, counts[1]), columns(c, counts[2])];
            let (columns, left) = chosen(all, show);
            (columns.len(), [left.input, left.output, left.best])
        };
        assert_eq!(of([3, 2, 1], None), (6, [0, 0, 0]));
        assert_eq!(of([30, 2, 1], None), (15, [18, 0, 0]));
        assert_eq!(of([30, 30, 30], None), (18, [24, 24, 24]));
        assert_eq!(of([30, 30, 30], Some(ColumnOf::Output)), (18, [30, 12, 30]));
    }
}
