//! How a process decides, from the row of the process before it, how that one ended.

use tidemill_eventlog::{Checkpoints, create, open_writer};
use tidemill_model::{Epoch, InstanceId};

use super::*;

fn boot(n: u8) -> BootId {
    format!("00000000-0000-4000-8000-0000000000{n:02}").parse().unwrap()
}

fn disk(n: u8) -> InstanceId {
    format!("{n:02x}").repeat(16).parse().unwrap()
}

fn seq(n: u64) -> Seq {
    Seq::new(n).unwrap()
}

/// A process: its boot, and its epoch and disk if it had a sidecar.
type Who = (u8, Option<(u64, Option<u8>)>);

fn begun(before: Option<Process>, (of, sidecar): Who, head: u64) -> Processes {
    let mut environment = Environment::alone("workflow.db".as_ref());
    if let Some((epoch, instance)) = sidecar {
        environment.epoch = Some(Epoch::new(epoch).unwrap());
        environment.instance = instance.map(disk);
    }
    Processes::after(before, &environment, boot(of), seq(head))
}

fn after(was: Who, clean: bool, now: Who) -> ProcessEnd {
    let before = begun(None, was, 0).this;
    let before = Process { clean, ..before };
    begun(Some(before), now, 5).end_of(seq(5))
}

#[test]
fn a_process_that_closed_the_file_stopped_wherever_it_goes_on() {
    for now in [(1, None), (2, None), (1, Some((2, Some(1)))), (2, Some((9, Some(2))))] {
        assert_eq!(after((1, Some((1, Some(1)))), true, now), ProcessEnd::Stop, "{now:?}");
    }
}

#[test]
fn on_its_own_disk_a_process_that_did_not_is_dead() {
    assert_eq!(after((1, None), false, (1, None)), ProcessEnd::Crash);
    assert_eq!(after((1, None), false, (2, None)), ProcessEnd::Crash, "the machine went down");
    assert_eq!(after((1, None), false, (1, Some((1, Some(1))))), ProcessEnd::Crash, "adopted");
    let first = (1, Some((1, Some(1))));
    assert_eq!(after(first, false, first), ProcessEnd::Crash);
    assert_eq!(after(first, false, (1, Some((2, Some(1))))), ProcessEnd::Crash, "the next epoch");
    assert_eq!(after(first, false, (2, Some((2, Some(1))))), ProcessEnd::Crash, "a reboot");
}

#[test]
fn on_another_disk_nobody_knows() {
    let first = (1, Some((1, Some(1))));
    assert_eq!(after(first, false, (2, Some((2, Some(2))))), ProcessEnd::Lost);
    assert_eq!(after(first, false, (1, Some((2, Some(2))))), ProcessEnd::Lost, "same machine");
    // Written by a version that did not record the disk.
    let old = (1, Some((1, None)));
    assert_eq!(after(old, false, (2, Some((2, Some(2))))), ProcessEnd::Lost);
    assert_eq!(after(old, false, (1, Some((2, Some(2))))), ProcessEnd::Crash, "the same boot");
    assert_eq!(after(old, false, (2, Some((1, Some(2))))), ProcessEnd::Crash, "the same epoch");
    assert_eq!(begun(None, first, 5).end_of(seq(5)), ProcessEnd::Lost, "nothing was noted");
}

#[test]
fn a_later_end_says_nothing_of_what_an_earlier_one_cut_off() {
    let first = Process { clean: false, ..begun(None, (1, None), 0).this };
    let second = Process { clean: true, ..begun(Some(first), (1, None), 5).this };
    let third = begun(Some(second), (1, None), 7);
    assert_eq!(third.end_of(seq(5)), ProcessEnd::Crash, "the run was blocked when it stopped");
    assert_eq!(third.end_of(seq(6)), ProcessEnd::Stop);
}

#[test]
fn floats_are_exact_from_the_first_process_on_that_reads_them_exactly() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("workflow.db");
    create(&path).unwrap();
    let file = open_writer(&path, Checkpoints::Own).unwrap();
    let environment = Environment::alone(&path);
    let begin = |head| Processes::begin(&file, &environment, seq(head)).unwrap();
    let exact_from = |head| begin(head).floats_exact_from;
    assert_eq!(floats_exact_from(&file).unwrap(), None);
    assert_eq!(exact_from(0), seq(1), "a file of this version");
    begin(30).end(&file).unwrap();
    assert_eq!(exact_from(40), seq(1), "after a clean end");
    assert_eq!(exact_from(50), seq(1), "after a crash");
    // An earlier version writes the row without the field.
    let sql = "UPDATE tidemill_meta SET value = json_remove(value, '$.floats_exact_from') \
               WHERE key = 'process'";
    assert_eq!(file.execute(sql, []).unwrap(), 1);
    assert_eq!(floats_exact_from(&file).unwrap(), None);
    assert_eq!(exact_from(60), seq(61), "after an earlier version wrote");
    assert_eq!(exact_from(70), seq(61));
    assert_eq!(floats_exact_from(&file).unwrap(), Some(seq(61)));
}
