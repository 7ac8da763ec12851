use super::*;

fn poll(run: u64, position: u64, op: u64) -> Poll {
    Poll { run, position, op }
}

fn mark(name: &str) -> RunMark {
    RunMark::of(&Seed::from_random([1; 16]), &RunId::new(name).unwrap())
}

fn at(seq: u64) -> Seq {
    Seq::new(seq).unwrap()
}

/// A process that dies while it polls these runs at these positions.
fn dies(path: &Path, polled: &[(RunMark, u64)]) {
    let polls = Polls::open(path);
    for (run, position) in polled {
        std::mem::forget(polls.note(*run, at(*position), None));
    }
}

#[test]
fn deaths_in_a_row_are_counted_and_progress_begins_the_count_again() {
    let mut known = Vec::new();
    for (died, deaths) in [
        (poll(7, 10, 0), 1),
        (poll(7, 10, 2), 2),
        (poll(7, 30, 2), 3),
        (poll(7, 40, 3), 1),
        (poll(7, 40, 3), 2),
    ] {
        let counts = counted(&known, &[died]);
        assert_eq!(counts, [Count { poll: died, deaths }]);
        known = counts;
    }
}

#[test]
fn who_was_polled_beside_a_suspect_is_not_counted() {
    let known =
        [Count { poll: poll(7, 10, 0), deaths: 2 }, Count { poll: poll(8, 10, 0), deaths: 1 }];
    let counts = counted(&known, &[poll(8, 10, 0), poll(7, 10, 0), poll(9, 1, 0)]);
    assert_eq!(counts, [Count { poll: poll(7, 10, 0), deaths: 3 }]);
}

#[test]
fn the_fifth_death_is_poison_until_it_is_forgiven_or_the_end_is_clean() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("polls");
    let (bad, good) = (mark("bad"), mark("good"));
    for deaths in 1..=4 {
        dies(&path, &[(bad, 5)]);
        let polls = Polls::open(&path);
        assert_eq!((polls.deaths(bad), polls.deaths(good)), (deaths, 0));
        assert_eq!(polls.poison(bad), None);
        assert_eq!(Polls::open(&path).deaths(bad), deaths, "a death counts once");
    }
    dies(&path, &[(bad, 5)]);
    let polls = Polls::open(&path);
    let reason = polls.poison(bad).unwrap();
    assert_eq!(reason.kind, BlockReasonKind::Poison);
    assert!(reason.logged.is_some_and(|logged| logged.contains("died 5 times")));
    polls.forgive(bad);
    assert_eq!(polls.deaths(bad), 0);
    dies(&path, &[(bad, 5), (good, 9)]);
    let polls = Polls::open(&path);
    assert_eq!((polls.deaths(bad), polls.deaths(good)), (1, 1));
    polls.end();
    assert_eq!(Polls::open(&path).deaths(bad), 0);
}

#[test]
fn a_note_that_was_taken_back_and_an_end_of_ours_do_not_count() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("polls");
    let polls = Polls::open(&path);
    drop(polls.note(mark("a"), at(1), None));
    assert_eq!(Polls::open(&path).deaths(mark("a")), 0);
    std::mem::forget(polls.note(mark("a"), at(1), None));
    polls.process_ends();
    let polls = Polls::open(&path);
    assert_eq!(polls.deaths(mark("a")), 0);
    std::mem::forget(polls.note(mark("a"), at(1), None));
    assert_eq!(Polls::open(&path).deaths(mark("a")), 1, "the next process counts again");
}

#[test]
fn a_file_of_another_boot_place_or_writer_is_begun_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("polls");
    let begun_anew = |change: &dyn Fn()| {
        dies(&path, &[(mark("a"), 1)]);
        assert_eq!(Polls::open(&path).deaths(mark("a")), 1);
        dies(&path, &[(mark("a"), 1)]);
        change();
        let polls = Polls::open(&path);
        assert_eq!(polls.deaths(mark("a")), 0);
        assert!(polls.map.is_some());
    };
    let bytes = || std::fs::read(&path).unwrap();
    let changed = |at: usize| {
        let mut bytes = bytes();
        bytes[at] ^= 1;
        std::fs::write(&path, bytes).unwrap();
    };
    // The magic, the version, the inode, the boot.
    for at in [0, 8, 24, 40] {
        begun_anew(&|| changed(at));
    }
    begun_anew(&|| std::fs::write(&path, "garbage").unwrap());
    begun_anew(&|| std::fs::write(&path, [&bytes()[..], &[0]].concat()).unwrap());
    begun_anew(&|| std::fs::remove_file(&path).unwrap());
    begun_anew(&|| {
        let copy = folder.path().join("copy");
        std::fs::copy(&path, &copy).unwrap();
        std::fs::rename(&copy, &path).unwrap();
    });
}

#[test]
fn without_a_file_nothing_is_counted_and_nothing_fails() {
    let folder = tempfile::tempdir().unwrap();
    let polls = Polls::open(folder.path());
    drop(polls.note(mark("a"), at(1), None));
    polls.forgive(mark("a"));
    polls.end();
    assert_eq!((polls.deaths(mark("a")), polls.poison(mark("a"))), (0, None));
}

#[test]
fn more_polls_than_places_are_not_noted_and_more_counts_than_places_replace_the_least() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("polls");
    let worst = mark("worst");
    dies(&path, &[(worst, 1)]);
    dies(&path, &[(worst, 1)]);
    for generation in 0..3 {
        let many: Vec<_> =
            (0..SLOTS + 9).map(|n| (mark(&format!("g{generation}.{n}")), 1)).collect();
        dies(&path, &many);
    }
    let polls = Polls::open(&path);
    assert_eq!(polls.deaths(worst), 2);
    assert_eq!(polls.deaths(mark("g2.1")), 1);
}

#[tokio::test]
async fn suspects_are_polled_one_at_a_time_and_after_a_pause() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("polls");
    for _ in 0..2 {
        dies(&path, &[(mark("a"), 1), (mark("b"), 1)]);
    }
    dies(&path, &[(mark("c"), 1)]);
    let polls = Polls::open(&path);
    assert!(polls.alone(mark("c"), async |_| unreachable!("not a suspect")).await.is_none());
    let mut pauses = Vec::new();
    let first = polls.alone(mark("a"), async |pause| pauses.push(pause)).await;
    assert!(first.is_some());
    assert!(pauses[0] <= SUSPECT_PAUSE && !pauses[0].is_zero());
    let second = polls.alone(mark("b"), async |_| {});
    tokio::pin!(second);
    assert!(futures_util::poll!(second.as_mut()).is_pending(), "while the first is polled");
    drop(first);
    assert!(second.await.is_some());
}
