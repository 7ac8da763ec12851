//! Classifies failed requests, and words each in one line that says what to do.

use aws_sdk_s3::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};

use crate::error::ErrorKind;

/// How a request failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RequestFailure {
    /// 404: no object has this key.
    NoObject,
    /// 404: no such bucket.
    NoBucket,
    /// 401, 403: unknown key, wrong signature, or not allowed.
    Refused,
    /// The bucket lives in another region.
    OtherRegion,
    /// 412: the condition of the write does not hold.
    ConditionFailed,
    /// 409: another conditional write was under way; it may or may not have been ours.
    Racing,
    /// 5xx, 429: S3 asks for patience, or something between us and it does.
    Busy,
    /// No answer in time.
    TimedOut,
    /// No connection, or it broke.
    Unreachable,
    /// Anything else that S3 refused.
    Other,
}

impl RequestFailure {
    pub(crate) fn kind(self) -> ErrorKind {
        match self {
            RequestFailure::NoObject | RequestFailure::NoBucket => ErrorKind::NotFound,
            RequestFailure::Refused | RequestFailure::OtherRegion | RequestFailure::Other => {
                ErrorKind::Invalid
            }
            RequestFailure::ConditionFailed | RequestFailure::Racing => ErrorKind::Conflict,
            RequestFailure::Busy | RequestFailure::TimedOut | RequestFailure::Unreachable => {
                ErrorKind::Unavailable
            }
        }
    }
}

/// Where requests go.
#[derive(Debug, Clone)]
pub(crate) struct ObjectAddress {
    pub(crate) bucket: String,
    pub(crate) endpoint: Option<String>,
}

impl ObjectAddress {
    fn server(&self) -> &str {
        self.endpoint.as_deref().unwrap_or("AWS")
    }

    /// One line: what was tried, what was wrong, what to do.
    pub(crate) fn message(&self, what: &str, failure: &RequestFailure, detail: &str) -> String {
        let (bucket, server) = (&self.bucket, self.server());
        match failure {
            RequestFailure::NoBucket => format!(
                "bucket `{bucket}` does not exist at {server}: create it, or correct the name"
            ),
            RequestFailure::Refused => format!(
                "S3 at {server} refused to {what} in bucket `{bucket}` ({detail}): check \
                 AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and the bucket's policy"
            ),
            RequestFailure::OtherRegion => {
                format!("bucket `{bucket}` is in another region ({detail}): set AWS_REGION to it")
            }
            RequestFailure::TimedOut => format!(
                "cannot {what} in bucket `{bucket}`: no answer from S3 at {server} in time, check \
                 the endpoint and the network"
            ),
            RequestFailure::Unreachable => format!(
                "cannot reach S3 at {server} ({detail}): check the endpoint and the network"
            ),
            // Only reads name an object; S3 has no other reason to find nothing.
            RequestFailure::NoObject if detail.is_empty() => {
                format!("bucket `{bucket}` has no object to {what}")
            }
            RequestFailure::NoObject => format!(
                "cannot {what} in bucket `{bucket}`: {server} does not know such a request \
                 ({detail}), is it an S3 server?"
            ),
            RequestFailure::ConditionFailed | RequestFailure::Racing => {
                format!("cannot {what} in bucket `{bucket}`: another client wrote it ({detail})")
            }
            RequestFailure::Busy => format!(
                "cannot {what} in bucket `{bucket}`: S3 at {server} is not available ({detail}), \
                 try again"
            ),
            RequestFailure::Other => {
                format!("cannot {what} in bucket `{bucket}` at {server}: {detail}")
            }
        }
    }
}

/// Classifies a failed request; also returns the detail that a person should see.
pub(crate) fn classify<E>(error: &SdkError<E>) -> (RequestFailure, String)
where
    E: std::error::Error + ProvideErrorMetadata + Send + Sync + 'static,
{
    match error {
        SdkError::TimeoutError(_) => (RequestFailure::TimedOut, String::new()),
        SdkError::DispatchFailure(failure) if failure.is_timeout() => {
            (RequestFailure::TimedOut, String::new())
        }
        SdkError::DispatchFailure(failure) => {
            let why = failure.as_connector_error().map_or_else(String::new, innermost);
            (RequestFailure::Unreachable, why)
        }
        SdkError::ResponseError(failure) => {
            (of_status(failure.raw().status().as_u16(), ""), innermost_of(error))
        }
        SdkError::ServiceError(failure) => {
            let status = failure.raw().status().as_u16();
            let code = failure.err().code().unwrap_or_default();
            let message = failure.err().message().unwrap_or_default();
            let detail = match (code, message) {
                ("", "") => format!("status {status}"),
                (code, "") => format!("{code}, status {status}"),
                (code, message) => format!("{code}: {}", message.trim_end_matches('.')),
            };
            (of_status(status, code), detail)
        }
        other => (RequestFailure::Other, DisplayErrorContext(other).to_string()),
    }
}

fn of_status(status: u16, code: &str) -> RequestFailure {
    match (status, code) {
        (404, "NoSuchBucket") => RequestFailure::NoBucket,
        (404, _) => RequestFailure::NoObject,
        (301 | 307 | 308, _) | (400, "AuthorizationHeaderMalformed") => RequestFailure::OtherRegion,
        (401 | 403, _) | (400, "InvalidToken" | "ExpiredToken") => RequestFailure::Refused,
        (412, _) => RequestFailure::ConditionFailed,
        (409, _) => RequestFailure::Racing,
        (429 | 500.., _) | (400, "RequestTimeout") => RequestFailure::Busy,
        // A success whose body cannot be read: the write may have happened.
        (200..=299, _) => RequestFailure::Unreachable,
        _ => RequestFailure::Other,
    }
}

/// The last cause in a chain of errors: the others only say that something failed.
pub(crate) fn innermost(error: &(impl std::error::Error + ?Sized)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = inner.to_string();
        cause = inner.source();
    }
    text
}

fn innermost_of<E: std::error::Error + 'static>(error: &SdkError<E>) -> String {
    innermost(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_that_may_have_happened_is_never_called_lost() {
        for (status, code) in [(500, ""), (503, "SlowDown"), (409, ""), (200, ""), (429, "")] {
            let failure = of_status(status, code);
            assert!(
                matches!(
                    failure,
                    RequestFailure::Busy | RequestFailure::Racing | RequestFailure::Unreachable
                ),
                "{status} {failure:?}"
            );
        }
        assert_eq!(of_status(404, "NoSuchKey"), RequestFailure::NoObject);
        assert_eq!(of_status(404, "NoSuchBucket"), RequestFailure::NoBucket);
        assert_eq!(of_status(412, "PreconditionFailed"), RequestFailure::ConditionFailed);
    }
}
