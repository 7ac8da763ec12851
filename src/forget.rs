//! `tidemill forget`.

use std::process::ExitCode;

use anyhow::bail;
use tidemill_bucket::{NodeUrl, Settings, Store};
use tidemill_model::NodeKeys;

use crate::common::{S3Args, wait};
use crate::output;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The node, s3://BUCKET/FLEET/NODE
    node: NodeUrl,
    #[command(flatten)]
    s3: S3Args,
}

/// What a node has in the bucket, as far as it decides whether it may be forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holds {
    Nothing,
    /// What a start leaves that never claimed the node.
    OnlyProbe,
    Lease,
    Epochs,
    /// Something that Tidemill did not write.
    Stranger,
}

/// Removes a node that never had an owner: nothing but the store probe's own object.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if let Some(moment) = args.node.moment {
        bail!("`{}` names the moment {moment}: name the node alone", args.node);
    }
    let (node, keys) = (&args.node, args.node.keys());
    let settings = Settings { endpoint: args.s3.endpoint.clone(), ..Settings::default() };
    let removed = wait(async {
        let store = Store::connect(node.fleet.bucket(), &settings).await?;
        store.check().await?;
        let listed = store.list(keys.prefix()).await?;
        let found: Vec<&str> = listed.iter().map(|object| object.key.as_str()).collect();
        if let Some(why) = refusal(holds(&keys, &found)) {
            bail!("{node} {why}: nothing was removed");
        }
        // A sidecar that claims the node meanwhile does not need this object any more.
        store.delete(&keys.probe()).await?;
        Ok(keys.probe())
    })?;
    output::text(&format!("removed s3://{}/{removed}\n", node.fleet.bucket()))
}

fn holds(keys: &NodeKeys, found: &[&str]) -> Holds {
    let any = |is: &dyn Fn(&str) -> bool| found.iter().any(|key| is(key));
    if found.is_empty() {
        Holds::Nothing
    } else if any(&|key| key == keys.lease()) {
        Holds::Lease
    } else if any(&|key| key.starts_with(&keys.epochs())) {
        Holds::Epochs
    } else if any(&|key| key != keys.probe()) {
        Holds::Stranger
    } else {
        Holds::OnlyProbe
    }
}

/// Why the node is not forgotten; `None` if it may be.
fn refusal(holds: Holds) -> Option<&'static str> {
    match holds {
        Holds::OnlyProbe => None,
        Holds::Nothing => Some("has nothing in the bucket"),
        Holds::Lease => Some("has a lease, so it has or had an owner"),
        Holds::Epochs => Some("has epochs, which hold its history"),
        Holds::Stranger => Some("has objects that no node writes: look at them first"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_node_that_never_had_an_owner_is_forgotten() {
        let node: NodeUrl = "s3://bucket/fleet/n1".parse().unwrap();
        let keys = node.keys();
        let of = |names: &[&str]| {
            let found: Vec<String> =
                names.iter().map(|name| format!("fleet/nodes/n1/{name}")).collect();
            let found: Vec<&str> = found.iter().map(String::as_str).collect();
            holds(&keys, &found)
        };
        assert_eq!(of(&[]), Holds::Nothing);
        assert_eq!(of(&["probe.json"]), Holds::OnlyProbe);
        assert_eq!(of(&["lease.json", "probe.json"]), Holds::Lease);
        assert_eq!(of(&["epochs/0000000001/epoch.json", "probe.json"]), Holds::Epochs);
        assert_eq!(of(&["notes.txt", "probe.json"]), Holds::Stranger);
        assert_eq!(of(&["notes.txt"]), Holds::Stranger);
        for holds in [Holds::Nothing, Holds::Lease, Holds::Epochs, Holds::Stranger] {
            assert!(refusal(holds).is_some(), "{holds:?}");
        }
    }
}
