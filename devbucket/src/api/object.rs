//! Requests for one object.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;

use hyper::header::{ETAG, HeaderMap, HeaderValue};
use s3s::dto::{
    CopyObjectInput, CopyObjectOutput, CopyObjectResult, CopySource, DeleteObjectInput,
    DeleteObjectOutput, DeleteObjectsInput, DeleteObjectsOutput, DeletedObject, ETagCondition,
    Error as DeleteError, GetObjectInput, GetObjectOutput, HeadObjectInput, HeadObjectOutput,
    MetadataDirective, PutObjectInput, PutObjectOutput, StreamingBlob, Timestamp,
};
use s3s::{Body, S3Error, S3Request, S3Response, S3Result, s3_error};
use tokio::io::AsyncReadExt as _;
use tokio_util::io::ReaderStream;

use super::Answer;
use super::answer::{blocking, etag, refusal, signed, timestamp};
use crate::conditions::{OnRead, OnWrite};
use crate::object::{Checksums, Headers, Object};
use crate::receive::{Claims, receive};
use crate::store::{Error, Refused, Store, Stored};

/// A body of at most this many bytes is read at once.
const AT_ONCE: u64 = 1 << 20;
/// The longest key, as at AWS.
const LONGEST_KEY: usize = 1024;

pub(super) async fn put(store: &Store, req: S3Request<PutObjectInput>) -> Answer<PutObjectOutput> {
    let input = req.input;
    let claims = Claims {
        md5: input.content_md5,
        checksums: Checksums {
            crc32: input.checksum_crc32,
            crc32c: input.checksum_crc32c,
            crc64nvme: input.checksum_crc64nvme,
            sha1: input.checksum_sha1,
            sha256: input.checksum_sha256,
        },
        algorithm: input.checksum_algorithm,
        announced: header(&req.headers, "x-amz-trailer"),
        trailing: req.trailing_headers,
    };
    let received = receive(store, input.body, claims).await?;
    check_key(&input.key)?;
    let object = Object {
        key: input.key,
        etag: received.etag,
        headers: Headers {
            content_type: input.content_type,
            content_encoding: stored_encoding(input.content_encoding),
            content_disposition: input.content_disposition,
            content_language: input.content_language,
            cache_control: input.cache_control,
        },
        metadata: input.metadata.unwrap_or_default().into_iter().collect(),
        checksums: received.checksums,
        ..Object::default()
    };
    let conditions = OnWrite { if_match: input.if_match, if_none_match: input.if_none_match };
    let (store, bucket) = (store.clone(), input.bucket);
    let stored = blocking(move || store.put(&bucket, received.draft, object, &conditions)).await?;
    let sums = stored.object.checksums.clone();
    Ok(S3Response::new(PutObjectOutput {
        e_tag: Some(etag(&stored.object.etag)),
        checksum_crc32: sums.crc32,
        checksum_crc32c: sums.crc32c,
        checksum_crc64nvme: sums.crc64nvme,
        checksum_sha1: sums.sha1,
        checksum_sha256: sums.sha256,
        ..Default::default()
    }))
}

pub(super) fn check_key(key: &str) -> S3Result<()> {
    if key.len() > LONGEST_KEY {
        return Err(s3_error!(KeyTooLongError, "a key has at most {LONGEST_KEY} bytes"));
    }
    Ok(())
}

pub(super) fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

/// `aws-chunked` says how the body was sent. It is not a property of the object.
pub(super) fn stored_encoding(encoding: Option<String>) -> Option<String> {
    let kept: Vec<String> = encoding?
        .split(',')
        .map(|coding| coding.trim().to_owned())
        .filter(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case("aws-chunked"))
        .collect();
    (!kept.is_empty()).then(|| kept.join(","))
}

pub(super) async fn get(store: &Store, input: GetObjectInput) -> Answer<GetObjectOutput> {
    let conditions = OnRead {
        if_match: input.if_match,
        if_none_match: input.if_none_match,
        if_modified_since: input.if_modified_since.map(time),
        if_unmodified_since: input.if_unmodified_since.map(time),
    };
    let store = store.clone();
    let (stored, mut file) = blocking(move || store.open_object(&input.bucket, &input.key)).await?;
    let object = &stored.object;
    check_read(&conditions, object)?;
    let range = span(input.range, object.size)?;
    file.seek(SeekFrom::Start(range.start)).map_err(S3Error::internal_error)?;
    let whole = range == (0..object.size);
    let length = range.end - range.start;
    let content_range =
        input.range.map(|_| format!("bytes {}-{}/{}", range.start, range.end - 1, object.size));
    let sums = input.checksum_mode.filter(|_| whole).map(|_| object.checksums.clone());
    let sums = sums.unwrap_or_default();
    let headers = object.headers.clone();
    Ok(S3Response::new(GetObjectOutput {
        accept_ranges: Some("bytes".to_owned()),
        body: Some(body(file, &stored, length).await?),
        cache_control: input.response_cache_control.or(headers.cache_control),
        checksum_crc32: sums.crc32,
        checksum_crc32c: sums.crc32c,
        checksum_crc64nvme: sums.crc64nvme,
        checksum_sha1: sums.sha1,
        checksum_sha256: sums.sha256,
        content_disposition: input.response_content_disposition.or(headers.content_disposition),
        content_encoding: input.response_content_encoding.or(headers.content_encoding),
        content_language: input.response_content_language.or(headers.content_language),
        content_length: Some(signed(length)),
        content_range,
        content_type: input.response_content_type.or(headers.content_type),
        e_tag: Some(etag(&object.etag)),
        last_modified: Some(timestamp(object.modified)),
        metadata: Some(object.metadata.clone().into_iter().collect()),
        ..Default::default()
    }))
}

/// The bytes that a request asks for. An empty object has no range that could be read.
fn span(asked: Option<s3s::dto::Range>, size: u64) -> S3Result<Range<u64>> {
    let Some(asked) = asked else { return Ok(0..size) };
    let span = asked.check(size).ok().filter(|span| !span.is_empty());
    span.ok_or_else(|| s3_error!(InvalidRange, "the object has {size} bytes"))
}

fn time(timestamp: Timestamp) -> SystemTime {
    time::OffsetDateTime::from(timestamp).into()
}

fn check_read(conditions: &OnRead, object: &Object) -> S3Result<()> {
    conditions.check(object).map_err(|unmet| {
        let mut error = refusal(Refused::Unmet(unmet));
        let value = HeaderValue::try_from(format!("\"{}\"", object.etag));
        if let Ok(value) = value {
            error.set_headers([(ETAG, value)].into_iter().collect());
        }
        error
    })
}

async fn body(mut file: File, stored: &Arc<Stored>, length: u64) -> S3Result<StreamingBlob> {
    if length > AT_ONCE {
        let file = tokio::fs::File::from_std(file).take(length);
        return Ok(StreamingBlob::wrap(ReaderStream::with_capacity(file, 256 << 10)));
    }
    let path = stored.path.clone();
    let bytes = blocking(move || {
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        file.read_exact(&mut bytes).map_err(Error::disk("read", &path))?;
        Ok(bytes)
    })
    .await?;
    Ok(StreamingBlob::from(Body::from(bytes)))
}

pub(super) fn head(store: &Store, input: HeadObjectInput) -> Answer<HeadObjectOutput> {
    let stored = store.head(&input.bucket, &input.key).map_err(refusal)?;
    let object = &stored.object;
    let conditions = OnRead {
        if_match: input.if_match,
        if_none_match: input.if_none_match,
        if_modified_since: input.if_modified_since.map(time),
        if_unmodified_since: input.if_unmodified_since.map(time),
    };
    check_read(&conditions, object)?;
    let Range { start, end } = span(input.range, object.size)?;
    let sums = input.checksum_mode.map(|_| object.checksums.clone()).unwrap_or_default();
    let headers = object.headers.clone();
    Ok(S3Response::new(HeadObjectOutput {
        accept_ranges: Some("bytes".to_owned()),
        cache_control: headers.cache_control,
        checksum_crc32: sums.crc32,
        checksum_crc32c: sums.crc32c,
        checksum_crc64nvme: sums.crc64nvme,
        checksum_sha1: sums.sha1,
        checksum_sha256: sums.sha256,
        content_disposition: headers.content_disposition,
        content_encoding: headers.content_encoding,
        content_language: headers.content_language,
        content_length: Some(signed(end - start)),
        content_type: headers.content_type,
        e_tag: Some(etag(&object.etag)),
        last_modified: Some(timestamp(object.modified)),
        metadata: Some(object.metadata.clone().into_iter().collect()),
        ..Default::default()
    }))
}

pub(super) async fn copy(store: &Store, input: CopyObjectInput) -> Answer<CopyObjectOutput> {
    let CopySource::Bucket { bucket, key, .. } = input.copy_source else {
        return Err(s3_error!(NotImplemented, "a copy is made from a bucket of this server only"));
    };
    let conditions = OnRead {
        if_match: input.copy_source_if_match,
        if_none_match: input.copy_source_if_none_match,
        if_modified_since: input.copy_source_if_modified_since.map(time),
        if_unmodified_since: input.copy_source_if_unmodified_since.map(time),
    };
    let replaced = input.metadata_directive.as_ref().map(MetadataDirective::as_str)
        == Some(MetadataDirective::REPLACE);
    let (metadata, content_type) = (input.metadata, input.content_type);
    let store = store.clone();
    check_key(&input.key)?;
    let stored = blocking(move || {
        let (source, mut file) = store.open_object(&bucket, &key)?;
        // As in S3, a copy whose source is not modified fails.
        conditions.check(&source.object).map_err(|_| crate::conditions::Unmet::Failed)?;
        let mut object = Object { key: input.key, ..source.object.clone() };
        if replaced {
            object.metadata = metadata.unwrap_or_default().into_iter().collect();
            object.headers = Headers { content_type, ..Headers::default() };
        }
        let mut draft = store.inner.folder.draft()?;
        draft
            .append_body(&mut file, source.object.size)
            .map_err(Error::disk("read", &source.path))?;
        store.put(&input.bucket, draft, object, &OnWrite::default())
    })
    .await?;
    let result = CopyObjectResult {
        e_tag: Some(etag(&stored.object.etag)),
        last_modified: Some(timestamp(stored.object.modified)),
        ..Default::default()
    };
    Ok(S3Response::new(CopyObjectOutput { copy_object_result: Some(result), ..Default::default() }))
}

pub(super) async fn delete(store: &Store, input: DeleteObjectInput) -> Answer<DeleteObjectOutput> {
    if input.if_match_last_modified_time.is_some() || input.if_match_size.is_some() {
        return Err(s3_error!(NotImplemented, "a delete takes If-Match only"));
    }
    let store = store.clone();
    blocking(move || store.delete(&input.bucket, &input.key, input.if_match.as_ref())).await?;
    Ok(S3Response::new(DeleteObjectOutput::default()))
}

pub(super) async fn delete_many(
    store: &Store,
    input: DeleteObjectsInput,
) -> Answer<DeleteObjectsOutput> {
    store.check_bucket(&input.bucket).map_err(refusal)?;
    let quiet = input.delete.quiet.unwrap_or(false);
    let (mut deleted, mut errors) = (Vec::new(), Vec::new());
    for wanted in input.delete.objects {
        let (store, bucket, key) = (store.clone(), input.bucket.clone(), wanted.key.clone());
        let condition = wanted.e_tag.map(ETagCondition::ETag);
        match blocking(move || store.delete(&bucket, &key, condition.as_ref())).await {
            Ok(()) => deleted.push(DeletedObject { key: Some(wanted.key), ..Default::default() }),
            Err(error) => errors.push(DeleteError {
                code: Some(error.code().as_str().to_owned()),
                key: Some(wanted.key),
                message: error.message().map(str::to_owned),
                version_id: None,
            }),
        }
    }
    Ok(S3Response::new(DeleteObjectsOutput {
        deleted: (!quiet).then_some(deleted),
        errors: (!errors.is_empty()).then_some(errors),
        ..Default::default()
    }))
}

#[cfg(test)]
mod tests {
    use s3s::dto::Range as Asked;

    use super::*;

    #[test]
    fn a_range_is_cut_to_the_object_and_none_is_had_of_an_empty_one() {
        let last = |length| Some(Asked::Suffix { length });
        assert_eq!(span(None, 0).unwrap(), 0..0);
        assert_eq!(span(last(30), 10).unwrap(), 0..10);
        assert_eq!(span(Some(Asked::Int { first: 2, last: None }), 10).unwrap(), 2..10);
        for (asked, size) in [(last(5), 0), (Some(Asked::Int { first: 10, last: None }), 10)] {
            assert_eq!(span(asked, size).unwrap_err().code().as_str(), "InvalidRange");
        }
    }
}
