//! The parameters of an address: known names only, each value checked. Pure.

use std::str::FromStr;

use tidemill_model::{Error, ErrorKind};

/// What stands after the `?` of an address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Params(Vec<(String, String)>);

impl Params {
    /// Reads a query; a value that is empty counts as left out, as forms send it.
    ///
    /// # Errors
    /// `Invalid` for a name that is none of `known`.
    pub fn read(query: &str, known: &[&str]) -> Result<Params, Error> {
        let mut pairs = Vec::new();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            if !known.contains(&name.as_ref()) {
                let message =
                    format!("there is no parameter `{name}` here: use {}", known.join(", "));
                return Err(Error::new(ErrorKind::Invalid, message));
            }
            if !value.is_empty() {
                pairs.push((name.into_owned(), value.into_owned()));
            }
        }
        Ok(Params(pairs))
    }

    /// The first value of a name.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// All values of a name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// The first value of a name, read.
    ///
    /// # Errors
    /// `Invalid` if it is not what it has to be.
    pub fn get<T>(&self, name: &str) -> Result<Option<T>, Error>
    where
        T: FromStr,
        T::Err: std::fmt::Display,
    {
        let read = |value: &str| value.parse().map_err(|e| invalid(name, value, &e));
        self.text(name).map(read).transpose()
    }

    /// The first value of a name, which must be one of these words.
    ///
    /// # Errors
    /// `Invalid` if it is not.
    pub fn one_of<T: Copy>(&self, name: &str, words: &[(&str, T)]) -> Result<Option<T>, Error> {
        let Some(value) = self.text(name) else { return Ok(None) };
        let found = words.iter().find(|(word, _)| *word == value);
        let all = || words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
        let found = found.ok_or_else(|| invalid(name, value, &format_args!("use {}", all())))?;
        Ok(Some(found.1))
    }
}

fn invalid(name: &str, value: &str, why: &dyn std::fmt::Display) -> Error {
    Error::new(ErrorKind::Invalid, format!("{name} `{value}`: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_is_known_and_read_or_refused() {
        let params = Params::read("a=1&b=x%20y&a=2&c=", &["a", "b", "c"]).unwrap();
        assert_eq!(params.get::<u32>("a").unwrap(), Some(1));
        assert_eq!(params.all("a").collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!((params.text("b"), params.text("c")), (Some("x y"), None));
        let error = params.get::<u32>("b").unwrap_err().to_string();
        assert!(error.starts_with("b `x y`: "), "{error}");
        let error = params.one_of("a", &[("up", 1), ("down", 2)]).unwrap_err().to_string();
        assert_eq!(error, "a `1`: use up, down");
        let error = Params::read("z=1", &["a"]).unwrap_err().to_string();
        assert_eq!(error, "there is no parameter `z` here: use a");
    }
}
