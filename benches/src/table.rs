//! What a person sees.

use crate::rounds::{MeasuredRow, Ratio};
use crate::spread::Spread;

/// What can be shown to a person.
pub(crate) trait Print {
    /// Prints it.
    fn print(&self);
}

impl Print for Vec<MeasuredRow> {
    fn print(&self) {
        print_row(["", "steps", "ratio", "to skeleton", "WAL bytes", "CPU us", "steps", "most"]);
        let ratio = "(quartiles) goal";
        print_row(["", "a second", ratio, ratio, "a step", "a step", "a commit", "MiB"]);
        for MeasuredRow { name, figures, ratio, ratio_to_skeleton } in self {
            print_row([
                name,
                &format!("{:.0}", figures.per_second),
                &shown(ratio.as_ref()),
                &shown(ratio_to_skeleton.as_ref()),
                &format!("{:.0}", figures.wal_bytes),
                &format!("{:.1}", figures.cpu_micros),
                &format!("{:.2}", figures.steps_a_commit),
                &format!("{:.1}", figures.most_mib),
            ]);
        }
        println!("{NOTES}");
    }
}

const NOTES: &str = "
Ratio: this row's steps a second to those of the raw row of the same shape in the same round, the
median of all rounds. Blocking steps are held against the engine's own that do not block, the 1,000
at once against raw commits of 256.
Memory: the most (VmHWM) that the process had which measured this row alone.";

fn print_row([name, rate, ratio, skeleton, wal, cpu, commit, memory]: [&str; 8]) {
    let ratios = format!("{ratio:<23} {skeleton:<23}");
    println!("{name:<34} {rate:>8}  {ratios} {wal:>9} {cpu:>7} {commit:>8} {memory:>6}");
}

fn shown(ratio: Option<&Ratio>) -> String {
    let Some(Ratio { spread, goal, .. }) = ratio else {
        return "-".to_owned();
    };
    let goal = goal.map_or(String::new(), |goal| format!(" {goal:.2}"));
    format!("{:.2} ({:.2}..{:.2}){goal}", spread.median, spread.lower, spread.upper)
}

/// A figure by itself, and what the design asks of it.
pub(crate) struct PrintedLine {
    what: &'static str,
    value: String,
    goal: &'static str,
}

impl PrintedLine {
    pub(crate) fn of(what: &'static str, value: &impl ToString, goal: &'static str) -> PrintedLine {
        PrintedLine { what, value: value.to_string(), goal }
    }

    /// The median of some rounds, with the least and the most.
    pub(crate) fn spread(
        what: &'static str,
        Spread { min, median, max, .. }: &Spread,
        digits: usize,
        goal: &'static str,
    ) -> PrintedLine {
        let value = format!("{median:.digits$} ({min:.digits$}..{max:.digits$})");
        PrintedLine { what, value, goal }
    }
}

/// Some figures, a line each.
pub(crate) fn print_lines(lines: &[PrintedLine]) {
    println!("{:<44} {:>26} {:>10}", "", "", "goal");
    for PrintedLine { what, value, goal } in lines {
        println!("{what:<44} {value:>26} {goal:>10}");
    }
}
