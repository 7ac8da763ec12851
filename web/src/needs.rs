//! What of a node needs a human: what its lease says, what its bucket shows, what it says itself.

use tidemill_bucket::NodeUrl;
use tidemill_model::{BreakDoc, Timestamp};
use tidemill_observer::NodeView;
use tidemill_page::needs::{Need, one_line};
use tidemill_page::{path, words};

use crate::address::{live_path, node_path};
use crate::live::Said;

/// How much of the WAL may wait to be shipped before somebody should look.
const LAG_BYTES_MAX: u64 = 16 << 20;

/// What in a node's lease needs a human.
pub(crate) fn needs_of(view: &NodeView, url: &NodeUrl) -> Vec<Need> {
    let need = |kind: &'static str, cause: String| Need {
        since: view.heartbeat_at,
        kind: kind.into(),
        node: view.node.to_string(),
        what: "node".to_owned(),
        cause: one_line(&cause),
        address: node_path(url),
    };
    let mut needs = Vec::new();
    match view.state.as_str() {
        "expired" => {
            let host = view.holder.as_ref().map_or("its machine", |holder| &holder.host);
            needs.push(need(
                "no heartbeat",
                format!("{host} does not renew its lease: start a sidecar for it elsewhere"),
            ));
        }
        "unreadable" => needs.push(need("unreadable", view.problem.clone().unwrap_or_default())),
        _ => {}
    }
    if let Some(lag) =
        view.wal_lag_bytes.filter(|lag| *lag > LAG_BYTES_MAX && view.state != "released")
    {
        needs.push(need("lag", format!("{} of its log had not been shipped", words::bytes(lag))));
    }
    needs
}

/// What the heartbeat of a node says of its runs, of one that is not asked itself.
pub(crate) fn needs_of_figures(view: &NodeView, url: &NodeUrl) -> Option<Need> {
    let figures = view.runs.as_ref()?;
    let (blocked, oldest) = (figures.blocked?, figures.oldest.as_ref()?);
    let more = match blocked {
        0 | 1 => String::new(),
        blocked => format!(" (and {} more)", words::thousands(blocked - 1)),
    };
    Some(Need {
        since: oldest.since,
        kind: "blocked".into(),
        node: view.node.to_string(),
        what: oldest.run.to_string(),
        cause: one_line(oldest.reason.as_deref().unwrap_or_default()) + &more,
        address: format!("{}@latest{}", node_path(url), path(&["runs", oldest.run.as_str()])),
    })
}

/// What a node that answers says itself.
pub(crate) fn needs_of_live(said: &Said) -> Vec<Need> {
    let (base, name) = (
        live_path(&said.address),
        match &said.identity {
            Ok(it) => it.node.as_ref().map_or_else(|| it.app.clone(), ToString::to_string),
            Err(_) => said.address.to_string(),
        },
    );
    let shown = said.shown().into_iter().flat_map(|overview| overview.needs.all.clone());
    let mut needs: Vec<Need> = shown
        .map(|need| Need { node: name.clone(), address: format!("{base}{}", need.address), ..need })
        .collect();
    let (kind, cause) = match (&said.identity, &said.overview) {
        (Err(why), _) => ("silent", why.clone()),
        // What is not known is not "nothing".
        (Ok(_), Some(Err(why))) => ("unreadable", format!("its runs cannot be read: {why}")),
        (Ok(it), _) if it.status != "ok" => ("not ready", it.status.clone()),
        (Ok(_), _) => return needs,
    };
    needs.push(Need {
        since: None,
        kind: kind.into(),
        node: name,
        what: "node".to_owned(),
        cause: one_line(&cause),
        address: format!("{base}/"),
    });
    needs
}

/// The moments that a cure hides until it has ended: a cure takes seconds, so a break that stays
/// open is one whose sidecar is gone or cannot write.
pub(crate) fn needs_of_breaks(
    view: &NodeView,
    breaks: &Result<Vec<BreakDoc>, String>,
    url: &NodeUrl,
) -> Vec<Need> {
    let need = |since: Option<Timestamp>, cause: String| Need {
        since,
        kind: "break".into(),
        node: view.node.to_string(),
        what: "node".to_owned(),
        cause: one_line(&cause),
        address: node_path(url),
    };
    let open = match breaks {
        Ok(open) => open,
        Err(problem) => return vec![need(None, problem.clone())],
    };
    let cause = |doc: &BreakDoc| match doc.after {
        Some(after) => format!("no moment after transaction {after} opens: {}", doc.reason),
        None => format!("no moment of its epoch opens: {}", doc.reason),
    };
    open.iter().map(|doc| need(Some(doc.at), cause(doc))).collect()
}
