//! Runs with types: started by function or name, in this process and over HTTP; children by
//! function; timers with names; and a program with its own `main`.

use std::time::{Duration, SystemTime};

use tidemill::{App, Client, Ctx, ErrorKind, ForkRequest, Result, RunResult, ServeSettings};

use crate::common::{Place, fsck, soon, sql};

async fn square(ctx: Ctx, n: u64) -> Result<u64> {
    Ok(ctx.run("square", async move || Ok(n * n)).await?)
}

async fn squares(ctx: Ctx, up_to: u64) -> Result<u64> {
    let children = (1..=up_to).map(|n| ctx.child(square, n));
    Ok(futures_util::future::try_join_all(children).await?.into_iter().sum())
}

async fn declined(ctx: Ctx, (): ()) -> Result<()> {
    // Only `?` says what may go wrong here.
    let charge = ctx.run("charge", async || {
        let cents: u64 = "many".parse()?;
        let _receipt = String::from_utf8(vec![b'0'; usize::try_from(cents)?])?;
        Ok(())
    });
    Ok(charge.await?)
}

async fn panics(_: Ctx, (): ()) -> Result<()> {
    panic!("on purpose");
}

async fn stranger(ctx: Ctx, (): ()) -> Result<u64> {
    async fn nobody(_: Ctx, (): ()) -> Result<u64> {
        Ok(0)
    }
    Ok(ctx.child(nobody, ()).await?)
}

async fn naps(ctx: Ctx, (): ()) -> Result<()> {
    ctx.sleep(Duration::from_millis(1)).named("cool-down").await?;
    ctx.sleep_until(SystemTime::UNIX_EPOCH).named("until then").await?;
    ctx.sleep(Duration::from_millis(1)).await?;
    Ok(())
}

fn app() -> App {
    App::new("t")
        .workflow("squared", square)
        .workflow("squares", squares)
        .workflow("declined", declined)
        .workflow("panics", panics)
        .workflow("stranger", stranger)
        .workflow("naps", naps)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handle_gives_the_output_with_its_type_or_the_reason() {
    let place = Place::new();
    let node = place.open(app()).await;
    let run = node.start(square, 3).id("nine").label("team", "maths").await.unwrap();
    assert_eq!((run.id().as_str(), run.existing()), ("nine", false));
    assert_eq!(soon(run.result()).await.unwrap(), 9);
    let again = node.start::<u64, _, _, _>("squared", 3).id("nine").await.unwrap();
    assert!(again.existing());
    let sum: u64 = soon(node.start("squares", 3).await.unwrap().result()).await.unwrap();
    assert_eq!(sum, 14);

    let declined = node.start(declined, ()).id("d").await.unwrap();
    let error = soon(declined.result()).await.unwrap_err();
    let said = "run `d` failed: `charge` failed: invalid digit found in string";
    assert_eq!((error.kind(), error.message()), (ErrorKind::Conflict, said));
    let blocked = node.start(panics, ()).id("p").await.unwrap();
    let error = soon(blocked.result()).await.unwrap_err().to_string();
    assert!(error.starts_with("run `p` is blocked: the workflow panicked: on purpose; what to do"));
    let stranger = soon(node.start(stranger, ()).await.unwrap().ended()).await.unwrap();
    let RunResult::Blocked(reason) = stranger else { panic!("nobody is registered") };
    assert!(reason.why().contains("nobody`, which this program does not register"), "{reason}");
    node.shutdown().await.unwrap();
    fsck(&place);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn timers_have_the_names_that_they_are_given() {
    let place = Place::new();
    let node = place.open(app()).await;
    soon(node.start(naps, ()).await.unwrap().result()).await.unwrap();
    node.shutdown().await.unwrap();
    let names: String = sql(&place, "SELECT group_concat(name, ', ' ORDER BY op) FROM timers");
    assert_eq!(names, "cool-down, until then, sleep");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_with_its_own_main_serves_a_node_in_its_router() {
    let place = Place::new();
    let settings = ServeSettings::new(place.file()).listen("127.0.0.1:0".parse().unwrap());
    let serving = app().serve(settings).await.unwrap();
    let own = axum::routing::get(async || "ours");
    let router = axum::Router::new().route("/", own).merge(serving.router());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mounted = format!("http://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(async move { axum::serve(listener, router).await });
    let direct = format!("http://{}", serving.address().unwrap());
    for (url, id) in [(&mounted, "by-router"), (&direct, "by-address")] {
        let typed = app().client(url).unwrap();
        let run = typed.start(square, 5).id(id).await.unwrap();
        assert!(!run.existing());
        assert_eq!(soon(run.result()).await.unwrap(), 25);
        let named = Client::new(url).unwrap();
        assert_eq!(soon(named.run::<u64>(id).unwrap().result()).await.unwrap(), 25);
        let again = named.start::<u64, _, _, _>("squared", 5).id(id).await.unwrap();
        assert!(again.existing());
        let unknown = named.start(square, 5).await.unwrap_err();
        assert_eq!(unknown.kind(), ErrorKind::NotFound, "{unknown}");
        let failed = named.start::<(), _, _, _>("declined", ()).await.unwrap();
        let error = soon(failed.result()).await.unwrap_err().to_string();
        assert!(error.ends_with("failed: `charge` failed: invalid digit found in string"));
        let by_hand = ForkRequest::retry().set("charge", ()).unwrap();
        let outlook = failed.fork_outlook(by_hand.clone()).await.unwrap();
        assert_eq!((outlook.set.count, outlook.again.count), (1, 0));
        let forked = failed.fork(by_hand).await.unwrap();
        soon(forked.result()).await.unwrap();
        let done = forked.fork(ForkRequest::retry()).await.unwrap_err();
        assert_eq!(done.kind(), ErrorKind::Conflict, "{done}");
        let blocked = named.start::<(), _, _, _>("panics", ()).await.unwrap();
        let ended = soon(blocked.ended()).await.unwrap();
        assert!(matches!(ended, RunResult::Blocked(_)), "{ended:?}");
        let missing = soon(named.run::<u64>("nobody").unwrap().result()).await.unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::NotFound);
    }
    server.abort();
    soon(serving.close()).await.unwrap();
    fsck(&place);
}
