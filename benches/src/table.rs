//! What a person sees.

use crate::children::Children;
use crate::rounds::{Ratio, Row};
use crate::waiting::Waiting;

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

pub(crate) fn print_waiting(waiting: &Waiting) {
    let Waiting { runs, open_ms, resident_mib, wal_bytes, wake_ms, .. } = waiting;
    let ratio = waiting.start_micros / waiting.start_micros_empty;
    println!("{:<44} {runs:>12}", "runs that wait in the file");
    println!("{:<44} {open_ms:>12.1}", "until the node is open, ms");
    println!("{:<44} {resident_mib:>12.1}", "resident a second later, MiB");
    println!("{:<44} {wal_bytes:>12}", "written to the WAL by the start, bytes");
    println!("{:<44} {ratio:>12.2}", "starting a run, against an empty file");
    println!("{:<44} {wake_ms:>12.1}", "from a timer's moment to its run's end, ms");
}

pub(crate) fn print_children(children: &Children) {
    let Children { runs, children_s, alone_s, longest_start_ms, most_mib } = children;
    let ratio = children_s / alone_s;
    println!("{:<44} {runs:>12}", "children of one parent");
    println!("{:<44} {children_s:>12.2}", "until all have ended, s");
    println!("{:<44} {ratio:>12.2}", "against as many runs by themselves");
    println!("{:<44} {longest_start_ms:>12.1}", "longest start of another run meanwhile, ms");
    println!("{:<44} {most_mib:>12.1}", "most memory of the process, MiB");
}
