//! Generated programs in virtual time: they do the same each time, and after every crash.

use std::sync::Arc;

use proptest::test_runner::{Config, TestRunner};
use proptest::{prop_assert, prop_assert_eq};
use tidemill_eventlog::{open_reader, query};
use tidemill_model::{OpId, RunId, Seq, Timestamp};
use tokio::runtime::Runtime;

use super::program::{Program, app, program};
use crate::testing::{TestApp, others_end};

/// One row of the log, without data in which programs differ on purpose.
type Line = (Timestamp, Option<RunId>, String, Option<OpId>);

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn generated() -> TestApp {
    TestApp::new(|| app(&Arc::default()))
}

/// A program whose bodies do not wait for the world.
fn calm(program: Program) -> Program {
    let each = |all: Vec<Program>| all.into_iter().map(calm).collect();
    let one = |inner: Program| Box::new(calm(inner));
    match program {
        // An attempt that failed may succeed when a crash repeats it, and win a race.
        Program::Step { .. } => Program::Step { fails: 0, attempts: 3, yields: 0, blocking: false },
        Program::Child(inner) => Program::Child(one(*inner)),
        Program::Outliving(inner) => Program::Outliving(one(*inner)),
        Program::Spawn(inner) => Program::Spawn(one(*inner)),
        Program::Cleanup(inner) => Program::Cleanup(one(*inner)),
        Program::Sequence(all) => Program::Sequence(each(all)),
        Program::JoinAll(all) => Program::JoinAll(each(all)),
        Program::Unordered(all) => Program::Unordered(each(all)),
        Program::Join(a, b) => Program::Join(one(*a), one(*b)),
        Program::Race(a, b) => Program::Race(one(*a), one(*b)),
        Program::Channel(a, b) => Program::Channel(one(*a), one(*b)),
        // What it abandons waits for the world.
        Program::Abandon(inner) => calm(*inner),
        leaf @ (Program::Sleep(_)
        | Program::Signal(..)
        | Program::Promise(..)
        | Program::Now
        | Program::Random
        | Program::Status) => leaf,
    }
}

/// The output and the whole log of a program.
async fn executed(program: &Program) -> (u64, Vec<Line>) {
    let app = generated().fail_times("body", 1, "not yet").open().await.unwrap();
    let output = app.run("program", program).await.unwrap();
    others_end(app.node()).await;
    app.shutdown().await.unwrap();
    let file = open_reader(app.path()).unwrap();
    let rows = query::events(&file, None, Seq::ZERO, u32::MAX).unwrap();
    let line = rows.into_iter().map(|row| (row.ts, row.run, row.kind, row.op));
    (output, line.collect())
}

#[test]
fn a_program_writes_the_same_log_each_time() {
    let runtime = runtime();
    TestRunner::new(Config { cases: 40, max_shrink_iters: 100, ..Config::default() })
        .run(&program(), |program| {
            let program = calm(program);
            let once = runtime.block_on(executed(&program));
            for _ in 0..2 {
                prop_assert_eq!(&runtime.block_on(executed(&program)), &once);
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_program_ends_the_same_after_a_crash_at_every_commit() {
    let runtime = runtime();
    let mut crashes = 0;
    let count = std::cell::RefCell::new(&mut crashes);
    TestRunner::new(Config { cases: 12, max_shrink_iters: 30, ..Config::default() })
        .run(&program(), |program| {
            let program = calm(program);
            let report = generated().crash_everywhere::<u64, _, _, _>("program", &program);
            let report = runtime.block_on(report);
            prop_assert!(report.is_ok(), "{}", report.unwrap_err());
            **count.borrow_mut() += report.unwrap().crashes;
            Ok(())
        })
        .unwrap();
    assert!(crashes > 50, "{crashes}");
}
