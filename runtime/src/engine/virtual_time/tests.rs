use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn time(moves: Moves) -> Arc<VirtualTime> {
    VirtualTime::new(Timestamp::from_micros(0).unwrap(), moves, SECOND * 60)
}

fn work(time: &VirtualTime) -> usize {
    time.lock().work
}

#[test]
fn a_task_counts_from_its_wake_up_until_it_waits_again() {
    let time = time(Moves::ByItself);
    let (send, receive) = tokio::sync::oneshot::channel::<()>();
    let mut task = pin!(Counted::new(&time, receive));
    let mut cx = Context::from_waker(Waker::noop());
    assert_eq!(work(&time), 1, "it is about to run");
    assert!(task.as_mut().poll(&mut cx).is_pending());
    assert_eq!(work(&time), 0, "it waits");
    send.send(()).unwrap();
    assert_eq!(work(&time), 1, "it was woken");
    assert!(task.as_mut().poll(&mut cx).is_ready());
    assert_eq!(work(&time), 0, "it has ended");
}

#[test]
fn a_task_that_wakes_itself_counts_on() {
    let time = time(Moves::ByItself);
    let mut left = 2;
    let mut task = pin!(Counted::new(
        &time,
        std::future::poll_fn(move |cx| {
            left -= 1;
            cx.waker().wake_by_ref();
            if left == 0 { Poll::Ready(()) } else { Poll::Pending }
        })
    ));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(task.as_mut().poll(&mut cx).is_pending());
    assert_eq!(work(&time), 1);
    assert!(task.as_mut().poll(&mut cx).is_ready());
    assert_eq!(work(&time), 0);
}

#[tokio::test]
async fn who_waits_for_a_task_counts_before_the_task_counts_no_more() {
    let time = time(Moves::ByItself);
    let runtime = tokio::runtime::Handle::current();
    let mut task = Task::counted(&time, &runtime, std::future::pending());
    tokio::task::yield_now().await;
    assert_eq!(work(&time), 0);
    let mut waiter = pin!(Counted::new(&time, task.ended()));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(waiter.as_mut().poll(&mut cx).is_pending());
    assert_eq!(work(&time), 0);
    assert!(waiter.as_mut().poll(&mut cx).is_pending());
}

#[tokio::test]
async fn an_aborted_task_counts_until_it_is_gone() {
    let time = time(Moves::ByItself);
    let runtime = tokio::runtime::Handle::current();
    let task = Task::counted(&time, &runtime, std::future::pending());
    tokio::task::yield_now().await;
    assert_eq!(work(&time), 0);
    task.abort();
    assert_eq!((work(&time), task.is_finished()), (1, false));
    tokio::task::yield_now().await;
    assert_eq!((work(&time), task.is_finished()), (0, true));
}

#[test]
fn the_clock_moves_only_for_who_waits_and_only_while_nothing_is_in_flight() {
    let time = time(Moves::ByItself);
    let may = || time.lock().may_move_to();
    assert_eq!(may(), None, "nobody waits");
    let mut wait = Waiting::new(&time, WaitKind::Run, std::future::pending::<()>());
    assert_eq!(may(), None, "the wait is about to be polled");
    let mut cx = Context::from_waker(Waker::noop());
    assert!(Pin::new(&mut wait).poll(&mut cx).is_pending());
    assert_eq!(may(), Some(u64::MAX));
    let held = time.hold("a body".to_owned());
    assert_eq!(may(), None);
    drop(held);
    assert_eq!(may(), Some(u64::MAX));
    drop(wait);
    assert_eq!(may(), None);
}

#[test]
fn a_clock_that_is_moved_by_hand_moves_as_far_as_it_is_told_and_for_a_shutdown() {
    let time = time(Moves::ByHand);
    let mut cx = Context::from_waker(Waker::noop());
    let mut wait = Waiting::new(&time, WaitKind::Run, std::future::pending::<()>());
    assert!(Pin::new(&mut wait).poll(&mut cx).is_pending());
    assert_eq!(time.lock().may_move_to(), None);
    let advance = time.advance(SECOND);
    assert_eq!(time.lock().may_move_to(), Some(BOOT_BEGINS + 1_000_000_000));
    drop(advance);
    assert_eq!(time.lock().may_move_to(), None);
    let mut close = Waiting::new(&time, WaitKind::Shutdown, std::future::pending::<()>());
    assert!(Pin::new(&mut close).poll(&mut cx).is_pending());
    assert_eq!(time.lock().may_move_to(), Some(u64::MAX));
}

#[test]
fn a_late_wait_says_who_holds_the_clock() {
    let time = time(Moves::ByItself);
    let mut cx = Context::from_waker(Waker::noop());
    let mut wait = Waiting::new(&time, WaitKind::Run, std::future::pending::<()>());
    assert!(Pin::new(&mut wait).poll(&mut cx).is_pending());
    let _hold = time.hold("step `charge` of run `r`".to_owned());
    let late = host::boot_now().saturating_add(SECOND * 60);
    drop(time.lock().fail_late(late, SECOND * 60));
    let Poll::Ready(Err(error)) = Pin::new(&mut wait).poll(&mut cx) else { panic!("it is late") };
    assert!(error.to_string().contains("held by step `charge` of run `r`"), "{error}");
}
