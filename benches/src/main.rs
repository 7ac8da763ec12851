//! The benchmark: what the engine does, beside what the disk allows in the same run.
//!
//! Machines differ and are shared, so the ratio to the baseline of the same run is the figure;
//! rounds of both alternate, and the middle one of each is shown. The baseline of blocking steps
//! are the engine's own that are not.

mod children;
mod engine;
mod measure;
mod raw;
mod waiting;

use std::path::PathBuf;

use clap::Parser;
use serde::Serialize;

use children::Children;
use engine::Bodies;
use measure::{Figures, median};
use waiting::Waiting;

/// Measure steps per second against the raw disk.
#[derive(Parser)]
struct Arguments {
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
    /// Rounds; the middle one of each row is shown
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=99))]
    rounds: u32,
    /// Steps of the sequential run
    #[arg(long, default_value_t = 3_000, value_parser = clap::value_parser!(u32).range(10..=100_000))]
    steps: u32,
    /// Steps of each of the 256 concurrent runs
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    steps_each: u32,
    /// The folder whose disk is measured; a new folder in it is used and deleted
    #[arg(long, default_value = "target")]
    dir: PathBuf,
    /// Measure only a file with so many runs that wait
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    waiting: Option<u32>,
    /// Measure only a parent with so many children
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    children: Option<u32>,
    /// The process that is measured: a file of waiting runs, and an empty one
    #[arg(long, hide = true, num_args = 2)]
    opened: Option<Vec<PathBuf>>,
}

const CONCURRENT_RUNS: u32 = 256;

#[derive(Serialize)]
struct Row {
    name: &'static str,
    #[serde(flatten)]
    figures: Figures,
    /// Units per second against the baseline's.
    ratio: Option<f64>,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if let Some([full, empty]) = arguments.opened.as_deref() {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let opened = runtime.block_on(waiting::opened(full, empty))?;
        println!("{}", serde_json::to_string(&opened)?);
        return Ok(());
    }
    if let Some(runs) = arguments.waiting {
        let folder = tempfile::Builder::new().prefix("bench-").tempdir_in(&arguments.dir)?;
        let waiting = waiting::measure(folder.path(), runs)?;
        match arguments.json {
            true => println!("{}", serde_json::to_string_pretty(&waiting)?),
            false => print_waiting(&waiting),
        }
        return Ok(());
    }
    if let Some(runs) = arguments.children {
        let folder = tempfile::Builder::new().prefix("bench-").tempdir_in(&arguments.dir)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let children = runtime.block_on(children::measure(folder.path(), runs))?;
        match arguments.json {
            true => println!("{}", serde_json::to_string_pretty(&children)?),
            false => print_children(&children),
        }
        return Ok(());
    }
    let rows = measure_all(&arguments)?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&rows)?);
    } else {
        print_table(&rows);
    }
    Ok(())
}

fn measure_all(arguments: &Arguments) -> anyhow::Result<Vec<Row>> {
    let Arguments { rounds, steps, steps_each, dir, .. } = arguments;
    let folder = tempfile::Builder::new().prefix("bench-").tempdir_in(dir)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut done: [Vec<Figures>; 7] = std::array::from_fn(|_| Vec::new());
    for round in 0..*rounds {
        eprintln!("round {} of {rounds}", round + 1);
        let db = |name: &str| folder.path().join(format!("{name}-{round}.db"));
        done[0].push(raw::commits(&db("raw-one-row"), *steps, 1, 1)?);
        done[1].push(raw::commits(&db("raw-sequential"), *steps, 2, 1)?);
        done[2].push(runtime.block_on(engine::steps(
            &db("sequential"),
            1,
            *steps,
            Bodies::Async,
        ))?);
        let rows = 2 * CONCURRENT_RUNS;
        let group = raw::commits(&db("raw-group"), *steps_each, rows, CONCURRENT_RUNS)?;
        done[3].push(per_step(group));
        let many = |name, bodies| {
            runtime.block_on(engine::steps(&db(name), CONCURRENT_RUNS, *steps_each, bodies))
        };
        done[4].push(many("group", Bodies::Async)?);
        done[5].push(runtime.block_on(engine::steps(
            &db("blocking"),
            1,
            *steps,
            Bodies::Blocking,
        ))?);
        done[6].push(many("blocking-group", Bodies::Blocking)?);
    }
    let [one_row, raw, sequential, raw_group, group, blocking, blocking_group] =
        done.each_ref().map(|rows| median(rows));
    let row = |name, figures: Figures, baseline: Option<Figures>| {
        let ratio = baseline.map(|baseline| figures.per_second / baseline.per_second);
        Row { name, figures, ratio }
    };
    Ok(vec![
        row("raw: 1 row a commit", one_row, None),
        row("raw: 2 rows a commit", raw, None),
        row("engine: steps of one run", sequential, Some(raw)),
        row("raw: 256 x 2 rows a commit", raw_group, None),
        row("engine: steps of 256 runs", group, Some(raw_group)),
        row("blocking: steps of one run", blocking, Some(sequential)),
        row("blocking: of 256 runs", blocking_group, Some(group)),
    ])
}

/// The figures of a commit of 256 steps, per step.
fn per_step(commit: Figures) -> Figures {
    let steps = f64::from(CONCURRENT_RUNS);
    Figures {
        per_second: commit.per_second * steps,
        wal_bytes: commit.wal_bytes / steps,
        cpu_micros: commit.cpu_micros / steps,
    }
}

fn print_waiting(waiting: &Waiting) {
    let Waiting { runs, open_ms, resident_mib, wal_bytes, wake_ms, .. } = waiting;
    let ratio = waiting.start_micros / waiting.start_micros_empty;
    println!("{:<44} {runs:>12}", "runs that wait in the file");
    println!("{:<44} {open_ms:>12.1}", "until the node is open, ms");
    println!("{:<44} {resident_mib:>12.1}", "resident a second later, MiB");
    println!("{:<44} {wal_bytes:>12}", "written to the WAL by the start, bytes");
    println!("{:<44} {ratio:>12.2}", "starting a run, against an empty file");
    println!("{:<44} {wake_ms:>12.1}", "from a timer's moment to its run's end, ms");
}

fn print_children(children: &Children) {
    let Children { runs, children_s, alone_s, longest_start_ms, most_mib } = children;
    let ratio = children_s / alone_s;
    println!("{:<44} {runs:>12}", "children of one parent");
    println!("{:<44} {children_s:>12.2}", "until all have ended, s");
    println!("{:<44} {ratio:>12.2}", "against as many runs by themselves");
    println!("{:<44} {longest_start_ms:>12.1}", "longest start of another run meanwhile, ms");
    println!("{:<44} {most_mib:>12.1}", "most memory of the process, MiB");
}

fn print_table(rows: &[Row]) {
    println!(
        "{:<28} {:>12} {:>10} {:>14} {:>12}",
        "", "per second", "ratio", "WAL bytes each", "CPU us each"
    );
    for Row { name, figures, ratio } in rows {
        let ratio = ratio.map_or("baseline".to_owned(), |ratio| format!("{ratio:.2}"));
        println!(
            "{name:<28} {:>12.0} {ratio:>10} {:>14.0} {:>12.1}",
            figures.per_second, figures.wal_bytes, figures.cpu_micros
        );
    }
}
