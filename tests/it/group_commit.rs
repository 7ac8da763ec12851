//! Many callers share a commit, and each reply means that the commit is durable.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::support::app::Settings;
use crate::support::{scratch, sqlite, wait};

const WRITERS: usize = 256;

#[test]
fn what_was_answered_to_256_writers_survives_a_kill() {
    let db = scratch::folder("writers").join("workflow.db");
    let settings = Settings::alone(&db);
    let mut app = settings.start();
    let (answered, over) = (Mutex::new(BTreeSet::new()), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (api, answered, over) = (app.api(), &answered, &over);
            scope.spawn(move || {
                for number in 0.. {
                    let id = format!("w{writer}-{number}");
                    let body =
                        json!({ "workflow": "nap", "input": { "millis": 3_600_000 }, "id": id });
                    match api.post("/v1/runs", &body) {
                        Ok(reply) if reply.status == 201 => {
                            answered.lock().expect("no writer panics").insert(id);
                        }
                        Ok(reply) => panic!("run {id} refused: {reply:?}"),
                        Err(_) => return,
                    }
                    if over.load(Ordering::Relaxed) {
                        return;
                    }
                }
            });
        }
        let enough = || answered.lock().expect("no writer panics").len() >= 4 * WRITERS;
        wait::until_true("every writer to have had replies", Duration::from_secs(60), enough);
        app.kill();
        over.store(true, Ordering::Relaxed);
    });
    let answered = answered.into_inner().expect("no writer panics");
    let stored = runs(&db);
    let lost: Vec<&String> = answered.difference(&stored).collect();
    assert!(lost.is_empty(), "answered and lost: {lost:?} of {}", answered.len());
    assert_eq!(sqlite::integrity(&db), "ok");
    // The next process finds all of them, also one that had not begun.
    let app = settings.start();
    for id in answered.iter().step_by(97) {
        assert!(app.api().run(id).is_some(), "an answered run is there");
        wait::until_true("an answered run to go on", Duration::from_secs(60), || {
            app.api().status(id).as_deref() == Some("suspended")
        });
    }
}

fn runs(db: &Path) -> BTreeSet<String> {
    let connection = sqlite::read(db);
    let mut statement = connection.prepare("SELECT run FROM runs").expect("the view");
    let runs = statement.query_map([], |row| row.get(0)).expect("read the runs");
    runs.collect::<Result<_, _>>().expect("a run has an id")
}
