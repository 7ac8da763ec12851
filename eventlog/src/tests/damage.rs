//! Damage: any one row that is changed, removed, added or swapped is found, and where it is.

use proptest::prelude::*;
use rusqlite::Connection;
use tidemill_model::{LogSum, Seq};

use super::script::Script;
use crate::{ErrorKind, scan, sum_at, to_sql, verify};

/// A file with events in it, and its trigger out of the way.
fn damaged(choices: &[(u8, u8)], damage: impl FnOnce(&Connection, i64)) -> Script {
    let mut script = Script::new();
    script.play(&[(0, 1), (0, 0), (0, 1), (0, 1)], 2);
    script.play(choices, 3);
    let head = to_sql(script.file.appender.head().seq);
    let connection = &script.file.connection;
    connection.execute_batch("INSERT INTO tidemill_meta VALUES ('retention', '1')").unwrap();
    damage(connection, head);
    connection.execute_batch("DELETE FROM tidemill_meta WHERE key = 'retention'").unwrap();
    script
}

fn first_bad(script: &Script) -> Option<u64> {
    let found = scan(&script.file.connection).unwrap().first_bad.map(|bad| bad.seq.get());
    if let Some(seq) = found {
        let error = verify(&script.file.connection).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.to_string().contains(&format!("seq={seq}")), "{error}");
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_changed_row_is_found_where_it_is(
        choices in proptest::collection::vec(any::<(u8, u8)>(), 0..30),
        pick in any::<u32>(), column in 0_usize..7
    ) {
        let mut victim = 0;
        let script = damaged(&choices, |connection, head| {
            victim = i64::from(pick) % head + 1;
            let change = [
                "ts = substr(ts, 1, 25) || CASE substr(ts, 26, 1) WHEN '1' THEN '2' ELSE '1' END || 'Z'",
                "run = run || 'x'", "kind = kind || 'x'", "op = coalesce(op, 0) + 1",
                "name = coalesce(name, '') || 'x'", "data = coalesce(data, '') || ' '",
                "sum = sum + 1",
            ][column];
            let sql = format!("UPDATE events SET {change} WHERE seq = ?1");
            connection.execute(&sql, [victim]).unwrap();
        });
        prop_assert_eq!(first_bad(&script), Some(u64::try_from(victim).unwrap()));
    }

    #[test]
    fn a_removed_row_is_found_unless_it_was_the_newest(
        choices in proptest::collection::vec(any::<(u8, u8)>(), 0..30), pick in any::<u32>()
    ) {
        let (mut victim, mut newest) = (0, 0);
        let script = damaged(&choices, |connection, head| {
            (victim, newest) = (i64::from(pick) % head + 1, head);
            connection.execute("DELETE FROM events WHERE seq = ?1", [victim]).unwrap();
        });
        let found = first_bad(&script);
        if victim == newest {
            prop_assert_eq!(found, None);
            let head = verify(&script.file.connection).unwrap();
            prop_assert_ne!(head, script.file.appender.head());
        } else {
            prop_assert_eq!(found, Some(u64::try_from(victim).unwrap()));
        }
    }

    #[test]
    fn swapped_rows_are_found(
        choices in proptest::collection::vec(any::<(u8, u8)>(), 0..30), pick in any::<u32>()
    ) {
        let mut first = 0;
        let script = damaged(&choices, |connection, head| {
            first = i64::from(pick) % (head - 1) + 1;
            let swap = "UPDATE events SET seq = -1 WHERE seq = ?1;";
            connection.execute(swap, [first]).unwrap();
            connection.execute("UPDATE events SET seq = ?1 WHERE seq = ?1 + 1", [first]).unwrap();
            connection.execute("UPDATE events SET seq = ?1 + 1 WHERE seq = -1", [first]).unwrap();
        });
        prop_assert_eq!(first_bad(&script), Some(u64::try_from(first).unwrap()));
    }
}

#[test]
fn a_row_that_was_added_behind_the_newest_is_found() {
    let script = damaged(&[], |connection, _| {
        connection
            .execute_batch(
                "INSERT INTO events SELECT seq + 1, '2099-01-01T00:00:00.000000Z', run, kind, op,
                 name, data, sum FROM events ORDER BY seq DESC LIMIT 1",
            )
            .unwrap();
    });
    assert_eq!(first_bad(&script), Some(5));
}

#[test]
fn a_recorded_gap_is_no_damage_and_still_proves_what_came_before_it() {
    let remove = |connection: &Connection| {
        let sum = |seq| sum_at(connection, Seq::new(seq).unwrap()).unwrap().unwrap().get();
        let removed = LogSum::new(sum(3).wrapping_sub(sum(1)));
        connection.execute_batch("DELETE FROM events WHERE seq IN (2, 3)").unwrap();
        let gap = "INSERT INTO tidemill_gaps VALUES (2, 3, ?1)";
        connection.execute(gap, [crate::sum_to_sql(removed)]).unwrap();
    };
    let script = damaged(&[], |connection, _| remove(connection));
    assert_eq!(first_bad(&script), None);
    assert_eq!(verify(&script.file.connection).unwrap(), script.file.appender.head());
    let script = damaged(&[], |connection, _| {
        remove(connection);
        let lie = "UPDATE tidemill_gaps SET sum = sum + 1";
        connection.execute_batch(lie).unwrap();
    });
    assert_eq!(first_bad(&script), Some(4));
}
