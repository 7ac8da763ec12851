//! Whether a conditional request may go on, given what is stored under its key. Pure.

use std::time::SystemTime;

use s3s::dto::ETagCondition;

use crate::object::Object;

/// Why a conditional request may not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unmet {
    /// 412: the object is not what the request asks for.
    Failed,
    /// 404: `If-Match` on a write whose key has no object.
    NoObject,
    /// 304: the reader has this object already.
    NotModified,
    /// 501: S3 knows only `If-None-Match: *` on a write.
    Unsupported,
}

/// The conditions of a write.
#[derive(Debug, Default)]
pub(crate) struct OnWrite {
    pub(crate) if_match: Option<ETagCondition>,
    pub(crate) if_none_match: Option<ETagCondition>,
}

impl OnWrite {
    /// Whether a write may replace `current`.
    pub(crate) fn check(&self, current: Option<&Object>) -> Result<(), Unmet> {
        match &self.if_none_match {
            None => {}
            Some(ETagCondition::Any) if current.is_some() => return Err(Unmet::Failed),
            Some(ETagCondition::Any) => {}
            Some(ETagCondition::ETag(_)) => return Err(Unmet::Unsupported),
        }
        match (&self.if_match, current) {
            (None, _) => Ok(()),
            (Some(_), None) => Err(Unmet::NoObject),
            (Some(wanted), Some(object)) if matches(wanted, object) => Ok(()),
            (Some(_), Some(_)) => Err(Unmet::Failed),
        }
    }
}

/// Whether `If-Match` lets a delete of `current` go on. A key without an object is deleted already.
pub(crate) fn check_delete(
    if_match: Option<&ETagCondition>,
    current: Option<&Object>,
) -> Result<(), Unmet> {
    match (if_match, current) {
        (Some(wanted), Some(object)) if !matches(wanted, object) => Err(Unmet::Failed),
        _ => Ok(()),
    }
}

/// The conditions of a read, or of the source of a copy.
#[derive(Debug, Default)]
pub(crate) struct OnRead {
    pub(crate) if_match: Option<ETagCondition>,
    pub(crate) if_none_match: Option<ETagCondition>,
    pub(crate) if_modified_since: Option<SystemTime>,
    pub(crate) if_unmodified_since: Option<SystemTime>,
}

impl OnRead {
    /// Whether to send `object`. A condition on the time counts only without its counterpart on the
    /// ETag (RFC 9110, section 13.2.2).
    pub(crate) fn check(&self, object: &Object) -> Result<(), Unmet> {
        match (&self.if_match, self.if_unmodified_since) {
            (Some(wanted), _) if !matches(wanted, object) => return Err(Unmet::Failed),
            (None, Some(time)) if object.modified() > time => return Err(Unmet::Failed),
            _ => {}
        }
        match (&self.if_none_match, self.if_modified_since) {
            (Some(known), _) if matches(known, object) => Err(Unmet::NotModified),
            (None, Some(time)) if object.modified() <= time => Err(Unmet::NotModified),
            _ => Ok(()),
        }
    }
}

fn matches(wanted: &ETagCondition, object: &Object) -> bool {
    match wanted {
        ETagCondition::Any => true,
        ETagCondition::ETag(etag) => etag.value() == object.etag,
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use s3s::dto::ETag;

    use super::*;

    fn stored() -> Object {
        Object { etag: "now".to_owned(), modified: 100, ..Object::default() }
    }

    fn etag(value: &str) -> Option<ETagCondition> {
        Some(ETagCondition::ETag(ETag::Strong(value.to_owned())))
    }

    #[test]
    fn a_create_only_write_needs_a_free_key() {
        let create = OnWrite { if_none_match: Some(ETagCondition::Any), ..OnWrite::default() };
        assert_eq!(create.check(None), Ok(()));
        assert_eq!(create.check(Some(&stored())), Err(Unmet::Failed));
    }

    #[test]
    fn a_swap_needs_the_object_that_it_names() {
        let swap = |value| OnWrite { if_match: etag(value), ..OnWrite::default() };
        assert_eq!(swap("now").check(Some(&stored())), Ok(()));
        assert_eq!(swap("before").check(Some(&stored())), Err(Unmet::Failed));
        assert_eq!(swap("now").check(None), Err(Unmet::NoObject));
    }

    #[test]
    fn a_write_that_names_an_unwanted_etag_is_refused_as_s3_refuses_it() {
        let write = OnWrite { if_none_match: etag("now"), ..OnWrite::default() };
        assert_eq!(write.check(None), Err(Unmet::Unsupported));
    }

    #[test]
    fn a_delete_compares_only_with_what_is_there() {
        assert_eq!(check_delete(etag("now").as_ref(), Some(&stored())), Ok(()));
        assert_eq!(check_delete(etag("before").as_ref(), Some(&stored())), Err(Unmet::Failed));
        assert_eq!(check_delete(etag("before").as_ref(), None), Ok(()));
    }

    #[test]
    fn an_etag_counts_before_a_time() {
        let at = |seconds| Some(UNIX_EPOCH + Duration::from_secs(seconds));
        let read = OnRead { if_modified_since: at(100), ..OnRead::default() };
        assert_eq!(read.check(&stored()), Err(Unmet::NotModified));
        let read = OnRead { if_none_match: etag("before"), ..read };
        assert_eq!(read.check(&stored()), Ok(()));
        let read = OnRead { if_unmodified_since: at(99), ..OnRead::default() };
        assert_eq!(read.check(&stored()), Err(Unmet::Failed));
        let read = OnRead { if_match: etag("now"), ..read };
        assert_eq!(read.check(&stored()), Ok(()));
    }
}
