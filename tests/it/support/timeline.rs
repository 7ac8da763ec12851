//! What `tidemill timeline` offers of a node's past.

use serde_json::Value;

use super::machine::Machine;

/// The restorable points, as (epoch, txid), oldest first.
#[track_caller]
pub(crate) fn points(machine: &Machine) -> Vec<(u64, u64)> {
    read(machine).into_iter().map(|(point, _)| point).collect()
}

/// Those that lead to the latest: what a take-over left behind is not among them.
#[track_caller]
pub(crate) fn lineage(machine: &Machine) -> Vec<(u64, u64)> {
    read(machine).into_iter().filter(|(_, leads)| *leads).map(|(point, _)| point).collect()
}

/// Each point, and whether it is of the lineage.
#[track_caller]
fn read(machine: &Machine) -> Vec<((u64, u64), bool)> {
    let timeline = machine.tidemill(&["timeline", "--json", &machine.source()]).json();
    let epochs = timeline["epochs"].as_array().unwrap_or_else(|| panic!("no epochs: {timeline}"));
    epochs.iter().flat_map(points_of).collect()
}

fn points_of(epoch: &Value) -> Vec<((u64, u64), bool)> {
    let number = epoch["epoch"].as_u64().unwrap_or_else(|| panic!("no number: {epoch}"));
    let points = epoch["points"].as_array().unwrap_or_else(|| panic!("no points: {epoch}"));
    let read = |point: &Value| {
        let txid = u64::from_str_radix(point["txid"].as_str()?, 16).ok()?;
        Some(((number, txid), point["lineage"].as_bool()?))
    };
    points.iter().map(|point| read(point).unwrap_or_else(|| panic!("no point: {point}"))).collect()
}
