//! The demo: an agent waits for a person, and its machine is destroyed meanwhile. A second machine with
//! an empty disk takes the node over from the bucket, the person approves there, and the agent goes on.
//!
//! The shop and the model run here, outside of both machines: they count what they were asked.
//! `tools/demo` calls it and cleans up after it, whatever happens here.

mod follow;
mod proof;

use std::time::Duration;

use agent_world::{Addresses, BROKEN_LAMPS, Fault, Recording, World};
use anyhow::{Context, bail, ensure};
use demo_stage::{Arguments, FLEET, Look, Machine, Play, Stage, chapter, pause, say, wait_for};
use serde_json::{Value, json};

use follow::Follow;

const NODE: &str = "helpdesk";
const RUN: &str = "lamps";
const MAIL: &str = "Both Fresnel lamps (FL-21) of order 7714 arrived with cracked glass. I need at least \
                    one of them by Friday. Can you help?";

fn main() -> anyhow::Result<()> {
    let Arguments { folder, programs, keep } = Arguments::read()?;
    let world = World::open(Recording::read(BROKEN_LAMPS)?, Addresses::default())?;
    let live = std::env::var("OPENAI_BASE_URL").ok();
    let play = Play { node: NODE, app: "agent", environment: environment(&world, live.is_some()) };
    let stage = Stage::set(play, &folder, &programs)?;
    let look = Look::new(&stage);
    let mut follow = Follow::new(RUN);

    chapter("A mail comes in");
    let mut first = stage.machine("vm-1")?;
    let url = first.wait_ready()?;
    introduce(&first, &url, live.as_deref());
    // What happens every day: the model is busy, and a reply of the shop gets lost.
    world.fails_next("model", Fault::Status(429));
    world.fails_next("holds", Fault::ReplyLost);
    start(&url)?;
    let promise = follow.until_it_waits(&url)?.context(
        "the model was done without asking for a refund: nobody has to approve anything",
    )?;
    say("\nThe agent waits for a person, for up to a week. It needs no process for that.");

    chapter("The machine vanishes");
    wait_until_shipped(&look, &first, follow.seen())?;
    first.vanish(&stage.folder().join("vm-1-as-it-was"))?;
    say(
        "SIGKILL to the sidecar, Litestream and the agent; the disk of vm-1 is deleted. No machine\n\
         has the conversation now. The bucket has it:",
    );
    let node = format!("{FLEET}/{NODE}");
    look.show_ends(&["show", RUN, "--from", &node], 4, 12)?;

    chapter("Another machine, and the approval");
    let mut second = stage.machine("vm-2")?;
    let url = second.wait_ready()?;
    say(&format!(
        "vm-2 began with an empty disk, waited until the lease of vm-1 had run out, and restored the\n\
         node from the bucket. It is at {url}. What waits for a person:"
    ));
    look.show_app("agent", &["promises", "--url", &url])?;
    if keep {
        say(&format!("Decide: {url}/promises/{promise} has the form. The demo waits for you."));
    } else {
        pause(Duration::from_secs(2));
        look.show_app("agent", &["approve", &promise, "--by", "ada", "--url", &url])?;
    }
    follow.until_it_ends(&url, keep)?;

    chapter("What happened how often");
    second.shut_down()?;
    say(&proof::of(&world, &look, &node, live.is_some())?);
    look.show(&["sql", TOKENS, "--from", &node])?;
    if !keep {
        say("`make demo-agent KEEP=1` lets you decide, and ends with pages of all of this.\n\
             With OPENAI_BASE_URL, OPENAI_MODEL and OPENAI_API_KEY the model is a live one.\n\
             docs/guide/agents.md shows how it is written.");
        return Ok(());
    }
    chapter("Look at it yourself");
    keep_open(&stage)
}

const TOKENS: &str = "SELECT op, output ->> '$.model' AS model, \
     output ->> '$.usage.prompt_tokens' AS prompt, output ->> '$.usage.completion_tokens' AS answer \
     FROM steps WHERE name = 'model'";

/// Where the agent finds its world. A live model is the one that the caller's environment names.
fn environment(world: &World, live: bool) -> Vec<(&'static str, String)> {
    let mut environment = vec![("SHOP_URL", world.shop_url())];
    if !live {
        environment.push(("OPENAI_BASE_URL", world.model_url()));
        environment.push(("OPENAI_MODEL", "recorded".to_owned()));
        environment.push(("OPENAI_API_KEY", String::new()));
        // Both are on loopback, where a proxy would not find them.
        environment.push(("NO_PROXY", "127.0.0.1".to_owned()));
    }
    environment
}

fn introduce(machine: &Machine, url: &str, live: Option<&str>) {
    let model = match live {
        Some(endpoint) => format!("The model is live, at {endpoint}."),
        None => "The model gives recorded answers; set OPENAI_BASE_URL for a live one.".to_owned(),
    };
    say(&format!(
        "vm-1 runs node `{NODE}`: a sidecar, Litestream, and a support agent, at {url}.\n\
         Its disk is {}.\n\
         Outside of it are a shop, which drops a request whose idempotency key it has seen, and a model.\n\
         {model}",
        machine.disk().display()
    ));
    say(&format!("    From: grace@example.org\n    {MAIL}"));
}

fn start(url: &str) -> anyhow::Result<()> {
    let input = json!({"from": "grace@example.org", "text": MAIL});
    let body = json!({"workflow": "support", "input": input, "id": RUN});
    let reply = ureq::post(format!("{url}/v1/runs")).send_json(&body).context("start the run")?;
    ensure!(reply.status().as_u16() == 201, "starting the run gave {}", reply.status());
    Ok(())
}

/// Waits until the bucket has all that was told.
fn wait_until_shipped(look: &Look<'_>, machine: &Machine, seq: u64) -> anyhow::Result<()> {
    wait_for("the bucket to have the conversation", Duration::from_secs(60), || {
        if machine.status()?.lag_bytes > 0 {
            return Ok(None);
        }
        let row = look.first_row(&format!("{FLEET}/{NODE}"), "SELECT max(seq) FROM events");
        Ok(row.ok().filter(|row| row[0].as_u64() >= Some(seq)).map(drop))
    })
}

/// Serves pages of the bucket until Ctrl-C, which also ends this program.
fn keep_open(stage: &Stage) -> anyhow::Result<()> {
    let (mut observer, page) = stage.observe()?;
    let node = format!("{page}/s3/demo/fleet/{NODE}");
    say(&format!(
        "Both machines are gone; `tidemill observe` reads the bucket alone.\n\n\
         the run, at its end      {node}@latest/runs/{RUN}\n\
         as vm-1 left it          {node}@e1/runs/{RUN}\n\
         the node's two epochs    {node}\n\n\
         Ctrl-C ends it and deletes everything."
    ));
    let status = observer.wait()?;
    bail!("the observer ended: {status}")
}

fn get(url: &str, path: &str) -> anyhow::Result<Value> {
    let mut reply =
        ureq::get(format!("{url}{path}")).call().with_context(|| format!("GET {path}"))?;
    Ok(reply.body_mut().read_json()?)
}
