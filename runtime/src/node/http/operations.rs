//! A run's operations: in pages, and one of them whole.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::Uri;
use tidemill_model::{OpId, OperationPage, OperationView, PageRequest, Payloads, RunId};

use super::Api;
use super::error::ApiError;
use super::query::Params;
use super::reference::Route;
use super::runs::state;
use crate::error::{Error, ErrorKind};

/// The default number of operations in a page, and in a run's JSON: most runs have no more.
pub(crate) const OPERATIONS_DEFAULT: u32 = 1_000;

/// The largest page: each page folds the whole run, so a long run should be read in few pages.
const OPERATIONS_MAX: u32 = 10_000;

/// The request in the model's type.
pub(crate) fn page(after: Option<OpId>, limit: u32, payloads: Payloads) -> PageRequest {
    let limit = usize::try_from(limit).expect("a limit fits in memory");
    PageRequest { after, limit: Some(limit), payloads }
}

/// `GET /v1/runs/{id}/operations`.
pub(crate) async fn list(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    uri: Uri,
) -> Result<Json<OperationPage>, ApiError> {
    let params = Params::read(&uri, Route::ListOperations)?;
    let limit = params.limit(OPERATIONS_DEFAULT, OPERATIONS_MAX)?;
    let after = params.get::<After>("after")?.and_then(|after| after.0);
    let whole: bool = params.get("whole")?.unwrap_or_default();
    let payloads = if whole { Payloads::Whole } else { Payloads::Heads };
    let (state, _) = state(&api, RunId::new(&id)?).await?;
    Ok(Json(OperationPage::of(&state, page(after, limit, payloads))))
}

/// `GET /v1/runs/{id}/operations/{op}`.
pub(crate) async fn show(
    State(api): State<Arc<Api>>,
    Path((id, op)): Path<(String, String)>,
    uri: Uri,
) -> Result<Json<OperationView>, ApiError> {
    Params::read(&uri, Route::ShowOperation)?;
    let id = RunId::new(&id)?;
    let After(op) = op.parse().map_err(|e| ApiError::invalid(format!("no operation: {e}")))?;
    let (state, _) = state(&api, id.clone()).await?;
    let found = op.and_then(|op| state.ops.get_key_value(&op));
    let (&op, found) = found.ok_or_else(|| no_such_operation(&id, op))?;
    Ok(Json(OperationView::whole(op, found)))
}

fn no_such_operation(id: &RunId, op: Option<OpId>) -> Error {
    let op = op.map_or(0, OpId::get);
    let message =
        format!("run `{id}` has no operation {op}: GET /v1/runs/{id}/operations lists them");
    Error::new(ErrorKind::NotFound, message)
}

/// The number of an operation, or 0 for the place before the first.
struct After(Option<OpId>);

impl std::str::FromStr for After {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<After, &'static str> {
        let number: u32 = text.parse().map_err(|_| "use a decimal number from 0 to 4294967295")?;
        Ok(After(OpId::new(number).ok()))
    }
}
