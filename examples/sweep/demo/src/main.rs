//! The demo: a sweep outlives its machine. It starts a node, destroys the machine in mid run,
//! lets a second machine with an empty disk take over from the bucket, and then looks at the past.
//!
//! `tools/demo` calls it and cleans up after it, whatever happens here.

mod witness;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use demo_stage::{Arguments, FLEET, Look, Machine, Play, Stage, chapter, say, wait_for};
use serde_json::{Value, json};

use witness::Witness;

const NODE: &str = "sweeper";
const RUN: &str = "digits";

fn main() -> anyhow::Result<()> {
    let Arguments { folder, programs, keep } = Arguments::read()?;
    let play = Play { node: NODE, app: "sweep", environment: Vec::new() };
    let stage = Stage::set(play, &folder, &programs)?;
    let look = Look::new(&stage);

    chapter("A node: one process, one SQLite file, one bucket");
    say(&format!("An S3 server listens on {}. The bucket is empty.", stage.endpoint()));
    let mut first = stage.machine("vm-1")?;
    let url = first.wait_ready()?;
    say(&format!(
        "vm-1 runs node `{NODE}`: a sidecar, Litestream, and the sweep, at {url}.\n\
         Its disk is {}.",
        first.disk().display()
    ));
    start_sweep(&url)?;
    say("A sweep of 12 trials was started over HTTP: each a child workflow that trains a\n\
         classifier of handwritten digits for 20 epochs, with a checkpoint after each epoch.");
    wait_until_busy(&look, &url)?;
    look.show(&["runs", "--from", &url])?;

    chapter("The machine vanishes");
    let (shown, lost) = lose(first, &stage)?;
    say(&format!(
        "SIGKILL to the sidecar, Litestream and the app; the disk of vm-1 is deleted.\n\
         The sidecar had just shown what was not yet in the bucket: {} ms, {} bytes.",
        shown.lag_ms, shown.lag_bytes
    ));

    chapter("Another machine takes over");
    let mut second = stage.machine("vm-2")?;
    say(
        "vm-2 starts with an empty disk. It waits until the lease of vm-1 has run out, claims the\n\
         next epoch, restores the last restorable point, verifies it, and lets the app open it.",
    );
    let url = second.wait_ready()?;
    say(&format!("vm-2 is ready at {url}; the unfinished runs continue by themselves."));
    let ranking = wait_result(&url)?;
    say("The sweep is finished.");
    let db = second.db().to_owned();
    second.shut_down()?;

    chapter("What the bucket shows, with both machines gone");
    let witness = Witness::hear(&look, &lost, &db)?;
    look_back(&look, &witness)?;

    chapter("What was repeated, and what was not");
    say(&witness.verdict()?);
    chapter("The best trial");
    say(&best_trials(&ranking)?);
    if !keep {
        say("`make demo KEEP=1` ends with a page on which you can look at all of this.");
        return Ok(());
    }
    chapter("Look at it yourself");
    keep_open(&stage)
}

/// Serves pages of the bucket until Ctrl-C, which also ends this program.
fn keep_open(stage: &Stage) -> anyhow::Result<()> {
    let (mut observer, page) = stage.observe()?;
    let node = format!("{page}/s3/demo/fleet/{NODE}");
    say(&format!(
        "Both machines are gone; `tidemill observe` reads the bucket alone.\n\n\
         the fleet                {page}/\n\
         the node's two epochs    {node}\n\
         the sweep, at its end    {node}@latest/runs/{RUN}\n\
         as vm-1 left it          {node}@e1/runs/{RUN}\n\n\
         Ctrl-C ends it and deletes everything."
    ));
    let status = observer.wait()?;
    bail!("the observer ended: {status}")
}

fn start_sweep(url: &str) -> anyhow::Result<()> {
    let body = json!({"workflow": "sweep", "input": {}, "id": RUN});
    let reply = ureq::post(format!("{url}/v1/runs")).send_json(&body).context("start the sweep")?;
    ensure!(reply.status().as_u16() == 201, "starting the sweep gave {}", reply.status());
    Ok(())
}

fn get(url: &str, path: &str) -> anyhow::Result<Value> {
    let mut reply =
        ureq::get(format!("{url}{path}")).call().with_context(|| format!("GET {path}"))?;
    Ok(reply.body_mut().read_json()?)
}

/// Waits until some trials are done and others are in the middle of their training.
fn wait_until_busy(look: &Look<'_>, url: &str) -> anyhow::Result<()> {
    let sql = "SELECT (SELECT count(*) FROM runs WHERE workflow = 'trial' AND status = 'completed'), \
               (SELECT count(*) FROM checkpoints c JOIN steps s USING (run, op) \
                WHERE s.status = 'running')";
    wait_for("trials in mid training", Duration::from_secs(90), || {
        let row = look.first_row(url, sql)?;
        let busy = row[0].as_u64() >= Some(2) && row[1].as_u64() >= Some(4);
        Ok(busy.then_some(()))
    })
}

/// Destroys the machine at a moment when something was not yet in the bucket, as it usually is not
/// in real life.
fn lose(
    machine: Machine,
    stage: &Stage,
) -> anyhow::Result<(tidemill_model::SidecarStatus, PathBuf)> {
    let shown = wait_for("a moment with something unshipped", Duration::from_secs(30), || {
        let shown = machine.status()?;
        Ok((shown.lag_bytes > 0 && shown.lag_ms >= 150).then_some(shown))
    })?;
    let lost = machine.vanish(&stage.folder().join("vm-1-as-it-was"))?;
    Ok((shown, lost))
}

fn wait_result(url: &str) -> anyhow::Result<Value> {
    let reply = wait_for("the sweep's end", Duration::from_secs(180), || {
        let reply = get(url, &format!("/v1/runs/{RUN}/result?wait=5s"));
        Ok(reply
            .ok()
            .filter(|reply| reply["status"] != "running" && reply["status"] != "suspended"))
    })?;
    ensure!(reply["status"] == "completed", "the sweep did not complete: {reply}");
    Ok(reply["output"].clone())
}

/// The observer's commands, on the bucket alone.
fn look_back(look: &Look<'_>, witness: &Witness) -> anyhow::Result<()> {
    look.show(&["nodes", FLEET])?;
    look.show_ends(&["timeline", &format!("{FLEET}/{NODE}")], 4, 3)?;
    let before = format!("{FLEET}/{NODE}@e1");
    say("The runs at the last moment before the machine was lost that is in the bucket:");
    look.show(&["runs", "--from", &before])?;
    let trial = witness.unfinished_trial();
    say(&format!("One of the trials, `{trial}`, at that moment and at the end:"));
    look.show_ends(&["show", trial, "--from", &before], 24, 0)?;
    look.show_ends(&["show", trial, "--from", &format!("{FLEET}/{NODE}")], 40, 0)
}

fn best_trials(ranking: &Value) -> anyhow::Result<String> {
    let trials = ranking["trials"].as_array().context("the result has no trials")?;
    let mut text = String::from("rank  accuracy   loss  learning rate  augmentation");
    for (rank, trial) in trials.iter().take(5).enumerate() {
        let number = |value: &Value| value.as_f64().context("the result has no number");
        text.push_str(&format!(
            "\n{:>4}  {:>7.2}%  {:>5.3}  {:>13.2}  {}",
            rank + 1,
            number(&trial["held_out"]["accuracy"])? * 100.0,
            number(&trial["held_out"]["loss"])?,
            number(&trial["learning_rate"])?,
            trial["augmentation"].as_str().unwrap_or("?"),
        ));
    }
    Ok(text)
}
