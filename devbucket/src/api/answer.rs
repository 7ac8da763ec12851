//! The store's answers in the words of S3.

use std::time::{Duration, UNIX_EPOCH};

use s3s::dto::{ETag, Timestamp};
use s3s::{S3Error, S3Result, s3_error};

use crate::conditions::Unmet;
use crate::store::{Error, Refused};

/// Runs work that waits for the disk on a thread that may block.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refused> + Send + 'static,
) -> S3Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(refusal),
        Err(panicked) => Err(S3Error::internal_error(panicked)),
    }
}

/// The error of S3 that says why a request is refused.
pub(super) fn refusal(refused: Refused) -> S3Error {
    match refused {
        Refused::NoBucket => s3_error!(NoSuchBucket, "there is no such bucket: create it first"),
        Refused::NoKey => s3_error!(NoSuchKey, "there is no object under this key"),
        Refused::NoUpload => s3_error!(NoSuchUpload, "there is no such upload of this key"),
        Refused::BucketExists => s3_error!(BucketAlreadyOwnedByYou, "the bucket is there already"),
        Refused::BucketNotEmpty => s3_error!(BucketNotEmpty, "the bucket has objects"),
        Refused::Unmet(Unmet::Failed) => {
            s3_error!(PreconditionFailed, "the object is not as the condition wants it")
        }
        Refused::Unmet(Unmet::NoObject) => {
            s3_error!(NoSuchKey, "there is no object that If-Match could name")
        }
        Refused::Unmet(Unmet::NotModified) => s3_error!(NotModified),
        Refused::Unmet(Unmet::Unsupported) => {
            s3_error!(NotImplemented, "a write takes If-None-Match: * only")
        }
        Refused::Part(number) => {
            s3_error!(InvalidPart, "part {number} was not uploaded, or has another ETag")
        }
        Refused::PartOrder => {
            s3_error!(InvalidPartOrder, "name at least one part, in the order of their numbers")
        }
        Refused::PartTooSmall(number) => {
            s3_error!(EntityTooSmall, "part {number} is not the last and has less than 5 MiB")
        }
        Refused::Store(Error::BucketName(name)) => {
            s3_error!(InvalidBucketName, "{name:?} cannot be a bucket's name")
        }
        Refused::Store(error) => disk_failed(&error),
        Refused::Broken(why) => s3_error!(InternalError, "{why}"),
    }
}

/// 500, with the reason: the client and its user are on the same machine.
pub(crate) fn disk_failed(error: &Error) -> S3Error {
    s3_error!(InternalError, "{error}")
}

pub(super) fn timestamp(seconds: u64) -> Timestamp {
    Timestamp::from(UNIX_EPOCH + Duration::from_secs(seconds))
}

pub(super) fn etag(etag: &str) -> ETag {
    ETag::Strong(etag.to_owned())
}

/// A count or size in the protocol's own type.
pub(super) fn signed(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}
