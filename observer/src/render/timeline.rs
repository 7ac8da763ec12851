//! The timeline of a source.

use tidemill_model::{Base, Epoch, Txid, terminal};

use super::columns;
use crate::history::{BucketHistory, EpochView, FileHistory, History, PointView};

/// An epoch with more points than this shows the first and the last few, unless all are asked for.
const POINTS_MAX: usize = 20;

/// How many of the first and of the last points are shown then.
const POINTS_SHOWN: usize = 5;

/// The timeline as text; `all` shows every point.
pub fn history(history: &History, all: bool) -> String {
    match history {
        History::Bucket(history) => bucket(history, all),
        History::File(history) => file(history),
    }
}

fn bucket(history: &BucketHistory, all: bool) -> String {
    let mut text = format!("{}\n", terminal::line(&history.node));
    for epoch in &history.epochs {
        text += &heading(epoch);
        points(&mut text, &epoch.points, all);
        for gap in &epoch.gaps {
            text += &format!("  gap     {}: files are missing\n", between(gap.after, gap.until));
        }
        for range in &epoch.breaks {
            let between = between(range.after, range.until);
            let open = if range.is_open() { ", until it is repaired" } else { "" };
            text += &format!("  break   {between}{open}: {}\n", terminal::line(&range.reason));
        }
        for branch in &epoch.branches {
            text += &format!("  branch  epoch {} began at {}\n", branch.epoch, branch.txid);
        }
    }
    match &history.latest {
        Some(latest) => text + &format!("\nlatest is @{latest}\n"),
        None => text + "\nnothing can be restored yet\n",
    }
}

fn heading(epoch: &EpochView) -> String {
    let began = match (epoch.base, epoch.begun_at) {
        (_, None) => "claimed and never begun".to_owned(),
        (None, Some(at)) => format!("began empty at {at}"),
        (Some(Base::Restored { epoch, txid, seq, .. }), Some(at)) => {
            format!("began at {at} from @e{epoch}:{txid} (event {seq})")
        }
        (Some(Base::Local { local }), Some(at)) => {
            format!("began at {at} from the local file (event {})", local.seq)
        }
    };
    let count = epoch.points.len();
    let noun = if count == 1 { "point" } else { "points" };
    format!("\nepoch {}  {began}, {count} {noun}\n", epoch.epoch)
}

fn points(text: &mut String, points: &[PointView], all: bool) {
    let line = |point: &PointView| {
        let left = if point.lineage { "" } else { "  left behind" };
        format!("  @{}  {}{left}\n", point.moment, point.at)
    };
    if all || points.len() <= POINTS_MAX {
        text.extend(points.iter().map(line));
        return;
    }
    let rest = points.len() - 2 * POINTS_SHOWN;
    text.extend(points.iter().take(POINTS_SHOWN).map(line));
    *text += &format!("  … {rest} more, --all shows them\n");
    text.extend(points.iter().skip(POINTS_SHOWN + rest).map(line));
}

fn between(after: Option<Txid>, until: Option<Txid>) -> String {
    match (after, until) {
        (Some(after), Some(until)) => format!("between {after} and {until}"),
        (Some(after), None) => format!("after {after}"),
        (None, Some(until)) => format!("before {until}"),
        (None, None) => "everything".to_owned(),
    }
}

fn file(history: &FileHistory) -> String {
    let mut text = format!("{}\n", terminal::line(&history.origin.to_string()));
    if !history.epochs.is_empty() {
        let rows: Vec<Vec<String>> = history
            .epochs
            .iter()
            .map(|epoch| {
                vec![
                    epoch.epoch.map_or_else(|| "-".to_owned(), |epoch: Epoch| epoch.to_string()),
                    epoch.node.as_ref().map_or("-", |node| node.as_str()).to_owned(),
                    epoch.ts.to_string(),
                    epoch.seq.to_string(),
                ]
            })
            .collect();
        text += &columns(&["EPOCH", "NODE", "OPENED", "EVENT"], &rows);
    }
    match history.head.ts {
        Some(ts) => text + &format!("newest event is {} of {ts}\n", history.head.seq),
        None => text + "no events\n",
    }
}
