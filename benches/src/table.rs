//! What a person sees.

use crate::rounds::{Ratio, Row};
use crate::spread::Spread;

/// The table of steps per second.
pub(crate) fn print_rows(rows: &[Row]) {
    println!(
        "{:<34} {:>8}  {:<23} {:<23} {:>9} {:>8} {:>9} {:>6}",
        "", "steps", "ratio to raw", "ratio to skeleton", "WAL bytes", "CPU us", "steps a", "most"
    );
    println!(
        "{:<34} {:>8}  {:<23} {:<23} {:>9} {:>8} {:>9} {:>6}",
        "", "a second", "(quartiles) goal", "(quartiles) goal", "a step", "a step", "commit", "MiB"
    );
    for Row { name, figures, ratio, ratio_to_skeleton } in rows {
        let (ratio, to_skeleton) = (shown(ratio.as_ref()), shown(ratio_to_skeleton.as_ref()));
        println!(
            "{name:<34} {:>8.0}  {ratio:<23} {to_skeleton:<23} {:>9.0} {:>8.1} {:>9.2} {:>6.1}",
            figures.per_second,
            figures.wal_bytes,
            figures.cpu_micros,
            figures.steps_a_commit,
            figures.most_mib
        );
    }
    println!();
    println!("Ratios: the median over the rounds of this row's rate to the other's of that round.");
    println!("Blocking steps are held against the engine's own that do not block.");
    println!("Memory: the most (VmHWM) of the process that measured that row alone.");
}

fn shown(ratio: Option<&Ratio>) -> String {
    let Some(Ratio { spread, goal, .. }) = ratio else {
        return "-".to_owned();
    };
    let goal = goal.map_or(String::new(), |goal| format!(" {goal:.2}"));
    format!("{:.2} ({:.2}..{:.2}){goal}", spread.median, spread.lower, spread.upper)
}

/// A figure by itself, and what the design asks of it.
pub(crate) struct Line {
    what: &'static str,
    value: String,
    goal: &'static str,
}

impl Line {
    pub(crate) fn of(what: &'static str, value: &impl ToString, goal: &'static str) -> Line {
        Line { what, value: value.to_string(), goal }
    }

    /// The middle one of some rounds, with the least and the most.
    pub(crate) fn spread(
        what: &'static str,
        Spread { min, median, max, .. }: &Spread,
        digits: usize,
        goal: &'static str,
    ) -> Line {
        let value = format!("{median:.digits$} ({min:.digits$}..{max:.digits$})");
        Line { what, value, goal }
    }
}

/// Some figures, a line each.
pub(crate) fn print_lines(lines: &[Line]) {
    println!("{:<44} {:>26} {:>10}", "", "median (min..max)", "goal");
    for Line { what, value, goal } in lines {
        println!("{what:<44} {value:>26} {goal:>10}");
    }
}
