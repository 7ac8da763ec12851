//! Starts a run: checks the request before anything is written, and loads the run after the commit.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidemill_model::limits::{LABELS_MAX, PAYLOAD_BYTES_MAX};
use tidemill_model::{Durability, Json, OpName, RunCreated, RunId, Seed, Signal, unix_ms};

use super::Engine;
use super::clock::Clock;
use super::handle::Started;
use super::signals::SignalRequest;
use super::start_request::StartRequest;
use crate::author::near::did_you_mean;
use crate::author::{App, Workflow};
use crate::error::{Error, ErrorKind};
use crate::store::writer::{Creation, NewRun};

/// The longest name of who starts a run.
const BY_BYTES_MAX: usize = 200;

/// The longest time that a run can be given: a hundred years. Who means longer sets no limit.
const WITHIN_MAX: Duration = Duration::from_secs(36_525 * 86_400);

/// Checks a request and returns the run that it asks for.
pub(super) fn validate(
    engine: &Engine,
    request: StartRequest,
) -> Result<(NewRun, Option<Signal>), Error> {
    let StartRequest { workflow, input, id, labels, by, within, signal } = request;
    let (workflow, registered) = known_workflow(&engine.app, &workflow)?;
    let bytes = input.as_str().len();
    if bytes > PAYLOAD_BYTES_MAX {
        return Err(Error::invalid(format!(
            "the input has {bytes} bytes, and an input may have {PAYLOAD_BYTES_MAX}: keep large \
             data in your own storage and pass its key"
        )));
    }
    check_input((workflow, registered), &input)?;
    check_labels(&labels)?;
    let signal = signal.map(SignalRequest::checked).transpose()?;
    let id = match id {
        Some(id) => RunId::chosen(&id)?,
        None => generated_id(&engine.clock)?,
    };
    let created = RunCreated {
        workflow: workflow.clone(),
        input,
        labels,
        seed: Seed::from_random(engine.clock.random()?),
        parent: None,
        spawned_by: None,
        outlives_parent: false,
        app_version: engine.app.version.clone(),
        durability: Durability::Local,
        by: check_by(by)?,
        forked: None,
        within_ms: within.map(within_ms).transpose()?,
    };
    Ok((NewRun::new(id, Box::new(created)), signal))
}

/// Who starts the run, if they said.
fn check_by(by: Option<String>) -> Result<Option<String>, Error> {
    match by.map(|by| by.trim().to_owned()).filter(|by| !by.is_empty()) {
        Some(by) if by.len() > BY_BYTES_MAX => {
            let bytes = by.len();
            Err(Error::invalid(format!("`by` has {bytes} bytes, of at most {BY_BYTES_MAX}")))
        }
        by => Ok(by),
    }
}

/// How long a run may take, in milliseconds.
///
/// # Errors
/// `Invalid` if no run can have that time.
pub(crate) fn within_ms(within: Duration) -> Result<u64, Error> {
    if within < Duration::from_millis(1) || within > WITHIN_MAX {
        let days = WITHIN_MAX.as_secs() / 86_400;
        return Err(Error::invalid(format!(
            "`within` is {within:?}: a run may be given 1ms to {days}d"
        )));
    }
    Ok(unix_ms(within))
}

/// The workflow of this name.
///
/// # Errors
/// `NotFound` with the names of those that the program has.
pub(super) fn known_workflow<'a>(
    app: &'a App,
    workflow: &str,
) -> Result<(&'a OpName, &'a Workflow), Error> {
    let found = OpName::new(workflow).ok().and_then(|name| app.workflows.get_key_value(&name));
    found.ok_or_else(|| {
        let known = app.workflow_names().join(", ");
        let meant = did_you_mean(workflow, app.workflows.keys().map(OpName::as_str));
        let message = format!("there is no workflow `{workflow}`; {meant}known workflows: {known}");
        Error::new(ErrorKind::NotFound, message)
    })
}

/// Refuses an input that the workflow cannot read.
///
/// # Errors
/// `Invalid` with the reason.
pub(super) fn check_input(
    (workflow, registered): (&OpName, &Workflow),
    input: &Json,
) -> Result<(), Error> {
    registered.accepts(input).map_err(|e| unfit_input(workflow, input, &e.to_string()))
}

/// The error for an input that the workflow cannot read. `null` stands for an input that was left out.
fn unfit_input(workflow: &OpName, input: &Json, why: &str) -> Error {
    if *input != Json::null() {
        return Error::invalid(format!("workflow `{workflow}` cannot read this input: {why}"));
    }
    // Serde's words, without the place in the text, which has one word.
    let why = why.split(" at line ").next().unwrap_or(why);
    let why = match why.strip_prefix("invalid type: null, expected ") {
        Some(expected) => format!("it expects {expected}"),
        None => why.to_owned(),
    };
    Error::invalid(format!("workflow `{workflow}` needs an input, and none was given: {why}"))
}

fn check_labels(labels: &BTreeMap<String, String>) -> Result<(), Error> {
    if labels.len() > LABELS_MAX {
        let count = labels.len();
        return Err(Error::invalid(format!(
            "the request has {count} labels, and a run may have {LABELS_MAX}"
        )));
    }
    for (name, value) in labels {
        OpName::new(name).map_err(|e| {
            Error::invalid(format!("a label has a bad name, `{}`: {}", e.text, e.rule))
        })?;
        OpName::new(value).map_err(|e| {
            Error::invalid(format!("label `{name}` has a bad value, `{}`: {}", e.text, e.rule))
        })?;
    }
    Ok(())
}

pub(super) fn generated_id(clock: &Clock) -> Result<RunId, Error> {
    let millis = clock.wall().as_micros() / 1_000;
    let [a, b, c, d, e, f, g, h, i, j, ..] = clock.random()?;
    let tail = [a, b, c, d, e, f, g, h, i, j];
    let millis = u64::try_from(millis).unwrap_or(0);
    Ok(RunId::generated(uuid::Builder::from_unix_timestamp_millis(millis, &tail).into_uuid()))
}

/// Creates the run and loads it.
pub(super) async fn start(
    engine: Arc<Engine>,
    new: NewRun,
    signal: Option<Signal>,
) -> Result<Started, Error> {
    let (id, created) = (new.id.clone(), Box::new(new.created().clone()));
    if let Some(signal) = &signal {
        engine.check_signal(&id, &created.workflow, signal).await?;
    }
    let is_signalled = signal.is_some();
    match engine.store.create(new, signal).await? {
        Creation::Created(seq) => {
            match is_signalled {
                true => engine.adopt_with_log(&id),
                false => engine.adopt(&id, seq, created),
            }
            Ok(Started { id, existing: false, seq })
        }
        Creation::Existing(seq, was_signalled) => {
            if was_signalled {
                engine.tell_news(&id);
            }
            Ok(Started { id, existing: true, seq })
        }
    }
}
