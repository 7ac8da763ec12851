//! Multipart uploads.

use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, CompleteMultipartUploadInput,
    CompleteMultipartUploadOutput, CreateMultipartUploadInput, CreateMultipartUploadOutput, ETag,
    ListMultipartUploadsInput, ListMultipartUploadsOutput, ListPartsInput, ListPartsOutput,
    MultipartUpload, Part, UploadPartInput, UploadPartOutput,
};
use s3s::{S3Request, S3Response, s3_error};

use super::Answer;
use super::answer::{blocking, etag, refusal, signed, timestamp};
use super::object::{check_key, header, stored_encoding};
use crate::conditions::OnWrite;
use crate::object::{Checksums, Headers, Object};
use crate::receive::{Claims, receive};
use crate::store::Store;
use crate::uploads::UploadId;

/// The highest number that a part may have, as at AWS.
const MOST_PARTS: i32 = 10_000;

pub(super) async fn begin(
    store: &Store,
    input: CreateMultipartUploadInput,
) -> Answer<CreateMultipartUploadOutput> {
    check_key(&input.key)?;
    let object = Object {
        key: input.key.clone(),
        headers: Headers {
            content_type: input.content_type,
            content_encoding: stored_encoding(input.content_encoding),
            content_disposition: input.content_disposition,
            content_language: input.content_language,
            cache_control: input.cache_control,
        },
        metadata: input.metadata.unwrap_or_default().into_iter().collect(),
        ..Object::default()
    };
    let (store, bucket) = (store.clone(), input.bucket.clone());
    let id = blocking(move || store.begin_upload(&bucket, object)).await?;
    Ok(S3Response::new(CreateMultipartUploadOutput {
        bucket: Some(input.bucket),
        key: Some(input.key),
        upload_id: Some(id),
        ..Default::default()
    }))
}

pub(super) async fn part(
    store: &Store,
    req: S3Request<UploadPartInput>,
) -> Answer<UploadPartOutput> {
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
    if !(1..=MOST_PARTS).contains(&input.part_number) {
        return Err(s3_error!(InvalidArgument, "a part's number is 1 to {MOST_PARTS}"));
    }
    let sums = received.checksums.clone();
    let sum = etag(&received.etag);
    let part = Object {
        key: input.key.clone(),
        etag: received.etag,
        checksums: received.checksums,
        ..Object::default()
    };
    let store = store.clone();
    blocking(move || {
        let id = UploadId { bucket: &input.bucket, key: &input.key, id: &input.upload_id };
        store.put_part(&id, input.part_number, received.draft, part)
    })
    .await?;
    Ok(S3Response::new(UploadPartOutput {
        e_tag: Some(sum),
        checksum_crc32: sums.crc32,
        checksum_crc32c: sums.crc32c,
        checksum_crc64nvme: sums.crc64nvme,
        checksum_sha1: sums.sha1,
        checksum_sha256: sums.sha256,
        ..Default::default()
    }))
}

pub(super) async fn complete(
    store: &Store,
    input: CompleteMultipartUploadInput,
) -> Answer<CompleteMultipartUploadOutput> {
    let named = input.multipart_upload.and_then(|upload| upload.parts).unwrap_or_default();
    let wanted: Option<Vec<(i32, Option<String>)>> = named
        .into_iter()
        .map(|part| Some((part.part_number?, part.e_tag.map(|etag: ETag| etag.value().to_owned()))))
        .collect();
    let wanted = wanted.ok_or_else(|| s3_error!(MalformedXML, "a part has no number"))?;
    let conditions = OnWrite { if_match: input.if_match, if_none_match: input.if_none_match };
    let location = format!("/{}/{}", input.bucket, input.key);
    let (bucket, key) = (input.bucket.clone(), input.key.clone());
    let store = store.clone();
    let stored = blocking(move || {
        let id = UploadId { bucket: &input.bucket, key: &input.key, id: &input.upload_id };
        store.complete_upload(&id, &wanted, &conditions)
    })
    .await?;
    Ok(S3Response::new(CompleteMultipartUploadOutput {
        bucket: Some(bucket),
        key: Some(key),
        location: Some(location),
        e_tag: Some(etag(&stored.object.etag)),
        ..Default::default()
    }))
}

pub(super) async fn abort(
    store: &Store,
    input: AbortMultipartUploadInput,
) -> Answer<AbortMultipartUploadOutput> {
    let store = store.clone();
    blocking(move || {
        let id = UploadId { bucket: &input.bucket, key: &input.key, id: &input.upload_id };
        store.abort_upload(&id)
    })
    .await?;
    Ok(S3Response::new(AbortMultipartUploadOutput::default()))
}

pub(super) fn parts(store: &Store, input: ListPartsInput) -> Answer<ListPartsOutput> {
    let id = UploadId { bucket: &input.bucket, key: &input.key, id: &input.upload_id };
    let all = store.parts(&id).map_err(refusal)?;
    let after = input.part_number_marker.unwrap_or(0);
    let limit = input.max_parts.unwrap_or(1000).clamp(0, 1000);
    let limit = usize::try_from(limit).unwrap_or(0);
    let mut rest: Vec<_> = all.into_iter().filter(|(number, _)| *number > after).collect();
    let more = rest.len() > limit;
    rest.truncate(limit);
    let last = rest.last().map(|(number, _)| *number);
    let parts = rest.into_iter().map(|(number, part)| Part {
        part_number: Some(number),
        e_tag: Some(etag(&part.object.etag)),
        size: Some(signed(part.object.size)),
        last_modified: Some(timestamp(part.object.modified)),
        ..Default::default()
    });
    Ok(S3Response::new(ListPartsOutput {
        parts: Some(parts.collect()),
        is_truncated: Some(more),
        next_part_number_marker: last.filter(|_| more),
        part_number_marker: input.part_number_marker,
        max_parts: input.max_parts,
        bucket: Some(input.bucket),
        key: Some(input.key),
        upload_id: Some(input.upload_id),
        ..Default::default()
    }))
}

pub(super) fn list(
    store: &Store,
    input: ListMultipartUploadsInput,
) -> Answer<ListMultipartUploadsOutput> {
    let prefix = input.prefix.clone().unwrap_or_default();
    let all = store.list_uploads(&input.bucket).map_err(refusal)?;
    let uploads = all.into_iter().filter(|(_, object)| object.key.starts_with(&prefix));
    let uploads = uploads.map(|(id, object)| MultipartUpload {
        upload_id: Some(id),
        initiated: Some(timestamp(object.modified)),
        key: Some(object.key),
        ..Default::default()
    });
    Ok(S3Response::new(ListMultipartUploadsOutput {
        uploads: Some(uploads.collect()),
        bucket: Some(input.bucket),
        prefix: input.prefix,
        is_truncated: Some(false),
        ..Default::default()
    }))
}
