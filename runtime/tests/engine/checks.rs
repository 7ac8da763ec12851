//! What a check of a run that has ended finds: where the code and the log part, and which call of
//! the code that concerns.

use std::cell::Cell;

use tidemill::{App, CheckReport, Ctx, Result, Step, StepError};

use crate::common::{MILLI, Place, soon, sql};

async fn number(_: Step, n: u32) -> Result<u32> {
    Ok(n)
}

async fn fails(_: Step, (): ()) -> Result<u32> {
    Err("no".into())
}

thread_local! {
    /// The line of the call that a check has to name.
    static LINE: Cell<u32> = const { Cell::new(0) };
}

/// Notes the line of its caller and returns what it is given: it stands in the line of a call.
#[track_caller]
fn here<T>(call: T) -> T {
    LINE.set(std::panic::Location::caller().line());
    call
}

/// The workflow whose log is checked.
async fn base(ctx: Ctx, (): ()) -> Result<u32> {
    let (slept, a) = tokio::join!(ctx.sleep(MILLI), ctx.step("a", number, 1));
    slept?;
    let failed: std::result::Result<u32, StepError> = ctx.step("fails", fails, ()).await;
    Ok(a? + failed.unwrap_or(1))
}

async fn other_name(ctx: Ctx, (): ()) -> Result<u32> {
    let (slept, b) = tokio::join!(ctx.sleep(MILLI), here(ctx.step("b", number, 1)));
    slept?;
    Ok(b?)
}

async fn waits(ctx: Ctx, (): ()) -> Result<u32> {
    here(ctx.sleep(MILLI)).await?;
    Ok(1)
}

async fn other_output(ctx: Ctx, (): ()) -> Result<u32> {
    Ok(base(ctx, ()).await? + 1)
}

async fn does_not_handle(ctx: Ctx, (): ()) -> Result<u32> {
    let (slept, a) = tokio::join!(ctx.sleep(MILLI), ctx.step("a", number, 1));
    slept?;
    let failed = here(ctx.step("fails", fails, ())).await?;
    Ok(a? + failed)
}

async fn takes_another_type(ctx: Ctx, (): ()) -> Result<u32> {
    async fn text(_: Step, _: u32) -> Result<String> {
        Ok(String::new())
    }
    let (slept, a) = tokio::join!(ctx.sleep(MILLI), here(ctx.step("a", text, 1)));
    slept?;
    a?;
    Ok(2)
}

async fn panics(ctx: Ctx, (): ()) -> Result<u32> {
    base(ctx, ()).await?;
    panic!("on purpose");
}

/// The line in a place of this file.
fn line(place: Option<&String>) -> Option<u32> {
    let (file, place) = place?.split_once(':')?;
    assert!(file.ends_with("tests/engine/checks.rs"), "{file}");
    let (line, column) = place.split_once(':')?;
    assert!(column.parse::<u32>().unwrap() > 1, "{place}");
    line.parse().ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_place_of_a_divergence_in_the_log_and_in_the_code() {
    let place = Place::new();
    let node = place.open(App::new("t").workflow("w", base)).await;
    let run = node.start(base, ()).await.unwrap();
    soon(run.result()).await.unwrap();
    let run = run.id().clone();
    node.shutdown().await.unwrap();
    let first = |kind: &str| -> i64 {
        sql(&place, &format!("SELECT min(seq) FROM events WHERE kind = '{kind}'"))
    };
    let (step, end) = (first("step_started"), first("run_completed"));
    let completed = first("step_completed");
    let before = std::fs::read(place.file()).unwrap();

    let check = |app: App| -> CheckReport {
        LINE.set(0);
        app.check_run(&place.file(), &run).unwrap()
    };
    let app = || App::new("t");
    let same = check(app().workflow("w", base));
    assert_eq!((same.divergence, same.seq, same.at), (None, None, None));
    assert!(same.events > 7, "{}", same.events);

    for (report, seq) in [
        (check(app().workflow("w", other_name)), step),
        (check(app().workflow("w", takes_another_type)), completed),
        (check(app().workflow("w", does_not_handle)), end),
    ] {
        assert!(report.seq.unwrap().get() == u64::try_from(seq).unwrap(), "{report:?}");
        assert!(line(report.at.as_ref()).is_some() && report.waits_at.is_none(), "{report:?}");
    }
    let report = check(app().workflow("w", other_name));
    assert_eq!(line(report.at.as_ref()), Some(LINE.get()), "{report:?}");
    let report = check(app().workflow("w", does_not_handle));
    assert_eq!(line(report.at.as_ref()), Some(LINE.get()), "{report:?}");

    let report = check(app().workflow("w", waits));
    assert_eq!((&report.at, line(report.waits_at.as_ref())), (&None, Some(LINE.get())));
    assert_eq!(report.seq.map(tidemill_model::Seq::get), u64::try_from(step).ok(), "{report:?}");

    let nowhere = [app().workflow("w", other_output), app().workflow("w", panics)].map(check);
    for report in nowhere {
        assert!(report.divergence.is_some(), "{report:?}");
        assert_eq!((&report.at, &report.waits_at), (&None, &None), "{report:?}");
    }
    let output = check(app().workflow("w", other_output));
    let said = output.divergence.unwrap();
    assert_eq!(said.logged.as_deref(), Some("run_completed with 2"));
    assert_eq!(said.asked.as_deref(), Some("run_completed with 3"));
    let gone = check(app().workflow("v", base));
    assert_eq!((gone.seq, gone.at), (None, None), "{:?}", gone.divergence);
    assert_eq!(std::fs::read(place.file()).unwrap(), before, "nothing was written");
}
