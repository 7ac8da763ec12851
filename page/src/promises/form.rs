//! The form of an answer: fields that fit a phone, and the value that they are read back into.
//!
//! What a schema says reaches the form as text, through maud. The names of fields begin with
//! `value`, so that no schema's property is taken for another part of the form. Pure.

use maud::{Markup, html};
use serde_json::{Map, Number, Value};
use tidemill_model::{Error, ErrorKind, Json, PromiseView, Timestamp};

use super::schema::{Field, Kind, Range, Shape};

/// The largest form of an answer: larger values are sent by the API.
pub const ANSWER_BYTES_MAX: usize = 256 * 1024;

/// The parts of the form that are no fields of the value.
const PARTS: [&str; 4] = ["form_token", "token", "by", "reason"];

/// What was typed into a form.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Posted(Vec<(String, String)>);

impl Posted {
    /// Reads the body of a form.
    ///
    /// # Errors
    /// `Invalid` for a part that no form of ours has.
    pub fn read(body: &str) -> Result<Posted, Error> {
        let pairs = form_urlencoded::parse(body.as_bytes());
        let pairs: Vec<(String, String)> = pairs.into_owned().collect();
        let is_ours =
            |name: &str| PARTS.contains(&name) || name == "value" || name.starts_with("value.");
        if let Some((name, _)) = pairs.iter().find(|(name, _)| !is_ours(name)) {
            let message = format!("the form of an answer has no part `{name}`");
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        Ok(Posted(pairs))
    }

    /// What was typed into a part; `None` if that is nothing.
    pub fn text(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(found, _)| found == name)?;
        Some(found.1.as_str()).filter(|text| !text.is_empty())
    }
}

/// The form of a promise.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct AnswerForm {
    shape: Shape,
    /// Whether a no has a reason of its own, or says why in the same field as a yes.
    pub(super) has_reason: bool,
}

impl AnswerForm {
    pub(super) fn of(promise: &PromiseView) -> AnswerForm {
        let (shape, has_reason) = match (&promise.schema, &promise.approval) {
            (Some(schema), _) => (Shape::of(schema), true),
            (None, Some(_)) => {
                let kind = Kind::Text { chars_max: None, lines: true };
                (Shape::One(Field::plain("Comment", kind)), false)
            }
            (None, None) => {
                let hint = "JSON, such as 42, true, \"a text\" or {\"a\": 1}; empty means null";
                let field = Field::plain("Answer", Kind::Json);
                (Shape::One(Field { hint: Some(hint.to_owned()), ..field }), true)
            }
        };
        AnswerForm { shape, has_reason }
    }

    /// The fields, with what was typed.
    pub(super) fn html(&self, typed: Option<&Posted>) -> Markup {
        html! { @for field in self.shape.fields() { (field.html(typed)) } }
    }

    /// The value that was typed.
    ///
    /// # Errors
    /// What is wrong with each field, in words that name it.
    pub(super) fn value(&self, posted: &Posted) -> Result<Json, Vec<String>> {
        let (mut values, mut wrong) = (Map::new(), Vec::new());
        let mut only = Value::Null;
        for field in self.shape.fields() {
            match field.value(posted.text(&field.input())) {
                Ok(None) => {}
                Ok(Some(value)) if matches!(self.shape, Shape::One(_)) => only = value,
                Ok(Some(value)) => drop(values.insert(field.property.clone(), value)),
                Err(why) => wrong.push(format!("{}: {why}", field.label)),
            }
        }
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let value = if matches!(self.shape, Shape::One(_)) { only } else { Value::Object(values) };
        Json::of(&value).map_err(|why| vec![why.to_string()])
    }

    /// Why it is a no.
    pub(super) fn reason(&self, posted: &Posted) -> Option<String> {
        let part = if self.has_reason { "reason" } else { "value" };
        posted.text(part).map(lines)
    }
}

/// A text as it was typed: a browser sends the end of a line as two characters.
fn lines(text: &str) -> String {
    text.replace("\r\n", "\n")
}

impl Field {
    /// The name of its input.
    fn input(&self) -> String {
        if self.property.is_empty() {
            "value".to_owned()
        } else {
            format!("value.{}", self.property)
        }
    }

    fn html(&self, typed: Option<&Posted>) -> Markup {
        let name = self.input();
        let now = match typed {
            Some(typed) => typed.text(&name).map(str::to_owned),
            None => self.initial.clone(),
        };
        let is_wrong = typed.is_some() && self.value(now.as_deref()).is_err();
        html! {
            label.field {
                span { (self.label) @if !self.required { " " small { "optional" } } }
                (self.control(&name, now.as_deref(), is_wrong.then_some("true")))
                @if let Some(hint) = &self.hint { small.hint { (hint) } }
            }
        }
    }

    fn control(&self, name: &str, now: Option<&str>, wrong: Option<&str>) -> Markup {
        let required = self.required;
        match &self.kind {
            Kind::Text { chars_max, lines: true } => html! {
                textarea name=(name) rows="3" maxlength=[*chars_max] required[required] aria-invalid=[wrong] { "\n" (now.unwrap_or_default()) }
            },
            Kind::Json => html! {
                textarea.code name=(name) rows="4" required[required] spellcheck="false" autocapitalize="off" aria-invalid=[wrong] { "\n" (now.unwrap_or_default()) }
            },
            Kind::Text { chars_max, lines: false } => html! {
                input name=(name) value=[now] maxlength=[*chars_max] required[required] aria-invalid=[wrong];
            },
            Kind::Date => html! {
                input type="date" name=(name) value=[now] required[required] aria-invalid=[wrong];
            },
            Kind::Integer(Range { min, max }) => html! {
                input type="number" inputmode=(keys(*min, "numeric")) step="1" min=[*min] max=[*max] name=(name) value=[now] required[required] aria-invalid=[wrong];
            },
            Kind::Number(Range { min, max }) => html! {
                input type="number" inputmode=(keys(*min, "decimal")) step="any" min=[*min] max=[*max] name=(name) value=[now] required[required] aria-invalid=[wrong];
            },
            Kind::Bool => {
                let words = |value: bool, words: &str| (Value::Bool(value), words.to_owned());
                self.select(name, now, wrong, &[words(true, "yes"), words(false, "no")])
            }
            Kind::Choice(choices) => self.select(name, now, wrong, choices),
        }
    }

    fn select(
        &self,
        name: &str,
        now: Option<&str>,
        wrong: Option<&str>,
        choices: &[(Value, String)],
    ) -> Markup {
        html! {
            select name=(name) required[self.required] aria-invalid=[wrong] {
                option value="" { @if self.required { "choose…" } @else { "–" } }
                @for (value, words) in choices {
                    @let value = value.to_string();
                    option value=(value) selected[now == Some(value.as_str())] { (words) }
                }
            }
        }
    }

    /// Reads what was typed; `None` if that is nothing, which it may be.
    fn value(&self, typed: Option<&str>) -> Result<Option<Value>, String> {
        let Some(text) = typed else {
            return if self.required { Err("fill it in".to_owned()) } else { Ok(None) };
        };
        let trimmed = text.trim();
        let value = match &self.kind {
            Kind::Text { chars_max, .. } => {
                let text = lines(text);
                let chars = u64::try_from(text.chars().count()).unwrap_or(u64::MAX);
                if let Some(max) = chars_max.filter(|max| chars > *max) {
                    return Err(format!("it has {chars} characters, of at most {max}"));
                }
                Value::String(text)
            }
            Kind::Date => date(trimmed)?,
            Kind::Integer(range) => integer(trimmed, *range)?,
            Kind::Number(range) => number(trimmed, *range)?,
            Kind::Bool => match trimmed {
                "true" => Value::Bool(true),
                "false" => Value::Bool(false),
                _ => return Err("choose yes or no".to_owned()),
            },
            Kind::Choice(choices) => {
                let chosen: Option<Value> = serde_json::from_str(trimmed).ok();
                let found = choices.iter().find(|(value, _)| Some(value) == chosen.as_ref());
                found.ok_or("choose one of those that there are")?.0.clone()
            }
            Kind::Json if trimmed.is_empty() => return self.value(None),
            Kind::Json => serde_json::from_str(trimmed)
                .map_err(|why| format!("this is not JSON ({why}): a text stands in quotes"))?,
        };
        Ok(Some(value))
    }
}

/// The keys that a phone shows: those for numbers have no minus on some.
fn keys(min: Option<f64>, word: &'static str) -> &'static str {
    if min.is_some_and(|min| min >= 0.0) { word } else { "text" }
}

fn date(text: &str) -> Result<Value, String> {
    let is_date = text.len() == 10 && format!("{text}T00:00:00Z").parse::<Timestamp>().is_ok();
    let date = Value::String(text.to_owned());
    if is_date { Ok(date) } else { Err("use a date such as 2026-11-20".to_owned()) }
}

fn integer(text: &str, range: Range) -> Result<Value, String> {
    let small = text.parse::<i64>().map(Number::from);
    let number = small.or_else(|_| text.parse::<u64>().map(Number::from));
    let number = number.map_err(|_| "use a whole number".to_owned())?;
    within(number, range)
}

fn number(text: &str, range: Range) -> Result<Value, String> {
    let written = text.parse::<f64>().ok().filter(|number| number.is_finite());
    let number = written.and_then(|written| {
        // A number that JSON can write stays as it is written: a whole one stays whole.
        serde_json::from_str(text).ok().or_else(|| Number::from_f64(written))
    });
    within(number.ok_or("use a number")?, range)
}

fn within(number: Number, Range { min, max }: Range) -> Result<Value, String> {
    let value = number.as_f64().unwrap_or(f64::NAN);
    if let Some(min) = min.filter(|min| value < *min) {
        return Err(format!("use at least {min}"));
    }
    if let Some(max) = max.filter(|max| value > *max) {
        return Err(format!("use at most {max}"));
    }
    Ok(Value::Number(number))
}
