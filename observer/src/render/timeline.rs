//! The timeline of a source: the newest first, the past of long-lived nodes folded.

use tidemill_model::{Base, Epoch, GivenUp, Timestamp, Txid, terminal};

use super::columns;
use super::screen::{Colour, Screen};
use crate::history::{BucketHistory, EpochView, FileHistory, History, PointView};

/// How a timeline is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TimelineOptions {
    /// Every point of every epoch, however many there are.
    pub all: bool,
    /// The oldest first.
    pub oldest_first: bool,
}

/// How many points of the newest epoch are shown, unless all are asked for.
const POINTS_MAX: usize = 10;

/// How many older epochs have a line of their own then.
const EPOCHS_MAX: usize = 10;

/// How many starts of a file are shown then.
const STARTS_MAX: usize = 20;

/// How much of a disk's name tells it from others.
const INSTANCE_CHARS: usize = 8;

/// The timeline as text.
pub fn history(history: &History, options: TimelineOptions, screen: Screen) -> String {
    match history {
        History::Bucket(history) => bucket(history, options, screen),
        History::File(history) => file(history, options, screen),
    }
}

fn bucket(history: &BucketHistory, options: TimelineOptions, screen: Screen) -> String {
    let points: usize = history.epochs.iter().map(|epoch| epoch.points.len()).sum();
    let epochs = history.epochs.len();
    let counts = [counted(epochs, "epoch"), counted(points, "point")].join(", ");
    let latest = match &history.latest {
        Some(latest) => format!("latest is @{latest}"),
        None => "nothing can be restored yet".to_owned(),
    };
    let head = format!("{}  {counts}\n{latest}\n", terminal::line(&history.node));
    let mut parts: Vec<String> = Vec::new();
    for (place, epoch) in history.epochs.iter().enumerate().rev() {
        let age = epochs - 1 - place;
        if !options.all && age > EPOCHS_MAX {
            let rest = counted(epochs - age, "older epoch");
            parts.push(format!("… {rest}, --all shows everything\n"));
            break;
        }
        let before = place.checked_sub(1).map(|before| &history.epochs[before]);
        let with_points = age == 0 || options.all;
        // No empty line separates folded epochs.
        let apart = if with_points || age == 1 { "\n" } else { "" };
        parts.push(apart.to_owned() + &one_epoch(epoch, before, with_points, options, screen));
    }
    if options.oldest_first {
        parts.reverse();
    }
    head + &parts.concat()
}

/// An epoch: how it began, its points if they are asked for, and what is wrong with it.
fn one_epoch(
    epoch: &EpochView,
    before: Option<&EpochView>,
    with_points: bool,
    options: TimelineOptions,
    screen: Screen,
) -> String {
    let began = match epoch.begun_at {
        Some(at) => {
            let at = screen.time(at);
            format!("began {at}{}: {}", holder(epoch), reason(epoch, before))
        }
        None => "claimed and never begun".to_owned(),
    };
    let left = epoch.points.iter().filter(|point| !point.lineage).count();
    let left =
        if left > 0 && !with_points { format!(", {left} left behind") } else { String::new() };
    let points = counted(epoch.points.len(), "point");
    let heading = format!("epoch {}  {began}  [{points}{left}]", epoch.epoch);
    let mut text = format!("{}\n", terminal::line(&heading));
    if with_points {
        text += &shown_points(&epoch.points, options, screen);
    }
    let mut flag = |line: String| {
        let line = terminal::line(&line).into_owned();
        text += &format!("  {}\n", screen.paint(&line, Some(Colour::Bad)));
    };
    for gap in &epoch.gaps {
        flag(format!("gap     {}: files are missing", between(gap.after, gap.until)));
    }
    for range in &epoch.breaks {
        let between = between(range.after, range.until);
        let open = if range.is_open() { ", until it is repaired" } else { "" };
        flag(format!("break   {between}{open}: {}", range.reason));
    }
    for branch in epoch.branches.iter().filter(|_| with_points) {
        text += &format!("  branch  epoch {} began at {}\n", branch.epoch, branch.txid);
    }
    text
}

/// On which machine and disk it was written, as far as its document says.
fn holder(epoch: &EpochView) -> String {
    let disk: Option<String> =
        epoch.instance.as_ref().map(|it| it.as_str().chars().take(INSTANCE_CHARS).collect());
    match (&epoch.host, disk) {
        (Some(host), Some(disk)) => format!(" on {host}, disk {disk}"),
        (None, Some(disk)) => format!(" on disk {disk}"),
        (_, None) => String::new(),
    }
}

/// Why there is this epoch, and what it began from.
fn reason(epoch: &EpochView, before: Option<&EpochView>) -> String {
    if let Some(GivenUp { epoch: lost, txid, reason, .. }) = &epoch.given_up {
        let from = epoch.base.map_or_else(|| "nothing".to_owned(), from);
        return format!("--allow-older gave @e{lost}:{txid} up ({reason}), from {from}");
    }
    let same_disk =
        epoch.instance.is_some() && before.is_some_and(|it| it.instance == epoch.instance);
    let how = match epoch.base {
        None => return "a new node, empty".to_owned(),
        Some(Base::Restored { .. }) if same_disk => "restored onto the same disk",
        Some(Base::Restored { .. }) => "taken over",
        Some(Base::Local { .. }) if same_disk => "the same disk started again",
        Some(Base::Local { .. }) => "a disk that had the file",
    };
    format!("{how}, from {}", epoch.base.map_or_else(String::new, from))
}

fn from(base: Base) -> String {
    match base {
        Base::Restored { epoch, txid, seq, .. } => format!("@e{epoch}:{txid} (event {seq})"),
        Base::Local { local } => format!("its event {}", local.seq),
    }
}

fn shown_points(points: &[PointView], options: TimelineOptions, screen: Screen) -> String {
    let line = |point: &PointView| {
        let left = if point.lineage { "" } else { "  left behind" };
        format!("  @{}  {}{left}\n", point.moment, screen.time(point.at))
    };
    let shown = if options.all { points.len() } else { POINTS_MAX };
    let mut lines: Vec<String> = points.iter().rev().take(shown).map(line).collect();
    if points.len() > shown {
        lines.push(format!("  … {} older, --all shows them\n", points.len() - shown));
    }
    if options.oldest_first {
        lines.reverse();
    }
    lines.concat()
}

fn counted(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

fn between(after: Option<Txid>, until: Option<Txid>) -> String {
    match (after, until) {
        (Some(after), Some(until)) => format!("between {after} and {until}"),
        (Some(after), None) => format!("after {after}"),
        (None, Some(until)) => format!("before {until}"),
        (None, None) => "everything".to_owned(),
    }
}

fn file(history: &FileHistory, options: TimelineOptions, screen: Screen) -> String {
    let newest = match history.head.ts {
        Some(ts) => format!("newest event is {} of {ts}", history.head.seq),
        None => "no events".to_owned(),
    };
    let mut text = format!("{}\n{newest}\n", terminal::line(&history.origin.to_string()));
    if history.epochs.is_empty() {
        return text;
    }
    let shown = if options.all { usize::MAX } else { STARTS_MAX };
    let mut rows: Vec<Vec<String>> = history
        .epochs
        .iter()
        .rev()
        .take(shown)
        .map(|start| {
            let time = |at: Timestamp| screen.time(at);
            vec![
                start.epoch.map_or_else(|| "-".to_owned(), |epoch: Epoch| epoch.to_string()),
                start.node.as_ref().map_or("-", |node| node.as_str()).to_owned(),
                time(start.ts),
                start.seq.to_string(),
            ]
        })
        .collect();
    if options.oldest_first {
        rows.reverse();
    }
    text += "\n";
    text += &columns(&["EPOCH", "NODE", "OPENED", "EVENT"], &rows);
    let folded = history.epochs.len() - rows.len();
    if folded > 0 {
        text += &format!("… {}, --all shows them\n", counted(folded, "older epoch"));
    }
    text
}
