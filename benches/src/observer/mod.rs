//! The observer as a team uses it: how long a look takes, and what the service holds meanwhile.
//!
//! - `nodes` writes the files of three nodes
//! - `world` ships them with the real sidecar to a development bucket, and runs the observer
//! - `looks` sends the observer requests, as a browser or a program would, and times the answers
//!
//! Goals: a node of 200 MB opens in at most 1.1 times what `litestream restore` takes, and a second
//! look answers within 100 ms; lists answer within 100 ms with 100,000 runs of 5,000,000 events; the
//! first page of 500 nodes is there 2 s after the start; 150 MiB resident.

mod looks;
mod nodes;
mod world;

use std::path::Path;

use serde::Serialize;

use crate::order::Site;
use crate::spread::Spread;
use crate::table::{Print, PrintedLine, print_lines};

use looks::{TimedLook, look};
use nodes::{Large, Lists, Wide};
use world::World;

pub(crate) use world::serve_app;

/// Nodes in the fleet whose first page is measured, besides those that have files.
const FLEET: u32 = 500;

/// What was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Observed {
    /// Bytes of the file that is opened.
    large_bytes: u64,
    /// How long `litestream restore` of that file takes, in milliseconds.
    restore_ms: Spread,
    /// The same with the check of pages that every restore of Tidemill's includes.
    restore_checked_ms: Spread,
    /// How long the first list of the node's runs takes, from an empty cache, in milliseconds.
    open_ms: Spread,
    /// The ratio of that first list to the plain restore of the same round.
    open_ratio: Spread,
    /// The ratio of that first list to the checked restore of the same round.
    open_ratio_checked: Spread,
    /// The time from the observer's start to a first page with all nodes, in milliseconds.
    fleet_ms: f64,
    /// The timed looks, one for each address.
    looks: Vec<TimedLook>,
    /// Resident memory at the end, in MiB.
    resident_mib: f64,
    /// The highest resident memory, in MiB.
    most_mib: f64,
}

/// Writes the files, ships them, and times how they open.
///
/// # Errors
/// What a process said before it failed.
pub(crate) fn measure(site: &Site, runs: u32, rounds: u32) -> anyhow::Result<Observed> {
    let folder = site.folder()?;
    let world = World::start(folder.path())?;
    eprintln!("writing and shipping three nodes: some minutes");
    let large = world.ship("large", |path| Large.write(path))?;
    world.ship("wide", |path| Wide.write(path))?;
    world.ship("lists", |path| Lists { runs }.write(path))?;
    let opened = opening(&world, folder.path(), rounds)?;
    world.add_nodes("lists", FLEET)?;
    let cache = folder.path().join("cache");
    let observer = world.observe(&cache)?;
    let fleet_ms = looks::until_all(&observer, FLEET + 3)?;
    let mut all = Vec::new();
    for path in looks::paths() {
        all.push(look(&observer, path, rounds)?);
    }
    Ok(Observed {
        large_bytes: large,
        restore_ms: Spread::of(opened.restore),
        restore_checked_ms: Spread::of(opened.checked),
        open_ms: Spread::of(opened.open),
        open_ratio: Spread::of(opened.ratio),
        open_ratio_checked: Spread::of(opened.ratio_checked),
        fleet_ms,
        looks: all,
        resident_mib: observer.mib("VmRSS:")?,
        most_mib: observer.mib("VmHWM:")?,
    })
}

/// The times of restores and first looks, in milliseconds, round by round.
#[derive(Default)]
struct Opened {
    restore: Vec<f64>,
    checked: Vec<f64>,
    open: Vec<f64>,
    ratio: Vec<f64>,
    ratio_checked: Vec<f64>,
}

fn opening(world: &World, folder: &Path, rounds: u32) -> anyhow::Result<Opened> {
    let mut opened = Opened::default();
    for round in 0..rounds {
        let plain = world.restore("large", &folder.join(format!("plain-{round}")), false)?;
        let checked = world.restore("large", &folder.join(format!("checked-{round}")), true)?;
        let cache = folder.join(format!("cache-{round}"));
        let observer = world.observe(&cache)?;
        // The node's lease is known, as it is of a service that is open all day.
        looks::until_all(&observer, 3)?;
        let open = looks::first(&observer, "large@latest/runs")?;
        drop(observer);
        std::fs::remove_dir_all(&cache)?;
        opened.restore.push(plain);
        opened.checked.push(checked);
        opened.open.push(open);
        opened.ratio.push(open / plain);
        opened.ratio_checked.push(open / checked);
    }
    Ok(opened)
}

impl Print for Observed {
    fn print(&self) {
        let mib = self.large_bytes / 1024 / 1024;
        print_lines(&[
            PrintedLine::of("the file that is opened, MiB", &mib, ""),
            PrintedLine::spread("litestream restore, ms", &self.restore_ms, 0, ""),
            PrintedLine::spread("  with -integrity-check quick", &self.restore_checked_ms, 0, ""),
            PrintedLine::spread("first look at it, ms", &self.open_ms, 0, ""),
            PrintedLine::spread("  to the plain restore", &self.open_ratio, 2, "< 1.10"),
            PrintedLine::spread("  to the checked restore", &self.open_ratio_checked, 2, ""),
            PrintedLine::of(
                "from the start to a page of 503 nodes, ms",
                &format!("{:.0}", self.fleet_ms),
                "< 2000",
            ),
            PrintedLine::of("resident, MiB", &format!("{:.0}", self.resident_mib), "< 150"),
            PrintedLine::of("  at most", &format!("{:.0}", self.most_mib), ""),
        ]);
        looks::print(&self.looks);
    }
}
