//! Listings of a bucket.

use std::sync::Arc;

use s3s::dto::{
    CommonPrefix, EncodingType, ListObjectsInput, ListObjectsOutput, ListObjectsV2Input,
    ListObjectsV2Output, Object as Listed, ObjectStorageClass,
};
use s3s::{S3Response, S3Result, s3_error};

use super::Answer;
use super::answer::{etag, refusal, signed, timestamp};
use crate::listing::{From, Page, Query, resumed, token};
use crate::store::{Store, Stored};

/// The most entries of a page, as at AWS.
const MOST: i32 = 1000;

pub(super) fn objects_v2(store: &Store, input: ListObjectsV2Input) -> Answer<ListObjectsV2Output> {
    let from = match (&input.continuation_token, &input.start_after) {
        (Some(given), _) => resumed(given).ok_or_else(|| {
            s3_error!(InvalidArgument, "the continuation token is not one of ours")
        })?,
        (None, Some(key)) => From::After(key.clone()),
        (None, None) => From::Start,
    };
    let query = Query {
        prefix: input.prefix.as_deref().unwrap_or_default(),
        delimiter: input.delimiter.as_deref().unwrap_or_default(),
        from,
        limit: limit(input.max_keys)?,
    };
    let spelled = Spelling::of(input.encoding_type.as_ref());
    let (contents, prefixes, next) =
        store.list(&input.bucket, &query, |page| spelled.page(page)).map_err(refusal)?;
    Ok(S3Response::new(ListObjectsV2Output {
        name: Some(input.bucket),
        prefix: Some(spelled.text(query.prefix)),
        delimiter: input.delimiter.as_deref().map(|text| spelled.text(text)),
        start_after: input.start_after.as_deref().map(|text| spelled.text(text)),
        max_keys: Some(input.max_keys.unwrap_or(MOST)),
        key_count: i32::try_from(contents.len() + prefixes.len()).ok(),
        continuation_token: input.continuation_token,
        is_truncated: Some(next.is_some()),
        next_continuation_token: next.as_ref().map(token),
        contents: Some(contents),
        common_prefixes: Some(prefixes),
        encoding_type: input.encoding_type,
        request_charged: None,
    }))
}

pub(super) fn objects(store: &Store, input: ListObjectsInput) -> Answer<ListObjectsOutput> {
    let prefix = input.prefix.as_deref().unwrap_or_default();
    let delimiter = input.delimiter.as_deref().unwrap_or_default();
    // A marker that is a rolled-up prefix stands for all keys that begin with it.
    let from = match input.marker.as_deref() {
        None | Some("") => From::Start,
        Some(marker)
            if !delimiter.is_empty()
                && marker.strip_prefix(prefix).is_some_and(|rest| rest.ends_with(delimiter)) =>
        {
            From::AfterPrefix(marker.to_owned())
        }
        Some(marker) => From::After(marker.to_owned()),
    };
    let query = Query { prefix, delimiter, from, limit: limit(input.max_keys)? };
    let spelled = Spelling::of(input.encoding_type.as_ref());
    let (contents, prefixes, next) =
        store.list(&input.bucket, &query, |page| spelled.page(page)).map_err(refusal)?;
    let next_marker = next.as_ref().map(|next| match next {
        From::Start => String::new(),
        From::After(text) | From::AfterPrefix(text) => spelled.text(text),
    });
    Ok(S3Response::new(ListObjectsOutput {
        name: Some(input.bucket),
        prefix: Some(spelled.text(query.prefix)),
        delimiter: input.delimiter.as_deref().map(|text| spelled.text(text)),
        marker: input.marker.as_deref().map(|text| spelled.text(text)),
        max_keys: Some(input.max_keys.unwrap_or(MOST)),
        is_truncated: Some(next.is_some()),
        next_marker,
        contents: Some(contents),
        common_prefixes: Some(prefixes),
        encoding_type: input.encoding_type,
        request_charged: None,
    }))
}

fn limit(asked: Option<i32>) -> S3Result<usize> {
    usize::try_from(asked.unwrap_or(MOST).min(MOST))
        .map_err(|_| s3_error!(InvalidArgument, "max-keys is less than 0"))
}

/// How keys are written in the answer: XML cannot carry every character that a key may have.
#[derive(Clone, Copy)]
enum Spelling {
    Plain,
    Url,
}

type Entries = (Vec<Listed>, Vec<CommonPrefix>, Option<From>);

impl Spelling {
    fn of(asked: Option<&EncodingType>) -> Spelling {
        match asked.map(EncodingType::as_str) {
            Some(EncodingType::URL) => Spelling::Url,
            _ => Spelling::Plain,
        }
    }

    fn text(self, text: &str) -> String {
        match self {
            Spelling::Plain => text.to_owned(),
            Spelling::Url => text
                .bytes()
                .map(|byte| match byte {
                    b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => {
                        char::from(byte).to_string()
                    }
                    _ => format!("%{byte:02X}"),
                })
                .collect(),
        }
    }

    fn page(self, page: &Page<'_, Arc<Stored>>) -> Entries {
        let contents = page.keys.iter().map(|(key, stored)| Listed {
            key: Some(self.text(key)),
            size: Some(signed(stored.object.size)),
            e_tag: Some(etag(&stored.object.etag)),
            last_modified: Some(timestamp(stored.object.modified)),
            storage_class: Some(ObjectStorageClass::from_static(ObjectStorageClass::STANDARD)),
            ..Default::default()
        });
        let prefixes = page.prefixes.iter();
        let prefixes = prefixes.map(|prefix| CommonPrefix { prefix: Some(self.text(prefix)) });
        (contents.collect(), prefixes.collect(), page.next.clone())
    }
}
