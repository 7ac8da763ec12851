//! When two JSON texts mean the same value.
//!
//! Integers compare by their digits, however many there are. Numbers with a fraction or an exponent
//! compare as the nearest `f64`. An integer is never a float: `1` and `1.0` come from other types.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

/// When two numbers with a fraction or an exponent are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Floats {
    /// When they are equal.
    Exact,
    /// When they are at most 4 units in the last place apart. Versions that read floats without
    /// care were at most 2 off, and a run that passes a float on reads it once.
    Near,
    /// Always.
    Any,
}

/// Deeper values are the same only as texts: `serde_json` reads no deeper ones, either.
const DEPTH_MAX: u32 = 128;

/// How far apart two floats may be to be near.
const NEAR_ULPS: u64 = 4;

/// Whether two texts of JSON mean the same value.
pub(super) fn same(a: &str, b: &str, floats: Floats) -> bool {
    same_within(a, b, floats, DEPTH_MAX)
}

fn same_within(a: &str, b: &str, floats: Floats, depth: u32) -> bool {
    if a == b {
        return true;
    }
    let Some(depth) = depth.checked_sub(1) else { return false };
    let same = |a: &RawValue, b: &RawValue| same_within(a.get(), b.get(), floats, depth);
    match (Shape::of(a), Shape::of(b)) {
        (Some(Shape::Object(a)), Some(Shape::Object(b))) => {
            a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| a.0 == b.0 && same(a.1, b.1))
        }
        (Some(Shape::Array(a)), Some(Shape::Array(b))) => {
            a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| same(a, b))
        }
        (Some(Shape::Text(a)), Some(Shape::Text(b))) => a == b,
        (Some(Shape::Integer), Some(Shape::Integer)) => false,
        (Some(Shape::Float(a)), Some(Shape::Float(b))) => same_floats(a, b, floats),
        // `null`, `true` and `false` have one text each.
        (Some(_) | None, _) => false,
    }
}

/// A value, looked at one level deep.
enum Shape<'a> {
    Object(BTreeMap<String, &'a RawValue>),
    Array(Vec<&'a RawValue>),
    Text(String),
    /// JSON has one text for each integer.
    Integer,
    Float(f64),
    Word,
}

impl Shape<'_> {
    /// `None` if the text is not JSON, or has a number too large for `f64`.
    fn of(text: &str) -> Option<Shape<'_>> {
        let text = text.trim_ascii();
        match text.bytes().next()? {
            b'{' => serde_json::from_str(text).ok().map(Shape::Object),
            b'[' => serde_json::from_str(text).ok().map(Shape::Array),
            b'"' => serde_json::from_str(text).ok().map(Shape::Text),
            b'-' | b'0'..=b'9' if is_integer(text) => Some(Shape::Integer),
            b'-' | b'0'..=b'9' => {
                text.parse().ok().filter(|number: &f64| number.is_finite()).map(Shape::Float)
            }
            _ => Some(Shape::Word),
        }
    }
}

/// `-0` is what only a float can be.
fn is_integer(number: &str) -> bool {
    number != "-0" && !number.bytes().any(|byte| matches!(byte, b'.' | b'e' | b'E'))
}

#[expect(clippy::float_cmp, reason = "the same float is meant, not a close one")]
fn same_floats(a: f64, b: f64, floats: Floats) -> bool {
    match floats {
        Floats::Exact => a == b,
        Floats::Near => place(a).abs_diff(place(b)) <= NEAR_ULPS,
        Floats::Any => true,
    }
}

/// The rank of a float among all floats: neighbours differ by one, and both zeros are 0.
fn place(float: f64) -> i64 {
    let magnitude = i64::try_from(float.abs().to_bits()).expect("without its sign it has 63 bits");
    if float.is_sign_negative() { -magnitude } else { magnitude }
}

/// Whether a number in the text has a fraction or an exponent.
pub(super) fn has_float(text: &str) -> bool {
    let (mut in_string, mut before) = (false, b' ');
    for byte in text.bytes() {
        match (in_string, before, byte) {
            // What follows an escaped backslash is not escaped itself.
            (true, b'\\', _) => {
                before = b' ';
                continue;
            }
            (true, _, b'"') => in_string = false,
            (true, _, _) => {}
            (false, _, b'"') => in_string = true,
            (false, _, b'.') | (false, b'0'..=b'9', b'e' | b'E') => return true,
            (false, _, _) => {}
        }
        before = byte;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(a: &str, b: &str, expected: [bool; 3]) {
        let found = [Floats::Exact, Floats::Near, Floats::Any].map(|floats| same(a, b, floats));
        assert_eq!(found, expected, "{a} and {b}: exact, near, any");
        let turned = [Floats::Exact, Floats::Near, Floats::Any].map(|floats| same(b, a, floats));
        assert_eq!(turned, expected, "{b} and {a}: exact, near, any");
    }

    #[test]
    fn floats_are_the_same_exactly_nearly_or_always() {
        check("0.9856906946328695", "0.9856906946328696", [false, true, true]);
        check("51.248178375505404", "51.24817837550541", [false, true, true]);
        check("1.5", "15e-1", [true; 3]);
        check("-0.0", "0.0", [true; 3]);
        check("-0", "0.0", [true; 3]);
        check("5e-324", "-5e-324", [false, true, true]);
        check("0.1", "0.2", [false, false, true]);
        check("1e999", "1e998", [false; 3]);
        let four = f64::from_bits(1.0_f64.to_bits() + 4).to_string();
        let five = f64::from_bits(1.0_f64.to_bits() + 5).to_string();
        check("1.0", &four, [false, true, true]);
        check("1.0", &five, [false, false, true]);
    }

    #[test]
    fn integers_are_the_same_by_their_digits() {
        check("18446744073709551616", "18446744073709551617", [false; 3]);
        check("9007199254740993", "9007199254740992", [false; 3]);
        check("1", "1.0", [false; 3]);
        check("0", "-0", [false; 3]);
        check("-1", "1", [false; 3]);
    }

    #[test]
    fn what_lies_within_is_compared_alike() {
        let (a, b) = ("0.9856906946328695", "0.9856906946328696");
        let nested = |x: &str| format!(r#"{{"a":[1,{{"x":{x}}}],"b":"{x}"}}"#);
        let turned = |x: &str| format!(r#"{{ "b" : "{a}", "a" : [1, {{"x":{x}}}] }}"#);
        check(&nested(a), &turned(a), [true; 3]);
        check(&nested(a), &turned(b), [false, true, true]);
        check(&nested(a), &nested(b), [false; 3]);
        check("[1.5]", "[1.5,1.5]", [false; 3]);
        check(r#"{"a":1.5}"#, r#"{"b":1.5}"#, [false; 3]);
        check("true", "false", [false; 3]);
        check("null", "0.0", [false; 3]);
        check(r#""\u0041""#, r#""A""#, [true; 3]);
        let deep = |inner: &str| format!("{}{inner}{}", "[".repeat(300), "]".repeat(300));
        check(&deep("1.5"), &deep("1.5"), [true; 3]);
        check(&deep("1.5"), &deep("1.50"), [false; 3]);
    }

    #[test]
    fn a_float_is_found_where_there_is_one() {
        for text in ["1.5", "[1,2e9]", r#"{"a.b":[true,null,{"x":-1E3}]}"#, r#"["\\",0.1]"#] {
            assert!(has_float(text), "{text}");
        }
        for text in ["1", "[true,false,null]", r#"{"a.b":"1.5e3"}"#, r#"["\"1.5",2]"#, "-12"] {
            assert!(!has_float(text), "{text}");
        }
    }
}
