//! Generated workflows: an interpreter of small programs that branch, race, drop and fail.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use tidemill_model::{OpId, RunId};

use crate::{App, Ctx, Result, Retry, Step};

/// How often any program has set its status.
static SAID: AtomicU64 = AtomicU64::new(0);

/// A program. Its value depends on the order in which its branches end.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Program {
    /// A step that fails a number of times before it succeeds, with a number of attempts allowed.
    Step {
        fails: u32,
        attempts: u32,
        yields: u8,
        blocking: bool,
    },
    Sleep(u8),
    Now,
    Random,
    Status,
    Child(Box<Program>),
    /// A child that goes on by itself when nobody waits for it any more.
    Outliving(Box<Program>),
    /// A run of its own.
    Spawn(Box<Program>),
    Sequence(Vec<Program>),
    JoinAll(Vec<Program>),
    Join(Box<Program>, Box<Program>),
    Race(Box<Program>, Box<Program>),
    Unordered(Vec<Program>),
    /// The second waits for a message that the first sends when it ends.
    Channel(Box<Program>, Box<Program>),
    /// Waits for a signal of one of two names, so many milliseconds.
    Signal(bool, u8),
    /// Waits for an answer so many milliseconds, or for two approvals.
    Promise(bool, u8),
    /// What a cancel leaves alone.
    Cleanup(Box<Program>),
    /// A step is started and dropped when the other ends, unless it ends before.
    Abandon(Box<Program>),
}

pub(super) fn program() -> impl Strategy<Value = Program> {
    let leaf = prop_oneof![
        6 => (0_u32..3, 1_u32..3, 0_u8..4, prop::bool::weighted(0.1)).prop_map(
            |(fails, attempts, yields, blocking)| {
                Program::Step { fails: fails.saturating_sub(1), attempts, yields, blocking }
            }
        ),
        2 => (0_u8..3).prop_map(Program::Sleep),
        3 => (any::<bool>(), 0_u8..8).prop_map(|(name, ms)| Program::Signal(name, ms)),
        2 => (any::<bool>(), 1_u8..12).prop_map(|(plain, ms)| Program::Promise(plain, ms)),
        1 => Just(Program::Now),
        1 => Just(Program::Random),
        1 => Just(Program::Status),
    ];
    leaf.prop_recursive(4, 20, 4, |inner| {
        let some = || prop::collection::vec(inner.clone(), 1..4);
        let boxed = || inner.clone().prop_map(Box::new);
        prop_oneof![
            2 => boxed().prop_map(Program::Child),
            2 => boxed().prop_map(Program::Outliving),
            2 => boxed().prop_map(Program::Spawn),
            3 => some().prop_map(Program::Sequence),
            2 => some().prop_map(Program::JoinAll),
            2 => (boxed(), boxed()).prop_map(|(a, b)| Program::Join(a, b)),
            2 => (boxed(), boxed()).prop_map(|(a, b)| Program::Race(a, b)),
            2 => some().prop_map(Program::Unordered),
            2 => (boxed(), boxed()).prop_map(|(a, b)| Program::Channel(a, b)),
            1 => boxed().prop_map(Program::Abandon),
            2 => boxed().prop_map(Program::Cleanup),
        ]
    })
}

/// Every execution of a body: the witness outside the log.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    begun: Mutex<BTreeMap<(RunId, OpId, u32), u32>>,
    succeeded: Mutex<BTreeMap<(RunId, OpId), u32>>,
}

impl Ledger {
    fn begins(&self, step: &Step) {
        let key = (step.run_id().clone(), step.op(), step.attempt());
        *self.begun.lock().unwrap().entry(key).or_default() += 1;
    }

    fn succeeds(&self, step: &Step) {
        let key = (step.run_id().clone(), step.op());
        *self.succeeded.lock().unwrap().entry(key).or_default() += 1;
    }

    /// How often each attempt began.
    pub(super) fn take(&self) -> BTreeMap<(RunId, OpId, u32), u32> {
        std::mem::take(&mut self.begun.lock().unwrap())
    }

    /// How often each step's body returned an output.
    pub(super) fn take_successes(&self) -> BTreeMap<(RunId, OpId), u32> {
        std::mem::take(&mut self.succeeded.lock().unwrap())
    }
}

/// The names that programs wait for.
pub(super) fn signal_name(name: bool) -> &'static str {
    if name { "go" } else { "stop" }
}

pub(super) fn app(ledger: &Arc<Ledger>) -> App {
    // A run that waits leaves memory at once: most of what it observes brings it back.
    App::new("generated")
        .state(Arc::clone(ledger))
        .unload_after(Duration::ZERO)
        .workflow("program", interpret)
}

async fn interpret(ctx: Ctx, program: Program) -> Result<u64> {
    let value = eval(ctx.clone(), program).await;
    if ctx.random() % 2 == 1 {
        // A cancelled run ends with this error, the others go on.
        ctx.sleep(Duration::ZERO).await?;
    }
    Ok(value)
}

async fn body(step: Step, (fails, yields): (u32, u8)) -> Result<u64> {
    step.state::<Arc<Ledger>>().begins(&step);
    for _ in 0..yields {
        tokio::task::yield_now().await;
    }
    if yields == 3 {
        step.checkpoint(step.attempt()).await?;
    }
    if step.attempt() <= fails {
        return Err("not yet".into());
    }
    step.state::<Arc<Ledger>>().succeeds(&step);
    Ok(u64::from(step.op().get()))
}

fn mix(a: u64, b: u64) -> u64 {
    a.wrapping_mul(31).wrapping_add(b).wrapping_add(1)
}

type Value = Pin<Box<dyn Future<Output = u64> + Send>>;

async fn ask(ctx: &Ctx, plain: bool, time: Duration) -> u64 {
    if plain {
        let promise = ctx.promise::<u64>("ask").timeout(time);
        return promise.await.map_or(41, |value| mix(43, value));
    }
    let asked = ctx.approval("ask").needs(2).timeout(time);
    asked.await.map_or(47, |it| mix(53, it.answers.len().try_into().unwrap_or(0)))
}

async fn listen(ctx: &Ctx, name: bool, time: Duration) -> u64 {
    match ctx.signal::<u64>(signal_name(name)).timeout(time).await {
        Ok(Some(value)) => mix(29, value),
        Ok(None) => 31,
        Err(_) => 37,
    }
}

async fn unordered(ctx: &Ctx, all: Vec<Program>) -> u64 {
    let mut open: FuturesUnordered<Value> =
        all.into_iter().map(|inner| eval(ctx.clone(), inner)).collect();
    let mut value = 17;
    while let Some(next) = open.next().await {
        value = mix(value, next);
    }
    value
}

fn eval(ctx: Ctx, program: Program) -> Value {
    Box::pin(async move {
        match program {
            Program::Step { fails, attempts, yields, blocking } => {
                let call = step(&ctx, fails, attempts, yields);
                let call = if blocking { call.blocking() } else { call };
                call.await.unwrap_or(1_000_000)
            }
            Program::Sleep(ms) => {
                let slept = ctx.sleep(Duration::from_millis(ms.into())).await;
                slept.map_or(1, |()| 2)
            }
            Program::Signal(name, ms) => listen(&ctx, name, Duration::from_millis(ms.into())).await,
            Program::Promise(plain, ms) => ask(&ctx, plain, Duration::from_millis(ms.into())).await,
            Program::Now => u64::try_from(ctx.now().as_micros()).unwrap_or(0),
            Program::Status => {
                // Another value each time: no replay compares it.
                ctx.set_status(SAID.fetch_add(1, Ordering::Relaxed));
                7
            }
            Program::Random => mix(ctx.random(), u64::from(ctx.uuid().as_bytes()[0])),
            Program::Child(inner) => {
                ctx.child::<u64, _, _, _>("program", *inner).await.unwrap_or(7)
            }
            Program::Outliving(inner) => {
                let child = ctx.child::<u64, _, _, _>("program", *inner);
                child.outlives_parent().await.unwrap_or(59)
            }
            Program::Spawn(inner) => {
                let spawned = ctx.spawn("program", *inner).await;
                spawned.map_or(61, |run| mix(67, u64::from(run.as_str().starts_with('p'))))
            }
            Program::Sequence(all) => {
                let mut value = 3;
                for inner in all {
                    value = mix(value, eval(ctx.clone(), inner).await);
                }
                value
            }
            Program::JoinAll(all) => {
                let values = join_all(all.into_iter().map(|inner| eval(ctx.clone(), inner))).await;
                values.into_iter().fold(5, mix)
            }
            Program::Join(a, b) => {
                let (a, b) = tokio::join!(eval(ctx.clone(), *a), eval(ctx.clone(), *b));
                mix(a, b)
            }
            Program::Race(a, b) => crate::select! {
                a = eval(ctx.clone(), *a) => mix(11, a),
                b = eval(ctx.clone(), *b) => mix(13, b),
            },
            Program::Unordered(all) => unordered(&ctx, all).await,
            Program::Cleanup(inner) => ctx.cleanup(|ctx| eval(ctx, *inner)).await,
            Program::Channel(a, b) => channel(ctx, *a, *b).await,
            Program::Abandon(inner) => {
                let abandoned = step(&ctx, 0, 1, 2).start();
                let value = eval(ctx.clone(), *inner).await;
                drop(abandoned);
                value
            }
        }
    })
}

fn step(ctx: &Ctx, fails: u32, attempts: u32, yields: u8) -> crate::Call<u64> {
    let delay = Duration::from_millis(1);
    let retry = Retry::attempts(attempts).initial_delay(delay).max_delay(delay);
    ctx.step("body", body, (fails, yields)).retry(retry)
}

async fn channel(ctx: Ctx, a: Program, b: Program) -> u64 {
    let (send, mut receive) = tokio::sync::mpsc::channel(1);
    let sender = async {
        for part in 0..2 {
            let value = eval(ctx.clone(), a.clone()).await;
            if send.send(mix(part, value)).await.is_err() {
                break;
            }
        }
        drop(send);
        19
    };
    let receiver = async {
        let mut value = 23;
        while let Some(part) = receive.recv().await {
            value = mix(value, mix(part, eval(ctx.clone(), b.clone()).await));
        }
        value
    };
    let (sent, received) = tokio::join!(sender, receiver);
    mix(sent, received)
}
