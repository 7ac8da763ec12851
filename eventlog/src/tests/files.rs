//! Files: made, opened, refused; the trigger; the clock; the head after a failure.

use rusqlite::Connection;
use tidemill_model::{Epoch, Event, InstanceId, NodeId, NodeStarted, Seq};

use super::{File, at};
use crate::{
    Appender, Checkpoints, ErrorKind, Meta, SCHEMA_VERSION, checkpoint_truncate, create, fsck,
    open_any, open_reader, open_snapshot, open_writer, verify,
};

fn node_started() -> Event {
    Event::NodeStarted(NodeStarted {
        node: None,
        epoch: None,
        instance: None,
        versions: std::collections::BTreeMap::new(),
    })
}

impl File {
    pub(super) fn append(&mut self, micros: i64) -> String {
        let event = node_started();
        let put = self.appender.append(&self.connection, at(micros), None, &event).unwrap();
        self.appender.committed();
        put.ts.to_string()
    }
}

#[test]
fn events_are_append_only_outside_retention() {
    let mut file = File::new();
    file.append(0);
    file.append(1);
    for sql in [
        "UPDATE events SET kind = 'x'",
        "DELETE FROM events",
        "INSERT OR REPLACE INTO events SELECT * FROM events WHERE seq = 1",
    ] {
        let error = file.connection.execute_batch(sql).unwrap_err().to_string();
        assert!(error.contains("append-only"), "{sql}: {error}");
    }
    file.connection
        .execute_batch(
            "BEGIN; INSERT INTO tidemill_meta VALUES ('retention', '1');
             DELETE FROM events WHERE seq = 1;
             DELETE FROM tidemill_meta WHERE key = 'retention'; COMMIT",
        )
        .unwrap();
    assert!(file.connection.execute_batch("DELETE FROM events").is_err());
}

#[test]
fn times_increase_even_if_the_clock_steps_back() {
    let mut file = File::new();
    let times = [file.append(10), file.append(5), file.append(5), file.append(11), file.append(20)];
    let micros: Vec<_> = times.iter().map(|ts| &ts[20..26]).collect();
    assert_eq!(micros, ["000010", "000011", "000012", "000013", "000020"]);
    let mut by_time = file.connection.prepare("SELECT seq FROM events ORDER BY ts").unwrap();
    let by_time: Vec<i64> =
        by_time.query_map([], |row| row.get(0)).unwrap().map(|seq| seq.unwrap()).collect();
    assert_eq!(by_time, [1, 2, 3, 4, 5], "the order of times is the order of the log");
    verify(&file.connection).unwrap();
}

#[test]
fn the_head_advances_only_by_a_commit_and_is_read_again_after_a_failure() {
    let mut file = File::new();
    file.append(0);
    let before = file.appender.head();
    file.connection.execute_batch("BEGIN").unwrap();
    file.appender.append(&file.connection, at(1), None, &node_started()).unwrap();
    assert_eq!(file.appender.head(), before);
    assert_ne!(file.appender.staged(), before);
    file.connection.execute_batch("ROLLBACK").unwrap();
    file.appender.reload(&file.connection).unwrap();
    assert_eq!((file.appender.head(), file.appender.staged()), (before, before));
    file.append(2);
    assert_eq!(verify(&file.connection).unwrap().seq, Seq::new(2).unwrap());
    assert_eq!(Appender::load(&file.connection).unwrap().head(), file.appender.head());
}

#[test]
fn a_file_is_made_whole_and_only_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("workflow.db");
    let missing = folder.path().join("no/workflow.db");
    assert_eq!(open_writer(&path, Checkpoints::Own).unwrap_err().kind(), ErrorKind::NotFound);
    assert!(create(&missing).is_err());
    create(&path).unwrap();
    assert_eq!(create(&path).unwrap_err().kind(), ErrorKind::Conflict);
    let names: Vec<_> =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["workflow.db"], "one file, nothing beside it");
    let snapshot = open_snapshot(&path).unwrap();
    let report = fsck(&snapshot).unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!((report.events, report.head.seq), (0, Seq::ZERO));
    assert!(!report.meta.unwrap().shipped);
}

#[test]
fn what_is_not_ours_or_too_new_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let open_all = |path: &std::path::Path| {
        let errors = [
            open_writer(path, Checkpoints::Own).unwrap_err(),
            open_reader(path).unwrap_err(),
            open_snapshot(path).unwrap_err(),
        ];
        for error in &errors {
            assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        }
        errors.map(|error| error.to_string())
    };
    let foreign = folder.path().join("foreign.db");
    let connection = Connection::open_with_flags(&foreign, rusqlite::OpenFlags::default()).unwrap();
    connection.execute_batch("CREATE TABLE t (x)").unwrap();
    let text = folder.path().join("text.db");
    std::fs::write(&text, "not a database at all, but long enough to be looked at".repeat(20))
        .unwrap();
    for path in [&foreign, &text] {
        for error in open_all(path) {
            assert!(error.contains("is not a tidemill file"), "{error}");
        }
    }

    let newer = folder.path().join("newer.db");
    create(&newer).unwrap();
    let connection = open_writer(&newer, Checkpoints::Own).unwrap();
    connection
        .execute_batch(&format!(
            "PRAGMA user_version = {}; UPDATE tidemill_meta SET value = '9.8.7'
             WHERE key = 'tidemill'",
            SCHEMA_VERSION + 1
        ))
        .unwrap();
    connection.close().unwrap();
    for error in open_all(&newer) {
        assert!(error.contains(&format!("version {}", SCHEMA_VERSION + 1)), "{error}");
        assert!(error.contains("use tidemill 9.8.7 or newer"), "{error}");
    }
}

#[test]
fn a_file_that_litestream_ships_keeps_its_wal_when_it_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("workflow.db");
    create(&path).unwrap();
    let wal = crate::Beside::new(&path).wal();
    let write = |checkpoints| {
        let connection = open_writer(&path, checkpoints).unwrap();
        let mut appender = Appender::load(&connection).unwrap();
        appender.append(&connection, at(0), None, &node_started()).unwrap();
        let reader = open_reader(&path).unwrap();
        assert_eq!(verify(&reader).unwrap(), appender.staged());
        drop(reader);
        connection.close().unwrap();
    };
    write(Checkpoints::ByLitestream);
    assert!(std::fs::metadata(&wal).unwrap().len() > 0);
    let error = open_snapshot(&path).unwrap_err();
    assert!(error.to_string().contains("has a WAL beside it"), "{error}");
    assert_eq!(verify(&open_any(&path).unwrap()).unwrap().seq, Seq::new(1).unwrap());

    let own = open_writer(&path, Checkpoints::ByLitestream).unwrap();
    assert!(checkpoint_truncate(&own).unwrap());
    assert_eq!(std::fs::metadata(&wal).unwrap().len(), 0);
    drop(own);
    write(Checkpoints::Own);
    assert!(!wal.exists(), "a writer of its own tidies up");
    assert_eq!(verify(&open_any(&path).unwrap()).unwrap().seq, Seq::new(2).unwrap());
}

#[test]
fn a_snapshot_opens_in_a_folder_with_an_odd_name_and_is_read_only() {
    let folder = tempfile::tempdir().unwrap();
    let odd = folder.path().join("a b?c#d%20é");
    std::fs::create_dir(&odd).unwrap();
    let path = odd.join("workflow.db");
    create(&path).unwrap();
    let snapshot = open_snapshot(&path).unwrap();
    assert!(snapshot.execute_batch("CREATE TABLE t (x)").is_err());
    assert_eq!(std::fs::read_dir(&odd).unwrap().count(), 1);
    assert!(open_reader(&path).unwrap().execute_batch("CREATE TABLE t (x)").is_err());
}

#[test]
fn the_file_says_whose_it_is() {
    let file = File::new();
    let meta = Meta::read(&file.connection).unwrap();
    assert_eq!((meta.shipped, meta.node, meta.epoch, meta.app), (false, None, None, None));
    let (node, epoch) = (NodeId::new("n1").unwrap(), Epoch::new(3).unwrap());
    let instance = InstanceId::from_random([1; 16]);
    Meta::mark_shipped(&file.connection, &node, epoch, &instance).unwrap();
    Meta::set_app(&file.connection, "sweep 1.0").unwrap();
    let meta = Meta::read(&open_reader(&file.path()).unwrap()).unwrap();
    assert!(meta.shipped);
    assert_eq!((meta.node, meta.epoch), (Some(node), Some(epoch)));
    assert_eq!((meta.instance, meta.app), (Some(instance), Some("sweep 1.0".into())));
    file.connection
        .execute_batch("UPDATE tidemill_meta SET value = 'x' WHERE key = 'epoch'")
        .unwrap();
    assert_eq!(Meta::read(&file.connection).unwrap_err().kind(), ErrorKind::Corrupt);
}

/// The budget of a sequential step: two events in one commit, two dirty pages.
#[test]
fn a_step_dirties_two_pages() {
    let mut file = File::new();
    let run = tidemill_model::RunId::new("r").unwrap();
    let name = tidemill_model::OpName::new("fetch").unwrap();
    let json = tidemill_model::Json::null();
    checkpoint_truncate(&file.connection).unwrap();
    let mut pages = Vec::new();
    let wal = crate::Beside::new(&file.path()).wal();
    for step in 1..40 {
        let before = std::fs::metadata(&wal).map_or(0, |meta| meta.len());
        let op = tidemill_model::OpId::new(step).unwrap();
        file.connection.execute_batch("BEGIN IMMEDIATE").unwrap();
        for event in [
            Event::StepCompleted { op, name: name.clone(), output: json.clone() },
            Event::StepStarted {
                op: op.next(),
                name: name.clone(),
                input: json.clone(),
                queued: false,
            },
        ] {
            let connection = &file.connection;
            let put = file.appender.append(connection, at(0), Some(&run), &event).unwrap();
            crate::projection::project(connection, put, Some(&run), &event).unwrap();
        }
        file.connection.execute_batch("COMMIT").unwrap();
        file.appender.committed();
        let after = std::fs::metadata(&wal).unwrap().len();
        pages.push((after - before) / (4096 + 24));
    }
    let over = pages.iter().filter(|pages| **pages > 2).count();
    assert!(over <= 4, "only a full page makes a third: {pages:?}");
}

#[test]
fn what_a_row_carries_is_shown_even_if_it_is_no_json() {
    let shown = |data: Option<&str>| {
        let row = crate::Row {
            seq: Seq::ZERO,
            ts: at(0),
            run: None,
            kind: "newer".into(),
            op: None,
            name: None,
            data: data.map(str::to_owned),
            sum: tidemill_model::LogSum::ZERO,
        };
        row.into_view().data.map(|json| json.as_str().to_owned())
    };
    assert_eq!(shown(None), None);
    assert_eq!(shown(Some(r#"{"a":1}"#)).as_deref(), Some(r#"{"a":1}"#));
    assert_eq!(shown(Some("no \"json\"")).as_deref(), Some(r#""no \"json\"""#));
}
