//! A live node: a copy of its file, or its runs.
//!
//! The node makes a consistent copy; it is written to a file as it arrives, so its size does not
//! matter to memory. On failure or cancellation the caller's folder is dropped with what arrived.
//! A list of runs, or one of them, needs no copy: the node shows it page by page, each page as of
//! when it is asked for.

use std::path::Path;
use std::pin::Pin;

use tidemill_client::NodeClient;
use tidemill_eventlog::query::RunFilter;
use tidemill_model::{
    EventPage, EventView, Json, OpId, OperationPage, Payloads, RunId, RunPage, RunSummary, RunView,
    Seq,
};
use tokio::fs::File;
use tokio::io::AsyncWriteExt as _;

use crate::error::{Error, ErrorKind, Result};
use crate::events::no_such_run;
use crate::show::{DEPTH_MAX, waits_for};
use crate::snapshot::Access;
use crate::source::Source;

/// Operations in a page: as many as a node gives, because it folds the whole run for each page.
const OPERATIONS_PAGE: u32 = 10_000;

/// Events in a page: as many as a node gives.
const EVENTS_PAGE: u32 = 1_000;

/// Runs in a page: as many as a node gives.
const RUNS_PAGE: u32 = 1_000;

/// Copies the node's file to `to`.
///
/// # Errors
/// `Unavailable` if the node does not answer; else what the node says.
pub(crate) async fn fetch(node: &NodeClient, to: &Path) -> Result<()> {
    let failed = |e| Error::io("write a snapshot to", to, e);
    let mut pieces = node.pieces("/v1/snapshot").await?;
    let mut file = File::create(to).await.map_err(failed)?;
    while let Some(piece) = pieces.next().await? {
        file.write_all(&piece).await.map_err(failed)?;
    }
    file.flush().await.map_err(failed)
}

impl Access {
    /// A run as its live node shows it, with all of its operations and, below them, its children;
    /// `None` if the source is no live node, or one of a version that shows runs in another shape:
    /// then it can be opened.
    ///
    /// # Errors
    /// `NotFound` if there is no such run, `Unavailable` if the node does not answer; else what the
    /// node says.
    pub async fn ask(
        &self,
        source: &Source,
        run: &RunId,
        payloads: Payloads,
    ) -> Result<Option<RunView>> {
        let Source::Node(address) = source else { return Ok(None) };
        show(&self.node(address), run, payloads).await
    }

    /// The runs that a live node lists; `None` as for [`Access::ask`].
    ///
    /// # Errors
    /// `Unavailable` if the node does not answer; else what the node says.
    pub async fn ask_list(
        &self,
        source: &Source,
        filter: &RunFilter,
    ) -> Result<Option<Vec<RunSummary>>> {
        let Source::Node(address) = source else { return Ok(None) };
        list(&self.node(address), filter).await
    }

    /// Calls `each` for the events of a run as its live node lists them; `false` as for
    /// [`Access::ask`], before the first call.
    ///
    /// # Errors
    /// `NotFound` if there is no such run, `Unavailable` if the node does not answer; else what the
    /// node says, and what `each` returns.
    pub async fn ask_events<E: From<Error>>(
        &self,
        source: &Source,
        run: &RunId,
        after: Seq,
        limit: u32,
        each: impl FnMut(EventView) -> std::result::Result<(), E>,
    ) -> std::result::Result<bool, E> {
        let Source::Node(address) = source else { return Ok(false) };
        events(&self.node(address), run, after, limit, each).await
    }
}

async fn events<E: From<Error>>(
    node: &NodeClient,
    run: &RunId,
    mut after: Seq,
    limit: u32,
    mut each: impl FnMut(EventView) -> std::result::Result<(), E>,
) -> std::result::Result<bool, E> {
    let path = format!("/v1/runs/{run}/events");
    let (mut left, mut has_begun) = (limit, false);
    loop {
        let page = left.min(EVENTS_PAGE);
        let parameters = [("after", after.to_string()), ("limit", page.to_string())];
        let page = node.get_with::<Json>(&path, &parameters).await;
        let page = page.map_err(|e| match e.kind() {
            ErrorKind::NotFound => no_such_run(run),
            _ => e,
        })?;
        let page = match page.decode::<EventPage>() {
            Ok(page) => page,
            Err(_) if !has_begun => return Ok(false),
            Err(e) => {
                let message = format!("{path}: the node answered in another form: {e}");
                return Err(Error::new(ErrorKind::Invalid, message).into());
            }
        };
        has_begun = true;
        left = left.saturating_sub(u32::try_from(page.events.len()).unwrap_or(u32::MAX));
        page.events.into_iter().try_for_each(&mut each)?;
        match page.next.filter(|_| left > 0) {
            Some(next) => after = next,
            None => return Ok(true),
        }
    }
}

async fn list(node: &NodeClient, filter: &RunFilter) -> Result<Option<Vec<RunSummary>>> {
    let (mut runs, mut after) = (Vec::new(), filter.after);
    loop {
        // A page may be shorter than was asked for, and not the last one.
        let listed = u32::try_from(runs.len()).unwrap_or(u32::MAX);
        let limit = filter.limit.saturating_sub(listed).min(RUNS_PAGE);
        if limit == 0 {
            return Ok(Some(runs));
        }
        let mut parameters = vec![("limit", limit.to_string())];
        parameters.extend(after.map(|after| ("after", after.to_string())));
        parameters.extend(filter.status.map(|status| ("status", status.to_string())));
        parameters.extend(filter.workflow.iter().map(|name| ("workflow", name.to_string())));
        let label = |(name, value): &(String, String)| ("label", format!("{name}={value}"));
        parameters.extend(filter.labels.iter().map(label));
        let page = match node.get_with::<Json>("/v1/runs", &parameters).await {
            // A node of an earlier version knows no such parameter; its file has the labels.
            Err(e) if e.kind() == ErrorKind::Invalid && !filter.labels.is_empty() => {
                return Ok(None);
            }
            page => page?,
        };
        let Ok(page) = page.decode::<RunPage>() else { return Ok(None) };
        runs.extend(page.runs);
        after = page.next;
        if after.is_none() {
            return Ok(Some(runs));
        }
    }
}

async fn show(node: &NodeClient, run: &RunId, payloads: Payloads) -> Result<Option<RunView>> {
    let shown: Json = node.get(&format!("/v1/runs/{run}")).await.map_err(|e| match e.kind() {
        ErrorKind::NotFound => no_such_run(run),
        _ => e,
    })?;
    let Ok(mut view) = shown.decode::<RunView>() else { return Ok(None) };
    complete(node, &mut view, payloads, 0).await?;
    Ok(Some(view))
}

/// Adds the operations that the first page lacks, and the children.
async fn complete(
    node: &NodeClient,
    view: &mut RunView,
    payloads: Payloads,
    depth: u32,
) -> Result<()> {
    let mut after = view.operations_next.take().map(OpId::get);
    if payloads == Payloads::Whole && view.operations.iter().any(|op| op.whole.is_some()) {
        view.operations.clear();
        after = Some(0);
    }
    while let Some(last) = after {
        let (run, whole) = (&view.id, payloads == Payloads::Whole);
        let parameters = [
            ("after", last.to_string()),
            ("limit", OPERATIONS_PAGE.to_string()),
            ("whole", whole.to_string()),
        ];
        let path = format!("/v1/runs/{run}/operations");
        let page: OperationPage = node.get_with(&path, &parameters).await?;
        after = page.next.map(OpId::get);
        view.operations.extend(page.operations);
    }
    view.operations_total = view.operations.len();
    for op in &mut view.operations {
        if let (Some(run), true) = (&op.child, depth < DEPTH_MAX) {
            op.child_run = child(node, run, payloads, depth + 1).await?.map(Box::new);
        }
    }
    view.waits_for = waits_for(&view.operations).or(view.waits_for.take());
    Ok(())
}

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The run of a child; `None` if there is none yet.
fn child<'a>(
    node: &'a NodeClient,
    run: &'a RunId,
    payloads: Payloads,
    depth: u32,
) -> Boxed<'a, Result<Option<RunView>>> {
    Box::pin(async move {
        let mut view: RunView = match node.get(&format!("/v1/runs/{run}")).await {
            Ok(view) => view,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        complete(node, &mut view, payloads, depth).await?;
        Ok(Some(view))
    })
}

#[cfg(test)]
mod tests;
