//! The store's own clock, from the `Date` of its answers: a comparison with the time at which the
//! store received an object needs no other clock.

use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_s3::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::primitives::{DateTime, DateTimeFormat};
use tidemill_model::Timestamp;

/// Remembers the `Date` of the answers to one request; the last one counts.
#[derive(Debug, Clone, Default)]
pub(crate) struct AnswerDate {
    seen: Arc<Mutex<Option<Timestamp>>>,
}

impl AnswerDate {
    /// The date, if the store sent one.
    pub(crate) fn get(&self) -> Option<Timestamp> {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Intercept for AnswerDate {
    fn name(&self) -> &'static str {
        "AnswerDate"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context.response().headers().get("date");
        let date = date.and_then(|text| DateTime::from_str(text, DateTimeFormat::HttpDate).ok());
        let date = date.as_ref().and_then(timestamp);
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = date;
        Ok(())
    }
}

/// A time as S3 writes it.
pub(crate) fn timestamp(at: &DateTime) -> Option<Timestamp> {
    let micros = at.secs().checked_mul(1_000_000)?;
    Timestamp::from_micros(micros.checked_add(i64::from(at.subsec_nanos() / 1_000))?).ok()
}
