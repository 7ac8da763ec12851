//! JSON values as the text that is recorded.

use std::fmt;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

/// A JSON value, kept as its text: written once, copied without being parsed.
///
/// `==` compares texts. Whether two values mean the same is [`Json::same`].
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Json(Arc<str>);

impl Json {
    /// The JSON of `value`.
    ///
    /// # Errors
    /// What serde says when `value` has no JSON, such as a map whose keys are not strings.
    pub fn of<T: serde::Serialize + ?Sized>(value: &T) -> Result<Json, serde_json::Error> {
        Ok(Json(serde_json::to_string(value)?.into()))
    }

    /// Checks that `text` is one JSON value.
    ///
    /// # Errors
    /// What serde says, with line and column.
    pub fn parse(text: &str) -> Result<Json, serde_json::Error> {
        let raw: &RawValue = serde_json::from_str(text)?;
        Ok(Json(raw.get().into()))
    }

    /// `null`.
    pub fn null() -> Json {
        Json("null".into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Reads the value as a `T`.
    ///
    /// # Errors
    /// What serde says when the value is not a `T`.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(&self.0)
    }

    /// Whether both mean the same value: the order of an object's fields does not matter.
    pub fn same(&self, other: &Json) -> bool {
        let tree = |json: &Json| serde_json::from_str::<serde_json::Value>(&json.0);
        if self.0 == other.0 {
            return true;
        }
        match (tree(self), tree(other)) {
            (Ok(mine), Ok(theirs)) => mine == theirs,
            (Err(_), _) | (_, Err(_)) => false,
        }
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl serde::Serialize for Json {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_str(&self.0).map_err(serde::ser::Error::custom)?;
        raw.serialize(to)
    }
}

impl<'de> serde::Deserialize<'de> for Json {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Json, D::Error> {
        let raw = <Box<RawValue>>::deserialize(from)?;
        Ok(Json(raw.get().into()))
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
    fn a_value_is_carried_as_it_was_written() {
        let text = r#"{"x":1.50,"y":12345678901234567890123}"#;
        let carried = serde_json::to_string(&vec![Json::parse(text).unwrap()]).unwrap();
        assert_eq!(carried, format!("[{text}]"));
    }
}
