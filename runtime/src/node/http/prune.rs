//! `POST /v1/prune`: ended runs leave now.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Request, State};
use tidemill_model::{PruneReport, PruneRequest};

use super::error::ApiError;
use super::query::Params;
use super::reference::Route;
use super::{Api, body};

/// How long one request works: proxies cut idle connections, and asking again is cheap.
const WORK_MAX: Duration = Duration::from_secs(20);

/// Removes ended runs, or counts those that would leave.
pub(crate) async fn prune(
    State(api): State<Arc<Api>>,
    request: Request,
) -> Result<Json<PruneReport>, ApiError> {
    Params::read(request.uri(), Route::Prune)?;
    let request: PruneRequest = body::object(request, Route::Prune).await?;
    Ok(Json(api.node.prune(request, WORK_MAX).await?))
}
