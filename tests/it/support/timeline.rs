//! What `tidemill timeline` offers of a node's past.

use serde_json::Value;

use super::machine::Machine;

/// The restorable points, as (epoch, txid), oldest first.
#[track_caller]
pub(crate) fn points(machine: &Machine) -> Vec<(u64, u64)> {
    let timeline = machine.tidemill(&["timeline", "--json", &machine.source()]).json();
    let epochs = timeline["epochs"].as_array().unwrap_or_else(|| panic!("no epochs: {timeline}"));
    epochs.iter().flat_map(points_of).collect()
}

fn points_of(epoch: &Value) -> Vec<(u64, u64)> {
    let number = epoch["epoch"].as_u64().unwrap_or_else(|| panic!("no number: {epoch}"));
    let points = epoch["points"].as_array().unwrap_or_else(|| panic!("no points: {epoch}"));
    let txid = |point: &Value| u64::from_str_radix(point["txid"].as_str()?, 16).ok();
    let txid = |point| txid(point).unwrap_or_else(|| panic!("no txid: {point}"));
    points.iter().map(|point| (number, txid(point))).collect()
}
