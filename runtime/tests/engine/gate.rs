//! Every effect leaves a node through its gate, and only the owner's sidecar opens the gate.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tidemill::{App, Ctx, Environment, ErrorKind, Gate, Node, Result, StartRequest, Step};
use tidemill_eventlog::{Checkpoints, Meta, create, host, open_writer};
use tidemill_model::{Epoch, InstanceId, NodeId};

use crate::common::{MILLI, Place, fsck, soon, sql, until};

async fn effect(step: Step, (): ()) -> Result<Option<u64>> {
    step.state::<Arc<AtomicU32>>().fetch_add(1, Ordering::SeqCst);
    Ok(step.epoch())
}

async fn work(ctx: Ctx, (): ()) -> Result<Option<u64>> {
    Ok(ctx.step("effect", effect, ()).await?)
}

fn environment(place: &Place, epoch: u64, gate: &Gate) -> Environment {
    Environment {
        checkpoints: Checkpoints::ByLitestream,
        gate: gate.clone(),
        fleet: Some("fleet".to_owned()),
        node: Some(NodeId::new("n1").unwrap()),
        epoch: Some(Epoch::new(epoch).unwrap()),
        instance: Some(InstanceId::from_random([7; 16])),
        ..Environment::alone(&place.file())
    }
}

/// What the sidecar does before an app of this epoch may open the file.
fn ship(place: &Place, epoch: u64) {
    let connection = open_writer(&place.file(), Checkpoints::ByLitestream).unwrap();
    let (node, epoch) = (NodeId::new("n1").unwrap(), Epoch::new(epoch).unwrap());
    Meta::mark_shipped(&connection, &node, epoch, &InstanceId::from_random([7; 16])).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_and_acknowledgements_wait_for_the_gate() {
    let place = Place::new();
    create(&place.file()).unwrap();
    ship(&place, 1);
    let (gate, effects) = (Gate::leased(), Arc::new(AtomicU32::new(0)));
    let app = App::new("t").state(Arc::clone(&effects)).workflow("work", work);
    let node = Node::open(app, environment(&place, 1, &gate)).await.unwrap();
    let starting = tokio::spawn({
        let node = node.clone();
        async move { node.start_request(StartRequest::new("work", ()).unwrap().id("r")).await }
    });
    until(|| sql::<i64>(&place, "SELECT count(*) FROM events WHERE kind = 'step_started'") == 1)
        .await;
    tokio::time::sleep(MILLI * 20).await;
    assert!(!starting.is_finished(), "the start is durable and not acknowledged");
    assert_eq!(effects.load(Ordering::SeqCst), 0, "the step has started and its body has not");
    gate.set(host::boot_now().saturating_add(Duration::from_secs(60)));
    let run = soon(starting).await.unwrap().unwrap();
    let ended = soon(node.result(&run.id)).await.unwrap();
    assert_eq!(ended.output::<Option<u64>>().unwrap(), Some(1));
    gate.fence();
    let fenced = node.start_request(StartRequest::new("work", ()).unwrap()).await.unwrap_err();
    assert_eq!(fenced.kind(), ErrorKind::Fenced);
    node.shutdown().await.unwrap();
    assert_eq!(effects.load(Ordering::SeqCst), 1);
    fsck(&place);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shipped_file_opens_only_for_its_own_epoch_and_each_epoch_says_so_once() {
    let place = Place::new();
    create(&place.file()).unwrap();
    ship(&place, 3);
    let app = || App::new("t").state(Arc::new(AtomicU32::new(0))).workflow("work", work);
    let alone = app().open(place.file()).await.unwrap_err();
    assert_eq!(alone.kind(), ErrorKind::Conflict);
    assert!(alone.to_string().contains("node `n1`, epoch 3"), "{alone}");
    let gate = Gate::always_open();
    let older = Node::open(app(), environment(&place, 2, &gate)).await.unwrap_err();
    assert_eq!(older.kind(), ErrorKind::Fenced);
    for _ in 0..2 {
        let node = Node::open(app(), environment(&place, 3, &gate)).await.unwrap();
        node.shutdown().await.unwrap();
    }
    ship(&place, 4);
    let node = Node::open(app(), environment(&place, 4, &gate)).await.unwrap();
    node.shutdown().await.unwrap();
    let epochs = "SELECT group_concat(data ->> '$.epoch') FROM events WHERE kind = 'node_started'";
    assert_eq!(sql::<String>(&place, epochs), "3,4");
    fsck(&place);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_a_sidecar_only_the_file_that_it_ships_is_opened() {
    let place = Place::new();
    create(&place.file()).unwrap();
    let app = App::new("t").state(Arc::new(AtomicU32::new(0))).workflow("work", work);
    let opened = Node::open(app, environment(&place, 1, &Gate::always_open())).await;
    let refused = opened.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    assert!(refused.to_string().contains("is not the file that the sidecar"), "{refused}");
}
