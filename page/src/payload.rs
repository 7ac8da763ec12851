//! Values of runs: JSON that is folded, copied, and loaded whole only when a reader asks.
//!
//! Every value is hostile text: it reaches the page only through maud, which escapes it.

use maud::{Markup, html};
use serde_json::Value;
use tidemill_model::limits::{PAYLOAD_HEAD_CHARS_MAX, PAYLOAD_LISTED_BYTES_MAX};
use tidemill_model::{Cut, Failure, Json};

use crate::words;

/// Values of an array or an object that are shown at once: the rest is in the whole value.
const ITEMS_MAX: usize = 100;

/// How deep a value is unfolded into a tree; what is deeper is one line of JSON.
const DEPTH_MAX: u32 = 12;

/// Short values are shown in their line, without a fold.
const INLINE_CHARS_MAX: usize = 60;

/// Who points at one that was cut sees so much of it.
const TITLE_CHARS_MAX: usize = 300;

/// A value under a heading. `whole` is the address of all of it.
pub fn value(heading: &str, value: &Json, whole: Option<&str>) -> Markup {
    let text = value.as_str();
    if text.len() > PAYLOAD_LISTED_BYTES_MAX {
        let head: String = text.chars().take(PAYLOAD_HEAD_CHARS_MAX).collect();
        return cut(heading, &Cut { bytes: text.len(), head }, whole);
    }
    html! {
        div.payload {
            h3 { (heading) " " (copy(text)) }
            (tree(value))
        }
    }
}

/// What is shown of a value that is too large for a page: its beginning, its size, and where all of
/// it is.
pub fn cut(heading: &str, cut: &Cut, whole: Option<&str>) -> Markup {
    let size = words::bytes(u64::try_from(cut.bytes).unwrap_or(u64::MAX));
    html! {
        div.payload {
            h3 {
                (heading) " " small { (size) }
                @if let Some(whole) = whole { " " a href=(whole) download { "download" } }
            }
            pre { (cut.head) "…" }
        }
    }
}

/// A failure: its message, then its causes, one a line; of a long one the beginning. `whole` is the
/// address of all of it.
pub fn failure(heading: &str, failure: &Failure, whole: Option<&str>) -> Markup {
    let bytes = failure.message.len() + failure.chain.iter().map(String::len).sum::<usize>();
    if bytes > PAYLOAD_LISTED_BYTES_MAX {
        let cut = Cut { bytes, head: short(&failure.message, PAYLOAD_HEAD_CHARS_MAX) };
        return self::cut(heading, &cut, whole);
    }
    let text = failure.to_string();
    html! {
        div.payload {
            h3 { (heading) " " small { (kind(failure)) } " " (copy(&text)) }
            pre.error { (failure.message) @for cause in &failure.chain { "\n  caused by: " (cause) } }
        }
    }
}

fn kind(failure: &Failure) -> String {
    let kind = serde_json::to_value(failure.kind).unwrap_or_default();
    kind.as_str().unwrap_or_default().replace('_', " ")
}

/// A button that copies a text; it shows only where a script can do that.
pub fn copy(text: &str) -> Markup {
    html! { button.copy type="button" hidden data-copy=(text) { "copy" } }
}

/// A value in one line of a table.
pub fn inline(value: &Json) -> Markup {
    let text = value.as_str();
    let is_cut = text.len() > INLINE_CHARS_MAX;
    html! { code title=[is_cut.then(|| short(text, TITLE_CHARS_MAX))] { (short(text, INLINE_CHARS_MAX)) } }
}

/// The beginning of a text, with a mark if there is more.
pub fn short(text: &str, chars_max: usize) -> String {
    let short: String = text.chars().take(chars_max).collect();
    if short.len() < text.len() { short + "…" } else { short }
}

/// A value as a tree that folds.
pub fn tree(value: &Json) -> Markup {
    match value.decode::<Value>() {
        Ok(value) => html! { div.json { (node(&value, 0)) } },
        Err(_) => html! { pre { (value.as_str()) } },
    }
}

fn node(value: &Value, depth: u32) -> Markup {
    let text = value.to_string();
    let is_leaf = !(value.is_array() || value.is_object());
    if is_leaf || depth >= DEPTH_MAX || text.chars().count() <= INLINE_CHARS_MAX {
        return html! { code class=(class(value)) { (text) } };
    }
    let entries: Vec<(String, &Value)> = match value {
        Value::Array(items) => items
            .iter()
            .take(ITEMS_MAX)
            .enumerate()
            .map(|(at, item)| (at.to_string(), item))
            .collect(),
        Value::Object(fields) => {
            fields.iter().take(ITEMS_MAX).map(|(name, item)| (name.clone(), item)).collect()
        }
        _ => Vec::new(),
    };
    let all = value.as_array().map(Vec::len).or(value.as_object().map(serde_json::Map::len));
    let more = all.unwrap_or(0).saturating_sub(entries.len());
    let noun = if value.is_array() { "item" } else { "field" };
    let count = words::count(u64::try_from(all.unwrap_or(0)).unwrap_or(u64::MAX), noun);
    html! {
        details open[depth < 2] {
            summary { (count) }
            dl {
                @for (name, item) in &entries { dt { (name) } dd { (node(item, depth + 1)) } }
                @if more > 0 { dt { "…" } dd { (words::thousands(u64::try_from(more).unwrap_or(u64::MAX))) " more" } }
            }
        }
    }
}

fn class(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) | Value::Object(_) => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Json {
        Json::parse(text).unwrap()
    }

    #[test]
    fn a_value_is_text_whatever_it_holds() {
        let hostile = r#"{"</code><script>alert(1)</script>":"\"><img onerror=x>"}"#;
        let page = value("input", &json(hostile), None).into_string();
        assert!(!page.contains("<script") && !page.contains("<img"), "{page}");
    }

    #[test]
    fn a_large_value_is_shown_by_its_beginning() {
        let large = format!("\"{}\"", "x".repeat(PAYLOAD_LISTED_BYTES_MAX));
        let page = value("output", &json(&large), Some("/runs/r/operations/1")).into_string();
        assert!(page.len() < 1_000 && page.contains("4.0 KiB"), "{page}");
        assert!(page.contains(r#"href="/runs/r/operations/1" download"#), "{page}");
    }

    #[test]
    fn a_deep_value_and_a_wide_one_end() {
        let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
        assert!(tree(&json(&deep)).into_string().len() < 5_000);
        let wide: Vec<u32> = (0..1_000).collect();
        let page = tree(&Json::of(&wide).unwrap()).into_string();
        assert!(page.contains("900 more") && page.contains("1,000 items"), "{page}");
    }
}
