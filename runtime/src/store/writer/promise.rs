//! Decides about answers to promises, within the transaction that records them.
//!
//! Whoever is told that an answer was accepted has what the log says: nothing else decides, neither the
//! run's driver nor its deadline, whose end is recorded here too.

use tidemill_eventlog::promises::{self, PromiseRow};
use tidemill_eventlog::query;
use tidemill_model::{
    AnswerNote, AnswerRefusal, Event, OpName, PromiseAnswer, PromiseId, Seq, TOKENS_MAX,
    TokenGrant, Verdict,
};

use super::commit::{Committer, LogResult};
use super::message::{ChangePromise, PromiseChange, PromiseOutcome};
use crate::error::{Error, ErrorKind};

impl Committer {
    pub(super) fn promise(
        &mut self,
        change: &ChangePromise,
    ) -> LogResult<Result<PromiseOutcome, Error>> {
        let id = &change.id;
        let Some(row) = promises::find(&self.connection, &id.run, id.op)? else {
            return Ok(Err(no_such_promise(id)));
        };
        let Ok(name) = OpName::new(&row.name) else {
            let message = format!("promise `{id}` has no name in the file");
            return Ok(Err(Error::new(ErrorKind::Corrupt, message)));
        };
        match &change.change {
            PromiseChange::Answer(answer, token) => {
                self.answer_promise(id, (name, &row), answer, token.as_deref())
            }
            PromiseChange::Grant(grant) => self.grant_token(id, (name, &row), grant),
        }
    }

    fn answer_promise(
        &mut self,
        id: &PromiseId,
        (name, row): (OpName, &PromiseRow),
        answer: &PromiseAnswer,
        token: Option<&str>,
    ) -> LogResult<Result<PromiseOutcome, Error>> {
        let now = self.clock.wall();
        let mut answer = answer.clone();
        if let Some(hash) = token {
            let Some(grant) = row.record.grant(hash, now) else { return Ok(Err(no_token(id))) };
            answer.with_token = true;
            answer.by = grant.holder.clone().or(answer.by);
        }
        if let Some(known) = row.record.known(&answer) {
            if self.is_same_answer(id, known, &answer)? {
                let note = Some(known.clone());
                let approvals = approvals(row, None);
                return Ok(Ok(PromiseOutcome { note, existing: true, approvals }));
            }
            let message =
                format!("promise `{id}` was {known} with this key: a key is for one answer");
            return Ok(Err(Error::new(ErrorKind::Conflict, message)));
        }
        if !row.is_open() && row.record.settled().is_none() {
            return Ok(Err(no_longer_waits(id, row)));
        }
        answer.settles = match row.record.judge(&answer, now) {
            Ok(settles) => settles,
            Err(refusal) => return Ok(Err(refused(id, refusal))),
        };
        let event = Event::PromiseAnswered { op: id.op, name, answer: answer.clone() };
        let appended = self.append(&id.run, &event.into())?;
        let mut after = row.record.clone();
        after.answered(&answer, (appended.seq, appended.ts));
        let approvals = approvals(row, Some(answer.verdict));
        Ok(Ok(PromiseOutcome { note: after.answers.pop(), existing: false, approvals }))
    }

    /// Whether an answer that was recorded says the same.
    fn is_same_answer(
        &self,
        id: &PromiseId,
        known: &AnswerNote,
        answer: &PromiseAnswer,
    ) -> LogResult<bool> {
        let before = Seq::new(known.seq.get().saturating_sub(1)).unwrap_or(Seq::ZERO);
        let rows = query::events(&self.connection, Some(&id.run), before, 1)?;
        let Some(Ok(Event::PromiseAnswered { answer: given, .. })) =
            rows.first().map(tidemill_eventlog::Row::event)
        else {
            return Ok(false);
        };
        Ok(given.verdict == answer.verdict
            && match (&given.value, &answer.value) {
                (Some(given), Some(value)) => given.same(value),
                (None, None) => true,
                (Some(_), None) | (None, Some(_)) => false,
            })
    }

    fn grant_token(
        &mut self,
        id: &PromiseId,
        (name, row): (OpName, &PromiseRow),
        grant: &TokenGrant,
    ) -> LogResult<Result<PromiseOutcome, Error>> {
        if let Some(settled) = row.record.settled() {
            return Ok(Err(refused(id, AnswerRefusal::Settled(settled.clone()))));
        }
        if !row.is_open() {
            return Ok(Err(no_longer_waits(id, row)));
        }
        if row.record.approval.is_some() && grant.holder.is_none() {
            let message = "a token for an approval needs a holder: say who answers with it";
            return Ok(Err(Error::invalid(message.to_owned())));
        }
        if let Some(rule) = &row.record.approval
            && let Err(refusal) = rule.check(grant.holder.as_deref())
        {
            return Ok(Err(refused(id, refusal)));
        }
        let others = row.record.tokens.iter().filter(|other| other.holder != grant.holder).count();
        if others >= TOKENS_MAX {
            let message = format!("promise `{id}` has {others} tokens, of at most {TOKENS_MAX}");
            return Ok(Err(Error::new(ErrorKind::Unavailable, message)));
        }
        let event = Event::PromiseToken { op: id.op, name, grant: grant.clone() };
        self.append(&id.run, &event.into())?;
        Ok(Ok(PromiseOutcome { note: None, existing: false, approvals: approvals(row, None) }))
    }
}

fn approvals(row: &PromiseRow, one_more: Option<Verdict>) -> usize {
    let verdicts = row.record.answers.iter().map(|answer| answer.verdict);
    verdicts.chain(one_more).filter(|verdict| *verdict == Verdict::Resolved).count()
}

fn no_such_promise(id: &PromiseId) -> Error {
    let message = format!(
        "there is no promise `{id}`: `GET /v1/promises` lists those that wait for an answer"
    );
    Error::new(ErrorKind::NotFound, message)
}

pub(crate) fn no_token(id: &PromiseId) -> Error {
    let message = format!(
        "this token does not open promise `{id}`: it has expired, was replaced, or is of another one"
    );
    Error::new(ErrorKind::Forbidden, message)
}

fn no_longer_waits(id: &PromiseId, row: &PromiseRow) -> Error {
    let why = match row.status {
        "cancelled" => "it was cancelled",
        _ => "its code went on or ended without an answer",
    };
    let run = &id.run;
    let message = format!("run `{run}` no longer waits for promise `{id}`: {why}");
    Error::new(ErrorKind::Conflict, message)
}

fn refused(id: &PromiseId, refusal: AnswerRefusal) -> Error {
    let conflict = |message: String| Error::new(ErrorKind::Conflict, message);
    match refusal {
        AnswerRefusal::Settled(won) => {
            conflict(format!("promise `{id}` was {won}: it takes no other answer"))
        }
        AnswerRefusal::TooLate(deadline) => {
            conflict(format!("promise `{id}` took answers until {deadline}"))
        }
        AnswerRefusal::TooEarly => conflict(format!("promise `{id}` has time left")),
        AnswerRefusal::Twice(before) => {
            let who = before.by.as_deref().unwrap_or("this person").to_owned();
            conflict(format!("{who} has answered promise `{id}`: {before}"))
        }
        AnswerRefusal::NotAllowed(why) => Error::new(ErrorKind::Forbidden, why),
        AnswerRefusal::TooLong(bytes) => Error::invalid(format!(
            "what is sent with an approval has {bytes} bytes, of at most 8192: keep large data in \
             your own storage and send its key"
        )),
    }
}
