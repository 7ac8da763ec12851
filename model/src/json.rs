//! JSON values as the text that is recorded.

mod compare;

use std::fmt;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

pub use self::compare::Floats;

/// A JSON value, kept as its text: written once, copied without being parsed.
///
/// `==` compares texts. Whether two values mean the same is [`Json::same`].
#[derive(Clone)]
pub struct Json(Arc<RawValue>);

impl Json {
    /// The JSON of `value`.
    ///
    /// # Errors
    /// What serde says when `value` has no JSON, such as a map whose keys are not strings.
    pub fn of<T: serde::Serialize + ?Sized>(value: &T) -> Result<Json, serde_json::Error> {
        Ok(Json(serde_json::value::to_raw_value(value)?.into()))
    }

    /// Checks that `text` is one JSON value.
    ///
    /// # Errors
    /// What serde says, with line and column.
    pub fn parse(text: &str) -> Result<Json, serde_json::Error> {
        let raw: &RawValue = serde_json::from_str(text)?;
        Ok(Json(raw.to_owned().into()))
    }

    /// `null`.
    pub fn null() -> Json {
        Json(RawValue::NULL.to_owned().into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        self.0.get()
    }

    /// Reads the value as a `T`.
    ///
    /// # Errors
    /// What serde says when the value is not a `T`.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.as_str())
    }

    /// Whether both mean the same value: the order of an object's fields does not matter.
    pub fn same(&self, other: &Json) -> bool {
        self.same_with(other, Floats::Exact)
    }

    /// As [`Json::same`], with another measure for numbers that have a fraction or an exponent.
    pub fn same_with(&self, other: &Json, floats: Floats) -> bool {
        compare::same(self.as_str(), other.as_str(), floats)
    }

    /// Whether there is a number with a fraction or an exponent in it.
    pub fn has_float(&self) -> bool {
        compare::has_float(self.as_str())
    }
}

impl PartialEq for Json {
    fn eq(&self, other: &Json) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Json {}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl serde::Serialize for Json {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(to)
    }
}

impl<'de> serde::Deserialize<'de> for Json {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Json, D::Error> {
        Ok(Json(<Box<RawValue>>::deserialize(from)?.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_spaces_do_not_change_what_a_value_means() {
        let json = |text| Json::parse(text).unwrap();
        assert!(json(r#"{"a":1,"b":[2]}"#).same(&json(r#"{ "b" : [2], "a" : 1 }"#)));
        assert!(!json(r#"{"a":1}"#).same(&json(r#"{"a":2}"#)));
        assert!(!json("[1,2]").same(&json("[2,1]")));
        assert!(Json::parse("{} {}").is_err());
    }

    #[test]
    fn floats_come_back_bit_for_bit() {
        for float in [51.248178375505404, -93.31137037688033, 0.9856906946328695, -0.0, 5e-324] {
            let back: f64 = Json::of(&float).unwrap().decode().unwrap();
            assert_eq!(back.to_bits(), f64::to_bits(float), "{float} came back as {back}");
        }
        let back: f32 = Json::of(&0.1_f32).unwrap().decode().unwrap();
        assert_eq!(back.to_bits(), 0.1_f32.to_bits());
    }

    #[test]
    fn a_value_is_carried_as_it_was_written() {
        let text = r#"{"x":1.50,"y":12345678901234567890123}"#;
        let carried = serde_json::to_string(&vec![Json::parse(text).unwrap()]).unwrap();
        assert_eq!(carried, format!("[{text}]"));
    }
}
