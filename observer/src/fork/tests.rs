use tidemill_bucket::Settings;
use tidemill_model::{BlockReasonKind, ForkAs, ForkRequest, InstanceId, NodeId, Seed};

use super::*;
use crate::testing::{at, file, run_id};
use crate::{Cache, Source};

fn access() -> Access {
    let cache = Cache::new(std::env::temp_dir().join("tidemill-no-snapshots-here"));
    Access { s3: Settings::default(), cache, litestream: None, token: None, now: at(100) }
}

async fn opened() -> (tempfile::TempDir, Snapshot) {
    let (dir, path) = file();
    let snapshot = access().open(&Source::File(path)).await.unwrap();
    (dir, snapshot)
}

fn made(source: &ForkSource, request: &ForkRequest) -> MadeFork {
    let who = ForkAs {
        from: source.run.clone(),
        id: run_id("again"),
        seed: Seed::from_random([3; 16]),
        app_version: "1".to_owned(),
        requester: None,
    };
    source.make(request, &who, false).unwrap()
}

fn own(name: &str) -> OwnName {
    OwnName { name: NodeId::new(name).unwrap(), id: InstanceId::from_random([7; 16]) }
}

#[tokio::test]
async fn a_run_is_taken_as_it_was_with_the_labels_of_its_children() {
    let (_dir, snapshot) = opened().await;
    let RunThen { source, status } = snapshot.run_then(&run_id("sweep"), None).unwrap();
    assert!(!status.is_final());
    let kinds: Vec<&str> = source.events.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(kinds.first(), Some(&"run_created"));
    assert_eq!(kinds.last(), Some(&"step_failed"));
    assert_eq!(source.given[&run_id("sweep.1")].labels["team"], "ml");
    assert_eq!((source.origin.seq, source.origin.at), (Seq::new(16).unwrap(), at(16)));

    let until = Seq::new(5).unwrap();
    let earlier = snapshot.run_then(&run_id("sweep"), Some(until)).unwrap().source;
    assert_eq!((earlier.origin.seq, earlier.origin.at), (until, at(5)));
    assert_eq!(earlier.events, source.events[..earlier.events.len()]);
    assert_eq!(earlier.events.len(), 3);
    let refused = |run: &str, until| {
        let error = snapshot.run_then(&run_id(run), until).unwrap_err();
        (error.kind(), error.to_string())
    };
    let (kind, said) = refused("sweep.1", Some(Seq::new(3).unwrap()));
    assert!(kind == ErrorKind::NotFound && said.contains("it was created later"), "{said}");
    assert!(refused("nobody", None).1.contains("`tidemill runs` lists them"));
}

#[tokio::test]
async fn a_file_has_the_fork_its_children_and_nothing_else() {
    let (_dir, snapshot) = opened().await;
    let mut source =
        snapshot.run_then(&run_id("sweep"), Some(Seq::new(5).unwrap())).unwrap().source;
    // A cut after the child began and before it ended.
    let mut now = snapshot.run_then(&run_id("sweep"), None).unwrap().source.events;
    now.retain(|event| event.kind != "child_completed");
    source.events = now;
    source.exact_from = Some(Seq::ZERO);
    let fork = made(&source, &ForkRequest::at("publish"));
    assert_eq!(fork.children.len(), 1);
    let out = tempfile::tempdir().unwrap();
    let to = out.path().join("lab.db");
    let forked = access().fork_to(&to, own("lab"), &source.origin, fork.clone()).unwrap();
    assert_eq!((forked.id, forked.copy.name.as_str()), (run_id("again"), "lab"));
    let names: Vec<_> = std::fs::read_dir(out.path()).unwrap().collect();
    assert_eq!(names.len(), 1, "{names:?}");
    let connection = tidemill_eventlog::open_any(&to).unwrap();
    let report = tidemill_eventlog::fsck(&connection).unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(report.runs, 2);
    for run in ["again", "again.1"] {
        let reason = query::block_reason(&connection, &run_id(run)).unwrap().unwrap();
        assert_eq!(reason.kind, BlockReasonKind::Parked, "{run}");
    }
    let process = Process::read(&connection).unwrap().unwrap();
    assert_eq!(process.floats_exact_from, Some(Seq::ZERO));
    let taken = access().fork_to(&to, own("lab"), &source.origin, fork.clone()).unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::Conflict);

    let origin = ForkOrigin { node: Some(NodeId::new("n1").unwrap()), ..source.origin };
    let other = out.path().join("other.db");
    let error = access().fork_to(&other, own("n1"), &origin, fork.clone()).unwrap_err();
    assert!(error.to_string().contains("needs a name of its own"), "{error}");
    let nowhere = Path::new("/nonexistent/folder/lab.db");
    let error = access().fork_to(nowhere, own("lab"), &origin, fork).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(!other.exists());
}
