//! From older schema versions: who only reads sees the newest views, an app brings the file up to date.

use proptest::prelude::*;
use rusqlite::Connection;

use super::File;
use super::script::Script;
use crate::{
    Checkpoints, ErrorKind, Migrated, SCHEMA_VERSION, due, fsck, migrate, open_log_reader,
    open_log_snapshot, open_log_writer, open_reader, open_writer, projection, verify,
};

/// What an older version stored of these histories: its own tables and views.
fn write_as(file: &File, version: i32) -> std::path::PathBuf {
    let (schema, columns) = match version {
        1 => (include_str!("schema_1.sql"), ""),
        2 => (include_str!("schema_2.sql"), ", awaited, custom_status_seq"),
        _ => (include_str!("schema_3.sql"), ", awaited, custom_status_seq, cancel_seq"),
    };
    let path = file.path().with_file_name(format!("version-{version}.db"));
    let old = Connection::open_with_flags(&path, rusqlite::OpenFlags::default()).unwrap();
    old.execute_batch(schema).unwrap();
    old.execute_batch(&format!(
        "PRAGMA journal_mode = WAL;
        ATTACH '{}' AS new;
        INSERT INTO events SELECT * FROM new.events ORDER BY seq;
        INSERT INTO tidemill_runs SELECT seq, run, workflow, status, created_at, ended_seq,
          blocked_seq, parent, parent_op, labels{columns} FROM new.tidemill_runs;
        INSERT INTO tidemill_timers SELECT * FROM new.tidemill_timers;
        INSERT INTO tidemill_meta SELECT * FROM new.tidemill_meta;
        UPDATE tidemill_meta SET value = '{version}' WHERE key = 'schema';
        UPDATE tidemill_meta SET value = '0.1.0' WHERE key = 'tidemill';
        DETACH new;
        PRAGMA application_id = {};
        PRAGMA user_version = {version};",
        file.path().display(),
        crate::APPLICATION_ID,
    ))
    .unwrap();
    old.close().unwrap();
    path
}

/// Everything that a view shows, one text a row.
fn rows(connection: &Connection, view: &str) -> Vec<String> {
    let mut statement = connection.prepare(&format!("SELECT * FROM {view}")).unwrap();
    let columns = statement.column_count();
    let read = |row: &rusqlite::Row<'_>| {
        (0..columns).map(|at| Ok(format!("{:?}", row.get_ref(at)?))).collect::<Result<Vec<_>, _>>()
    };
    let rows = statement.query_map([], read).unwrap();
    let mut rows: Vec<String> = rows.map(|row| row.unwrap().join(" ")).collect();
    rows.sort();
    rows
}

/// The schema, as SQLite keeps its text, without how it is broken into lines.
fn schema(connection: &Connection) -> Vec<String> {
    let sql = "SELECT type || ' ' || name || ': ' || coalesce(sql, '') FROM sqlite_schema";
    let mut statement = connection.prepare(sql).unwrap();
    let texts = statement.query_map([], |row| row.get::<_, String>(0)).unwrap();
    let plain = |text: String| {
        let lines = text.lines().map(|line| line.split("--").next().unwrap_or_default());
        let words: String = lines.flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ");
        words.replace(" ,", ",").replace(" )", ")").replace("( ", "(")
    };
    let mut texts: Vec<String> = texts.map(|text| plain(text.unwrap())).collect();
    texts.sort();
    texts
}

const VIEWS: [&str; 8] =
    ["runs", "children", "steps", "attempts", "checkpoints", "timers", "signals", "promises"];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn a_file_of_an_older_version_is_read_as_it_is_and_migrated_once(
        choices in proptest::collection::vec(any::<(u8, u8)>(), 1..120),
        version in 1..SCHEMA_VERSION,
    ) {
        let mut script = Script::new();
        // Version 1 had no status_set, 2 knew no cancel and no pause, none a signal, a promise,
        // a spawned run, or a child that outlives its parent.
        let had = |what: u8| match what % 16 {
            4 => what <= 128,
            5 => what <= 100,
            10 => version > 1,
            11..=13 => version > 2,
            14 | 15 => false,
            _ => true,
        };
        let choices: Vec<_> = choices.into_iter().filter(|(_, what)| had(*what)).collect();
        script.play(&choices, 3);
        let new = &script.file.connection;
        let path = write_as(&script.file, version);

        let reader = open_reader(&path).unwrap();
        for view in VIEWS {
            prop_assert_eq!(rows(&reader, view), rows(new, view), "{} of version {}", view, version);
        }
        let report = fsck(&reader).unwrap();
        prop_assert!(report.is_clean(), "{:?}", report.findings);
        prop_assert!(reader.execute_batch("UPDATE tidemill_runs SET run = 'x'").is_err());
        drop(reader);

        let writer = open_writer(&path, Checkpoints::Own).unwrap();
        let migrated = Migrated { from: version, left_out: Vec::new() };
        prop_assert_eq!(migrate(&writer).unwrap(), Some(migrated));
        prop_assert_eq!(migrate(&writer).unwrap(), None);
        prop_assert_eq!(schema(&writer), schema(new));
        for view in VIEWS {
            prop_assert_eq!(rows(&writer, view), rows(new, view), "{} after the migration", view);
        }
        prop_assert_eq!(projection::stored(&writer).unwrap(), projection::stored(new).unwrap());
        let zero = tidemill_model::Seq::ZERO;
        prop_assert_eq!(
            due::unwanted(&writer, zero, 99).unwrap(), due::unwanted(new, zero, 99).unwrap()
        );
        prop_assert_eq!(
            due::with_unobserved_child(&writer, zero, 99).unwrap(),
            due::with_unobserved_child(new, zero, 99).unwrap()
        );
        let report = fsck(&writer).unwrap();
        prop_assert!(report.is_clean(), "{:?}", report.findings);
        prop_assert_eq!(verify(&writer).unwrap(), script.file.appender.head());
    }
}

#[test]
fn a_migration_that_fails_leaves_the_old_version_whole() {
    let mut script = Script::new();
    script.play(&[(0, 1), (1, 5), (0, 0), (1, 5)], 2);
    let path = write_as(&script.file, 1);
    let writer = open_writer(&path, Checkpoints::Own).unwrap();
    let before = schema(&writer);
    // The last statement of the migration but one is refused.
    writer
        .execute_batch(
            "CREATE TEMP TRIGGER refuse BEFORE UPDATE ON main.tidemill_meta
             BEGIN SELECT RAISE(ABORT, 'not today'); END",
        )
        .unwrap();
    let error = migrate(&writer).unwrap_err();
    assert!(error.to_string().contains("not today"), "{error}");
    writer.execute_batch("DROP TRIGGER temp.refuse").unwrap();
    assert_eq!(schema(&writer), before);
    assert_eq!(migrate(&writer).unwrap().unwrap().from, 1);
}

#[test]
fn a_table_or_view_of_the_authors_that_has_the_name_of_a_new_view_stays() {
    for (version, makes) in [
        (1, "CREATE TABLE attempts (mine); INSERT INTO attempts VALUES (7)"),
        (2, "DROP VIEW attempts; CREATE VIEW attempts AS SELECT 7 AS mine"),
    ] {
        the_authors_stays(version, makes);
    }
}

fn the_authors_stays(version: i32, makes: &str) {
    let mut script = Script::new();
    script.play(&[(0, 1), (0, 1)], 1);
    let path = write_as(&script.file, version);
    let writer = open_writer(&path, Checkpoints::Own).unwrap();
    writer.execute_batch(makes).unwrap();
    let mine = |connection: &Connection| rows(connection, "attempts");
    let theirs = mine(&writer);
    assert_eq!(mine(&open_reader(&path).unwrap()), theirs);
    assert_eq!(migrate(&writer).unwrap().unwrap().left_out, ["attempts"]);
    assert_eq!(mine(&open_reader(&path).unwrap()), theirs);
    assert_eq!(rows(&writer, "children"), Vec::<String>::new());
}

#[test]
fn who_touches_the_log_only_takes_a_file_of_any_schema() {
    let mut file = File::new();
    file.connection
        .execute_batch(&format!("PRAGMA user_version = {}", SCHEMA_VERSION + 1))
        .unwrap();
    // A later version may have other projections, or none.
    file.connection.execute_batch("DROP TABLE tidemill_runs").unwrap();
    file.append(0);
    let path = file.path();
    assert_eq!(open_reader(&path).unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(verify(&open_log_reader(&path).unwrap()).unwrap().seq.get(), 1);
    let writer = open_log_writer(&path, Checkpoints::Own).unwrap();
    assert!(migrate(&writer).unwrap().is_none(), "it is newer, and stays so");
    drop((file.connection, writer));
    assert_eq!(verify(&open_log_snapshot(&path).unwrap()).unwrap().seq.get(), 1);
}
