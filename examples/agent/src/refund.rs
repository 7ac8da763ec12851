//! The tool that costs money: a person decides first.

use std::pin::pin;
use std::time::Duration;

use serde_json::{Value, json};
use tidemill::{Approval, ApprovalEnd, Ctx, StepError, select};

use crate::shop;
use crate::support::patient;
use crate::tools::{Mail, Refund, brief};

/// Up to this the agent decides alone.
const FREE_CENTS: u64 = 2_000;

const DAY: Duration = Duration::from_secs(86_400);

/// After this nobody decided, and the model has to find another way.
const DEADLINE: Duration = DAY.saturating_mul(7);

/// Those who decide are reminded so often.
const REMINDER: Duration = DAY.saturating_mul(2);

/// Refunds, if it is little or somebody approves. A refusal is an answer like any other: the model
/// reads it, and goes on from there.
///
/// # Errors
/// If the run was cancelled, or the shop is down for a long time.
pub(crate) async fn refund(ctx: &Ctx, refund: Refund) -> Result<Value, StepError> {
    if refund.cents > FREE_CENTS {
        let approval = decision(ctx, &refund).await?;
        let said =
            approval.answers.last().map(|answer| json!({"by": answer.by, "said": answer.value}));
        match approval.end {
            ApprovalEnd::Approved => {}
            ApprovalEnd::Refused => return Ok(json!({"refused": true, "why": said})),
            ApprovalEnd::Expired => return Ok(json!({"undecided": true, "after_days": 7})),
        }
    }
    ctx.step("refund", shop::refund, refund).retry(patient()).await
}

/// Waits for a decision, in no process and on no machine, and reminds those who decide.
async fn decision(ctx: &Ctx, refund: &Refund) -> Result<Approval, StepError> {
    let Refund { order, cents, reason } = refund;
    let question = format!("Refund {} of order {order}? {reason}", shop::money(*cents));
    ctx.set_status(format!("waits for approval: {question}"));
    let asked = ctx.approval("refund").message(&question).timeout(DEADLINE).start();
    let mut answer = pin!(asked);
    loop {
        select! {
            approval = &mut answer => return approval,
            time = ctx.sleep(REMINDER).named("reminder") => time?,
        }
        let reminder =
            Mail { to: "team@shop.example".to_owned(), text: format!("Still open: {question}") };
        ctx.step("remind", shop::mail, reminder).retry(brief()).await?;
    }
}
