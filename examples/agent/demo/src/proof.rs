//! The proof: what the model and the shop count, beside what the log in the bucket says.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use agent_world::World;
use anyhow::ensure;
use demo_stage::Look;

/// The answers of the model in the log.
const ANSWERS: &str =
    "SELECT count(*) FROM events WHERE kind = 'step_completed' AND name = 'model'";
/// Events of vm-2, about steps that had ended in what it restored.
const RAN_AGAIN: &str = "SELECT count(*) FROM events again JOIN events done \
     ON done.run = again.run AND done.op = again.op AND done.kind = 'step_completed' \
     WHERE again.seq > (SELECT max(seq) FROM events WHERE kind = 'node_started') \
     AND done.seq < (SELECT max(seq) FROM events WHERE kind = 'node_started')";

/// Counts.
///
/// # Errors
/// If something happened twice.
pub(crate) fn of(world: &World, look: &Look<'_>, node: &str, live: bool) -> anyhow::Result<String> {
    let number = |sql: &str| Ok::<_, anyhow::Error>(look.first_row(node, sql)?[0].as_u64());
    let again = number(RAN_AGAIN)?;
    ensure!(again == Some(0), "{again:?} events of steps that had been completed came again");
    let answers = number(ANSWERS)?.unwrap_or(0);
    let mut text = if live {
        format!("The log has {answers} answers of the model, each paid for once.\n")
    } else {
        model(world, answers)?
    };
    text.push_str("No step that vm-1 had completed ran again on vm-2. The shop's own book:\n\n");
    shop(world, &mut text)?;
    Ok(text)
}

fn model(world: &World, in_log: u64) -> anyhow::Result<String> {
    let mut answers: BTreeMap<usize, u64> = BTreeMap::new();
    let (mut asked, mut busy) = (0_u64, 0_u64);
    for request in world.asked() {
        asked += 1;
        match request.status {
            200 => *answers.entry(request.turn).or_default() += 1,
            _ => busy += 1,
        }
    }
    ensure!(answers.values().all(|times| *times == 1), "an answer was given twice: {answers:?}");
    let given: u64 = answers.values().sum();
    ensure!(given == in_log, "the model gave {given} answers, and the log has {in_log}");
    Ok(format!(
        "The model was asked {asked} times. It was too busy in {busy} of them, and answered in {given}: \
         each turn once.\n"
    ))
}

fn shop(world: &World, text: &mut String) -> anyhow::Result<()> {
    let effects = world.effects();
    let mut done: BTreeMap<(&str, String), u32> = BTreeMap::new();
    writeln!(text, "effect     requests  done  idempotency key")?;
    for effect in &effects {
        let happened = done.entry((&effect.what, effect.body.to_string())).or_default();
        *happened += 1;
        ensure!(*happened == 1, "{} happened twice: {}", effect.what, effect.body);
        let (what, key, requests) = (&effect.what, &effect.key, effect.requests);
        let why = if requests > 1 { "  (a reply was lost)" } else { "" };
        writeln!(text, "{what:<9}  {requests:>8}  {happened:>4}  {key}{why}")?;
    }
    ensure!(!effects.is_empty(), "the shop was asked for nothing");
    text.truncate(text.trim_end().len());
    Ok(())
}
