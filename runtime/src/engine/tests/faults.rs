//! Commits that fail: nothing is lost and nothing is repeated.

use std::path::Path;
use std::sync::Arc;

use proptest::test_runner::{Config, TestRunner};

use super::prefixes::{fsck, soon};
use super::program::{Ledger, Program, app, program};
use crate::engine::recovery::Instruments;
use crate::{Environment, ErrorKind, Node, StartRequest};

/// Runs a program while the commits of some numbers fail; returns how many commits there were.
async fn run_with_faults(folder: &Path, program: &Program, fail: Vec<u64>) -> u64 {
    let name = format!("{fail:?}.db").replace(['[', ']', ' '], "");
    let path = folder.join(name);
    let instruments = Instruments::default();
    instruments.faults.fail(fail.iter().copied());
    let ledger = Arc::new(Ledger::default());
    let environment = Environment::alone(&path);
    let node = Node::open_with(app(&ledger), environment, instruments.clone()).await.unwrap();
    let request = StartRequest::new("program", program).unwrap().id("p");
    let run = loop {
        match node.start_request(request.clone()).await {
            Ok(run) => break run,
            Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}"),
        }
    };
    soon(node.result(&run.id)).await.unwrap().output::<u64>().unwrap();
    node.shutdown().await.unwrap();
    assert_eq!(node.shadow_replays().1, 0, "a shadow replay took another way");
    fsck(&path);
    for ((run, op, attempt), times) in ledger.take() {
        assert_eq!(times, 1, "attempt {attempt} of step {op} of {run}, commits {fail:?} failed");
    }
    instruments.faults.counts().0
}

#[test]
fn a_commit_that_fails_at_any_turn_loses_and_repeats_nothing() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let config = Config { cases: 24, max_shrink_iters: 50, ..Config::default() };
    TestRunner::new(config)
        .run(&program(), |program| {
            let folder = tempfile::tempdir().unwrap();
            runtime.block_on(async {
                let commits = run_with_faults(folder.path(), &program, Vec::new()).await;
                let one = (1..=commits + 1).map(|commit| vec![commit]);
                let several =
                    (1..=commits).step_by(3).map(|commit| vec![commit, commit + 1, commit + 2]);
                let all =
                    one.chain(several).map(|fail| run_with_faults(folder.path(), &program, fail));
                futures_util::future::join_all(all).await;
            });
            Ok(())
        })
        .unwrap();
}
