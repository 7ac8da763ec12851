//! A body on its way into a draft: all of it is read, also when the answer is a refusal, because a
//! connection that is closed in the middle of a body hides the answer from the client.

use futures_util::StreamExt;
use s3s::checksum::ChecksumHasher;
use s3s::crypto::{Checksum as _, Crc32, Crc32c, Crc64Nvme, Md5, Sha1, Sha256};
use s3s::dto::{Checksum, ChecksumAlgorithm, StreamingBlob};
use s3s::{S3ErrorCode, S3Result, TrailingHeaders, s3_error};

use crate::api::{blocking, disk_failed};
use crate::object::Checksums;
use crate::record::Draft;
use crate::store::{Error, Store};

/// How many bytes are gathered before they are written.
const BATCH: usize = 1 << 20;
/// The most bytes that one request may have, as at AWS.
const MOST: u64 = 5 << 30;

/// What the client says about its body.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    /// MD5, in base64.
    pub(crate) md5: Option<String>,
    pub(crate) checksums: Checksums,
    /// The checksum to compute even if the client names no value.
    pub(crate) algorithm: Option<ChecksumAlgorithm>,
    /// Headers that come after the body; `x-amz-trailer` announces some of them.
    pub(crate) trailing: Option<TrailingHeaders>,
    pub(crate) announced: Option<String>,
}

/// A body that has arrived and is what the client said.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) draft: Draft,
    /// MD5, in hex.
    pub(crate) etag: String,
    pub(crate) checksums: Checksums,
}

/// Reads a body to its end.
pub(crate) async fn receive(
    store: &Store,
    body: Option<StreamingBlob>,
    claims: Claims,
) -> S3Result<Received> {
    let mut draft = store.inner.folder.draft().map_err(|error| disk_failed(&error))?;
    let mut md5 = Md5::new();
    let mut hasher = claims.hasher();
    let mut batch = Vec::new();
    if let Some(mut body) = body {
        while let Some(bytes) = body.next().await {
            let bytes = bytes
                .map_err(|error| s3s::S3Error::with_source(S3ErrorCode::IncompleteBody, error))?;
            md5.update(&bytes);
            hasher.update(&bytes);
            batch.extend_from_slice(&bytes);
            if batch.len() >= BATCH {
                draft = append(store, draft, std::mem::take(&mut batch)).await?;
            }
            if draft.size() > MOST {
                return Err(s3_error!(
                    EntityTooLarge,
                    "a request has at most 5 GiB: use a multipart upload"
                ));
            }
        }
    }
    draft = append(store, draft, batch).await?;
    let sum = md5.finalize();
    let computed = Checksums::from(hasher.finalize());
    claims.check(&sum, &computed)?;
    let etag = sum.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Received { draft, etag, checksums: computed })
}

async fn append(store: &Store, mut draft: Draft, bytes: Vec<u8>) -> S3Result<Draft> {
    let folder = store.folder().to_owned();
    blocking(move || match draft.append(&bytes) {
        Ok(()) => Ok(draft),
        Err(error) => Err(Error::disk("write to", &folder)(error).into()),
    })
    .await
}

impl Claims {
    /// Computes the digests to compare, and those that the client wants kept.
    fn hasher(&self) -> ChecksumHasher {
        let announced = self.announced.as_deref().unwrap_or_default().to_ascii_lowercase();
        let wanted = |claim: &Option<String>, name: &str| {
            claim.is_some()
                || announced
                    .split(',')
                    .any(|header| header.trim() == format!("x-amz-checksum-{name}"))
                || self.algorithm.as_ref().is_some_and(|a| a.as_str().eq_ignore_ascii_case(name))
        };
        let claims = &self.checksums;
        ChecksumHasher {
            crc32: wanted(&claims.crc32, "crc32").then(Crc32::new),
            crc32c: wanted(&claims.crc32c, "crc32c").then(Crc32c::new),
            sha1: wanted(&claims.sha1, "sha1").then(Sha1::new),
            sha256: wanted(&claims.sha256, "sha256").then(Sha256::new),
            crc64nvme: wanted(&claims.crc64nvme, "crc64nvme").then(Crc64Nvme::new),
        }
    }

    fn check(&self, md5: &[u8], computed: &Checksums) -> S3Result<()> {
        if let Some(claim) = &self.md5 {
            let sent = base64(claim).ok_or_else(|| s3_error!(InvalidDigest))?;
            if sent != md5 {
                return Err(s3_error!(BadDigest, "the body has another MD5 than Content-MD5 says"));
            }
        }
        let trailing = self.trailing.as_ref().and_then(TrailingHeaders::take).unwrap_or_default();
        let claims = &self.checksums;
        let pairs = [
            ("crc32", &claims.crc32, &computed.crc32),
            ("crc32c", &claims.crc32c, &computed.crc32c),
            ("crc64nvme", &claims.crc64nvme, &computed.crc64nvme),
            ("sha1", &claims.sha1, &computed.sha1),
            ("sha256", &claims.sha256, &computed.sha256),
        ];
        for (name, claim, is) in pairs {
            let trailer = trailing.get(format!("x-amz-checksum-{name}"));
            let trailer = trailer.and_then(|value| value.to_str().ok());
            for said in claim.as_deref().into_iter().chain(trailer) {
                if is.as_deref() != Some(said) {
                    return Err(s3_error!(
                        BadDigest,
                        "the body has another {name} than the request says"
                    ));
                }
            }
        }
        Ok(())
    }
}

impl From<Checksum> for Checksums {
    fn from(sums: Checksum) -> Checksums {
        Checksums {
            crc32: sums.checksum_crc32,
            crc32c: sums.checksum_crc32c,
            crc64nvme: sums.checksum_crc64nvme,
            sha1: sums.checksum_sha1,
            sha256: sums.checksum_sha256,
        }
    }
}

/// Decodes standard base64 with its padding.
fn base64(text: &str) -> Option<Vec<u8>> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).ok()
}
