//! One bucket: reads, listings, and writes that succeed only if no other writer came first.
//!
//! Every request has a deadline. Reads and listings are tried again by the SDK; a conditional
//! write is sent exactly once, because only its caller can tell a lost race from its own write
//! whose answer was lost: it reads the object back and looks for its own nonce.
//!
//! On failure: a [`Put::Ambiguous`] write may or may not have happened; every `Err` of a
//! conditional write means that it did not. On cancellation: dropping a write's future leaves it
//! as ambiguous as a timeout. A `Store` owns its HTTP connections, which live on the runtime that
//! first used them: a thread with a runtime of its own connects for itself.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{
    RequestChecksumCalculation, ResponseChecksumValidation, SharedCredentialsProvider,
};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::ByteStream;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use bytes::Bytes;
use tidemill_model::{ETag, Timestamp};

use crate::answer_date::{AnswerDate, timestamp};
use crate::error::{Error, ErrorKind};
use crate::failure::{ObjectAddress, RequestFailure, classify};
use crate::settings::{self, Credentials, Settings};

/// How often a read or a page of a listing is sent before the call fails.
const READ_ATTEMPTS_MAX: u32 = 3;

/// How long opening a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// A page of a listing has up to 1,000 objects; an hour of a busy node has 14,400. A listing of
/// over 5 million objects is not Tidemill's.
const PAGES_MAX: usize = 5_000;

/// A bucket. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    reads: Client,
    single: Client,
    place: ObjectAddress,
    region: String,
    timeout: Duration,
    provider: SharedCredentialsProvider,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("place", &self.inner.place).finish_non_exhaustive()
    }
}

/// An object's content and version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// The content.
    pub body: Bytes,
    /// The version.
    pub etag: ETag,
    /// When S3 received it, by S3's clock, to the second.
    pub written_at: Option<Timestamp>,
    /// When S3 answered, by S3's clock, to the second.
    pub read_at: Option<Timestamp>,
}

/// How a conditional write ended.
#[derive(Debug)]
pub enum Put {
    /// It happened; this is the new version.
    Written(ETag),
    /// It did not happen: the object is not what the condition said.
    Lost,
    /// Unknown: there was no answer, or an unclear one. Read the object back.
    Ambiguous(Error),
}

/// An object of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The whole key.
    pub key: String,
    /// The size in bytes.
    pub size: u64,
    /// When S3 received it, by S3's clock.
    pub modified: Timestamp,
}

impl Store {
    /// Connects to `bucket`: resolves endpoint, region and credentials. Sends nothing to S3 yet;
    /// see [`Store::check`].
    ///
    /// # Errors
    /// `Invalid` without credentials or with an unusable endpoint.
    pub async fn connect(bucket: &str, settings: &Settings) -> Result<Store, Error> {
        let resolved = settings::resolve(settings).await?;
        let keys = settings::credentials(&resolved.provider);
        tokio::time::timeout(settings.request_timeout, keys).await.map_err(|_| {
            let message = "the credentials provider does not answer: set AWS_ACCESS_KEY_ID and \
                           AWS_SECRET_ACCESS_KEY, or a profile";
            Error::new(ErrorKind::Invalid, message)
        })??;
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT_TIMEOUT.min(settings.request_timeout))
            .operation_attempt_timeout(settings.request_timeout)
            .build();
        let mut config = aws_sdk_s3::config::Builder::from(&resolved.sdk);
        config.set_endpoint_url(resolved.endpoint.clone());
        let config = config
            .force_path_style(resolved.endpoint.is_some())
            // Servers other than AWS do not all know the newer checksums; TLS and Litestream's own
            // checksums guard the content.
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .timeout_config(timeouts);
        let retries = RetryConfig::standard().with_max_attempts(READ_ATTEMPTS_MAX);
        let reads = config.clone().retry_config(retries).build();
        let single = config.retry_config(RetryConfig::disabled()).build();
        let inner = Inner {
            reads: Client::from_conf(reads),
            single: Client::from_conf(single),
            place: ObjectAddress { bucket: bucket.to_owned(), endpoint: resolved.endpoint },
            region: resolved.region,
            timeout: settings.request_timeout,
            provider: resolved.provider,
        };
        Ok(Store { inner: Arc::new(inner) })
    }

    /// The bucket's name.
    pub fn bucket(&self) -> &str {
        &self.inner.place.bucket
    }

    /// The address of the S3 server; `None` for AWS itself.
    pub fn endpoint(&self) -> Option<&str> {
        self.inner.place.endpoint.as_deref()
    }

    /// The region that requests are signed for.
    pub fn region(&self) -> &str {
        &self.inner.region
    }

    /// The credentials that the chain gives now, for a child process.
    ///
    /// # Errors
    /// `Invalid` if there are none any more.
    pub async fn credentials(&self) -> Result<Credentials, Error> {
        settings::credentials(&self.inner.provider).await
    }

    /// Whether the bucket can be reached and listed.
    ///
    /// # Errors
    /// `NotFound` if the bucket does not exist, `Invalid` for refused credentials or another
    /// region's bucket, `Unavailable` if there is no answer. Each says what to do.
    pub async fn check(&self) -> Result<(), Error> {
        let request = self.inner.single.list_objects_v2().bucket(self.bucket()).max_keys(1);
        self.within("list the bucket", async { request.send().await.map_err(Sent::of) })
            .await
            .map(drop)
            .map_err(|failure| self.error("list the bucket", &failure))
    }

    /// Reads an object.
    ///
    /// # Errors
    /// `NotFound` if it does not exist; else as [`Store::check`].
    pub async fn get(&self, key: &str) -> Result<Object, Error> {
        self.get_by(&self.inner.reads, key, READ_ATTEMPTS_MAX).await
    }

    /// Reads an object with one request that is not tried again, for callers with a deadline of
    /// their own.
    ///
    /// # Errors
    /// As [`Store::get`].
    pub async fn get_once(&self, key: &str) -> Result<Object, Error> {
        self.get_by(&self.inner.single, key, 1).await
    }

    /// Reads an object that may not exist; an absent bucket is still an error.
    ///
    /// # Errors
    /// As [`Store::check`].
    pub async fn find(&self, key: &str) -> Result<Option<Object>, Error> {
        self.find_by(&self.inner.reads, key, READ_ATTEMPTS_MAX).await
    }

    /// [`Store::find`] with one request that is not tried again.
    ///
    /// # Errors
    /// As [`Store::check`].
    pub async fn find_once(&self, key: &str) -> Result<Option<Object>, Error> {
        self.find_by(&self.inner.single, key, 1).await
    }

    /// Reads the bytes `first` to `last`, both included, of an object.
    ///
    /// # Errors
    /// As [`Store::get`].
    pub async fn get_range(&self, key: &str, first: u64, last: u64) -> Result<Bytes, Error> {
        let what = format!("read a range of `{key}`");
        let read = async {
            let request = self.inner.reads.get_object().bucket(self.bucket()).key(key);
            let sent = request.range(format!("bytes={first}-{last}")).send().await;
            let body = sent.map_err(Sent::of)?.body.collect().await;
            Ok(body.map_err(|e| Sent::broken(&e))?.into_bytes())
        };
        self.within(&what, read).await.map_err(|sent| self.error(&what, &sent))
    }

    async fn get_by(&self, client: &Client, key: &str, attempts: u32) -> Result<Object, Error> {
        self.find_by(client, key, attempts).await?.ok_or_else(|| {
            let sent = Sent { failure: RequestFailure::NoObject, detail: String::new() };
            self.error(&format!("read `{key}`"), &sent)
        })
    }

    async fn find_by(
        &self,
        client: &Client,
        key: &str,
        attempts: u32,
    ) -> Result<Option<Object>, Error> {
        let what = format!("read `{key}`");
        let read = async {
            let request = client.get_object().bucket(self.bucket()).key(key);
            let date = AnswerDate::default();
            let sent = request.customize().interceptor(date.clone()).send().await;
            let output = sent.map_err(Sent::of)?;
            let written_at = output.last_modified().and_then(timestamp);
            let etag = output.e_tag().and_then(|tag| ETag::new(tag).ok());
            let body = output.body.collect().await.map_err(|e| Sent::broken(&e))?.into_bytes();
            Ok((body, etag, written_at, date.get()))
        };
        let deadline = self.inner.timeout * attempts;
        let read = tokio::time::timeout(deadline, read).await;
        match read.unwrap_or_else(|_| Err(Sent::timed_out())) {
            Ok((body, etag, written_at, read_at)) => {
                let etag = etag.ok_or_else(|| no_etag(key))?;
                Ok(Some(Object { body, etag, written_at, read_at }))
            }
            Err(sent) if sent.failure == RequestFailure::NoObject => Ok(None),
            Err(sent) => Err(self.error(&what, &sent)),
        }
    }

    /// Writes an object if none has this key.
    ///
    /// # Errors
    /// Only when it certainly was not written and trying again cannot help; as [`Store::check`].
    pub async fn put_if_absent(&self, key: &str, body: Bytes) -> Result<Put, Error> {
        let request = self.inner.single.put_object().if_none_match("*");
        self.put_by(request, key, body).await
    }

    /// Writes an object if its version is still `etag`.
    ///
    /// # Errors
    /// As [`Store::put_if_absent`].
    pub async fn put_if_match(&self, key: &str, etag: &ETag, body: Bytes) -> Result<Put, Error> {
        let request = self.inner.single.put_object().if_match(etag.as_str());
        self.put_by(request, key, body).await
    }

    async fn put_by(
        &self,
        request: aws_sdk_s3::operation::put_object::builders::PutObjectFluentBuilder,
        key: &str,
        body: Bytes,
    ) -> Result<Put, Error> {
        let what = format!("write `{key}`");
        let request = request
            .bucket(self.bucket())
            .key(key)
            .content_type("application/json")
            .body(ByteStream::from(body));
        let sent = self.within(&what, async { request.send().await.map_err(Sent::of) }).await;
        match sent {
            Ok(output) => match output.e_tag().and_then(|tag| ETag::new(tag).ok()) {
                Some(etag) => Ok(Put::Written(etag)),
                None => Ok(Put::Ambiguous(no_etag(key))),
            },
            Err(sent) => match sent.failure {
                RequestFailure::ConditionFailed | RequestFailure::NoObject => Ok(Put::Lost),
                RequestFailure::Racing
                | RequestFailure::Busy
                | RequestFailure::TimedOut
                | RequestFailure::Unreachable => Ok(Put::Ambiguous(self.error(&what, &sent))),
                RequestFailure::NoBucket
                | RequestFailure::Refused
                | RequestFailure::OtherRegion
                | RequestFailure::Other => Err(self.error(&what, &sent)),
            },
        }
    }

    /// Writes an object whatever was there: only for objects that one writer owns.
    ///
    /// # Errors
    /// As [`Store::check`].
    pub async fn put(&self, key: &str, body: Bytes) -> Result<ETag, Error> {
        match self.put_by(self.inner.reads.put_object(), key, body).await? {
            Put::Written(etag) => Ok(etag),
            Put::Ambiguous(error) => Err(error),
            Put::Lost => {
                let message = format!("S3 refused to write `{key}` although no condition was set");
                Err(Error::new(ErrorKind::Internal, message))
            }
        }
    }

    /// Deletes an object; it is no error if it does not exist.
    ///
    /// # Errors
    /// As [`Store::check`].
    pub async fn delete(&self, key: &str) -> Result<(), Error> {
        let what = format!("delete `{key}`");
        let request = self.inner.reads.delete_object().bucket(self.bucket()).key(key);
        self.within(&what, async { request.send().await.map_err(Sent::of) })
            .await
            .map(drop)
            .map_err(|failure| self.error(&what, &failure))
    }

    /// Every object whose key begins with `prefix`, in the order of keys, all pages.
    ///
    /// # Errors
    /// As [`Store::check`].
    pub async fn list(&self, prefix: &str) -> Result<Vec<Listed>, Error> {
        Ok(self.pages(prefix, None, None).await?.0)
    }

    /// [`Store::list`], from the first key after `after` on.
    ///
    /// # Errors
    /// As [`Store::check`].
    pub async fn list_after(&self, prefix: &str, after: &str) -> Result<Vec<Listed>, Error> {
        Ok(self.pages(prefix, None, Some(after)).await?.0)
    }

    /// The names directly under `prefix` that have further keys below them, without slashes.
    ///
    /// # Errors
    /// As [`Store::check`].
    pub async fn folders(&self, prefix: &str) -> Result<Vec<String>, Error> {
        let folders = self.pages(prefix, Some("/"), None).await?.1;
        let name = |folder: String| {
            let rest = folder.strip_prefix(prefix)?;
            Some(rest.strip_suffix('/').unwrap_or(rest).to_owned())
        };
        Ok(folders.into_iter().filter_map(name).collect())
    }

    async fn pages(
        &self,
        prefix: &str,
        delimiter: Option<&str>,
        after: Option<&str>,
    ) -> Result<(Vec<Listed>, Vec<String>), Error> {
        let what = format!("list `{prefix}`");
        let (mut objects, mut folders) = (Vec::new(), Vec::new());
        let mut token = None;
        for _ in 0..PAGES_MAX {
            let request = self.inner.reads.list_objects_v2().bucket(self.bucket()).prefix(prefix);
            let request = request.set_delimiter(delimiter.map(str::to_owned));
            let request = request.set_start_after(after.map(str::to_owned));
            let request = request.set_continuation_token(token);
            let page = self
                .within(&what, async { request.send().await.map_err(Sent::of) })
                .await
                .map_err(|failure| self.error(&what, &failure))?;
            objects.extend(page.contents().iter().filter_map(listed));
            let names = page.common_prefixes().iter();
            folders.extend(names.filter_map(|name| name.prefix().map(str::to_owned)));
            match page.next_continuation_token {
                Some(next) if page.is_truncated == Some(true) => token = Some(next),
                _ => return Ok((objects, folders)),
            }
        }
        let message = format!("`{prefix}` holds over {PAGES_MAX} pages of objects");
        Err(Error::new(ErrorKind::Invalid, message))
    }

    /// Bounds a request, retries included.
    async fn within<T>(
        &self,
        what: &str,
        request: impl Future<Output = Result<T, Sent>>,
    ) -> Result<T, Sent> {
        let deadline = self.inner.timeout * READ_ATTEMPTS_MAX;
        tracing::debug!(what, "s3 request");
        tokio::time::timeout(deadline, request).await.unwrap_or_else(|_| Err(Sent::timed_out()))
    }

    fn error(&self, what: &str, sent: &Sent) -> Error {
        let message = self.inner.place.message(what, &sent.failure, &sent.detail);
        Error::new(sent.failure.kind(), message)
    }
}

fn listed(object: &aws_sdk_s3::types::Object) -> Option<Listed> {
    Some(Listed {
        key: object.key()?.to_owned(),
        size: u64::try_from(object.size().unwrap_or(0)).unwrap_or(0),
        modified: timestamp(object.last_modified()?)?,
    })
}

fn no_etag(key: &str) -> Error {
    let message = format!("S3 sent no etag for `{key}`: this server cannot keep leases");
    Error::new(ErrorKind::Invalid, message)
}

/// How a request failed.
struct Sent {
    failure: RequestFailure,
    detail: String,
}

impl Sent {
    #[expect(clippy::needless_pass_by_value, reason = "the argument of map_err")]
    fn of<E>(error: SdkError<E>) -> Sent
    where
        E: std::error::Error + ProvideErrorMetadata + Send + Sync + 'static,
    {
        let (failure, detail) = classify(&error);
        Sent { failure, detail }
    }

    fn broken(error: &aws_sdk_s3::primitives::ByteStreamError) -> Sent {
        Sent {
            failure: RequestFailure::Unreachable,
            detail: format!("the answer broke off: {error}"),
        }
    }

    fn timed_out() -> Sent {
        Sent { failure: RequestFailure::TimedOut, detail: String::new() }
    }
}
