//! Query strings: each parameter must be known, appear once, and be valid.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use axum::http::Uri;

use super::error::ApiError;
use super::reference::Route;

/// The one parameter that may be given several times.
const LABEL: &str = "label";

/// The parameters of a request.
#[derive(Debug)]
pub(crate) struct Params {
    once: BTreeMap<String, String>,
    labels: Vec<String>,
}

impl Params {
    /// Reads the query of `uri`, which may have only the parameters that the table gives the route.
    pub(crate) fn read(uri: &Uri, route: Route) -> Result<Params, ApiError> {
        Params::of(uri, &route.parameters())
    }

    fn of(uri: &Uri, known: &[&str]) -> Result<Params, ApiError> {
        let query: axum::extract::Query<Vec<(String, String)>> =
            axum::extract::Query::try_from_uri(uri)
                .map_err(|e| ApiError::invalid(format!("the query cannot be read: {e}")))?;
        let (mut params, mut labels) = (BTreeMap::new(), Vec::new());
        for (name, value) in query.0 {
            if !known.contains(&name.as_str()) {
                let known = known.join(", ");
                return Err(ApiError::invalid(format!(
                    "there is no parameter `{name}` here: use {}",
                    if known.is_empty() { "none" } else { &known }
                )));
            }
            if name == LABEL {
                labels.push(value);
            } else if params.insert(name.clone(), value).is_some() {
                return Err(ApiError::invalid(format!("the parameter `{name}` is given twice")));
            }
        }
        Ok(Params { once: params, labels })
    }

    /// A parameter as a `T`; `None` if it is absent or empty.
    pub(crate) fn get<T: FromStr<Err: std::fmt::Display>>(
        &self,
        name: &str,
    ) -> Result<Option<T>, ApiError> {
        let Some(text) = self.once.get(name).filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        let bad = |e| ApiError::invalid(format!("the parameter `{name}` is wrong: {e}"));
        text.parse().map(Some).map_err(bad)
    }

    /// The labels that a list is filtered by, `label=NAME=VALUE`, each with its value.
    pub(crate) fn labels(&self) -> Result<Vec<(String, String)>, ApiError> {
        let pair = |label: &String| match label.split_once('=') {
            Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
            _ => {
                let why = "the parameter `label` is wrong: use label=NAME=VALUE, such as \
                           label=team=ml";
                Err(ApiError::invalid(why))
            }
        };
        self.labels.iter().map(pair).collect()
    }

    /// A limit from 1 to `max`.
    pub(crate) fn limit(&self, default: u32, max: u32) -> Result<u32, ApiError> {
        let bad = || ApiError::invalid(format!("the parameter `limit` is wrong: use 1 to {max}"));
        let Some(text) = self.once.get("limit").filter(|text| !text.is_empty()) else {
            return Ok(default);
        };
        text.parse().ok().filter(|limit| (1..=max).contains(limit)).ok_or_else(bad)
    }

    /// A duration such as `30s`, `500ms` or `2m`, up to `max`.
    pub(crate) fn duration(&self, name: &str, max: Duration) -> Result<Option<Duration>, ApiError> {
        let Some(text) = self.once.get(name).filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        let bad = || {
            ApiError::invalid(format!(
                "the parameter `{name}` is wrong: use a time such as 500ms, 30s or 2m, up to {}s",
                max.as_secs()
            ))
        };
        let duration = duration(text).filter(|duration| *duration <= max);
        duration.map(Some).ok_or_else(bad)
    }
}

/// A time such as `500ms`, `30s` or `2m`.
pub(in crate::node) fn duration(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_secs(number.checked_mul(60)?)),
        "h" => Some(Duration::from_secs(number.checked_mul(3_600)?)),
        "d" => Some(Duration::from_secs(number.checked_mul(86_400)?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(query: &str) -> Result<Params, ApiError> {
        let uri: Uri = format!("/v1/runs?{query}").parse().unwrap();
        Params::of(&uri, &["limit", "wait"])
    }

    #[test]
    fn what_is_unknown_twice_or_out_of_range_is_refused() {
        let message = |query: &str| {
            let read = params(query).and_then(|params| {
                params.limit(10, 100)?;
                params.duration("wait", Duration::from_secs(60))
            });
            read.unwrap_err().to_json()
        };
        assert!(message("stats=x").contains("no parameter `stats` here: use limit, wait"));
        assert!(message("limit=1&limit=2").contains("`limit` is given twice"));
        for bad in ["limit=0", "limit=101", "limit=-1", "limit=x"] {
            assert!(message(bad).contains("use 1 to 100"), "{bad}");
        }
        for bad in ["wait=30", "wait=61s", "wait=-1s", "wait=1h", "wait=s"] {
            assert!(message(bad).contains("such as 500ms, 30s or 2m, up to 60s"), "{bad}");
        }
    }

    #[test]
    fn a_parameter_that_is_empty_is_not_given() {
        let params = params("limit=&wait=").unwrap();
        assert_eq!(params.limit(10, 100).unwrap(), 10);
        assert_eq!(params.duration("wait", Duration::from_secs(60)).unwrap(), None);
        let read = |text| duration(text);
        assert_eq!(read("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(read("2m"), Some(Duration::from_secs(120)));
    }
}
