//! One run as a tree.

use super::attempt::{attempt_state, step_state};
use super::{JSON_CHARS_MAX, json, millis, short};
use tidemill_model::{AttemptView, Cut, Json, OperationView, RunView, WaitsFor, terminal};

/// How much of an error's message a line shows.
pub(super) const ERROR_CHARS_MAX: usize = 200;

/// A run with its operations, and its children below them.
pub fn run(view: &RunView) -> String {
    let mut tree = Tree { text: String::new(), indent: String::new() };
    tree.line(&title(view));
    tree.run(view);
    tree.text
}

fn title(view: &RunView) -> String {
    let took = view.duration_ms.map_or_else(String::new, |ms| format!("  {}", millis(ms)));
    format!("{}  {}  {}{took}", view.id, view.workflow, view.status)
}

struct Tree {
    text: String,
    indent: String,
}

impl Tree {
    fn line(&mut self, line: &str) {
        self.text.push_str(&self.indent);
        self.text.push_str(&terminal::line(line));
        self.text.push('\n');
    }

    fn field(&mut self, name: &str, value: &str) {
        self.line(&format!("{name:<10} {value}"));
    }

    /// What belongs below a line that is already there.
    fn inside(&mut self, mark: &str, draw: impl FnOnce(&mut Tree)) {
        let before = self.indent.len();
        self.indent.push_str(mark);
        draw(self);
        self.indent.truncate(before);
    }

    fn run(&mut self, view: &RunView) {
        let more = !view.operations.is_empty();
        self.inside(if more { "│  " } else { "   " }, |tree| {
            tree.field("created", &view.created_at.to_string());
            if view.attempt > 1 {
                let epoch = view.epoch.map_or_else(String::new, |e| format!(", now in epoch {e}"));
                tree.field("run by", &format!("{} processes{epoch}", view.attempt));
            }
            if !view.labels.is_empty() {
                let labels: Vec<String> =
                    view.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
                tree.field("labels", &labels.join(" "));
            }
            if let Some(status) = &view.custom_status {
                tree.field("says", &json(status));
            }
            tree.field("input", &json(&view.input));
            if let Some(output) = &view.output {
                tree.field("output", &json(output));
            }
            if let Some(error) = &view.error {
                tree.field("error", &short(&error.message, ERROR_CHARS_MAX));
            }
            if let Some(WaitsFor { run, reason }) = &view.waits_for {
                tree.field("waits for", &format!("{run}, which is blocked: {}", reason.why()));
            }
            if let Some(blocked) = &view.blocked {
                tree.field("blocked", &blocked.why());
                tree.field("advice", &blocked.advice);
            }
        });
        let last = view.operations.len().saturating_sub(1);
        for (index, op) in view.operations.iter().enumerate() {
            let (branch, below) =
                if index == last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            self.inside(branch, |tree| tree.line(&op_title(op)));
            self.inside(below, |tree| tree.op(op));
        }
    }

    fn op(&mut self, op: &OperationView) {
        if let Some(child) = &op.child_run {
            self.run(child);
            return;
        }
        self.inside("   ", |tree| {
            if op.attempts.len() > 1 {
                for attempt in &op.attempts {
                    tree.line(&attempt_line(attempt));
                }
            }
            if let Some(last) = payload(&op.last_checkpoint, &op.cut.last_checkpoint) {
                let noun = if op.checkpoints == 1 { "checkpoint" } else { "checkpoints" };
                tree.line(&format!("{} {noun}, the last {last}", op.checkpoints));
            }
            let output = payload(&op.output, &op.cut.output);
            if let Some(output) = output.filter(|output| output != "null") {
                tree.field("output", &output);
            }
            if let Some(error) = &op.error {
                tree.field("error", &short(&error.message, ERROR_CHARS_MAX));
            }
        });
    }
}

/// A value on a line, of which less is shown than any list has.
fn payload(value: &Option<Json>, cut: &Option<Cut>) -> Option<String> {
    let whole = value.as_ref().map(json);
    whole.or_else(|| cut.as_ref().map(|cut| short(&cut.head, JSON_CHARS_MAX)))
}

fn op_title(op: &OperationView) -> String {
    let took = op.duration_ms.map_or_else(String::new, |ms| format!("  {}", millis(ms)));
    let (id, kind, name, status) = (op.op, &op.kind, &op.name, &op.status);
    match (&op.child, &op.fire_at) {
        (Some(child), _) => {
            let run = op.child_run.as_ref();
            let status = run.map_or_else(|| status.to_string(), |run| run.status.to_string());
            let held = if op.held { "  ended, held" } else { "" };
            format!("{id} child {name} → {child}  {status}{held}{took}")
        }
        (None, Some(_)) if op.held => format!("{id} timer {name}  fired, held"),
        (None, Some(at)) if op.status == "open" => format!("{id} timer {name}  waits until {at}"),
        _ => match op.attempts.last().filter(|_| op.status == "open") {
            Some(newest) => format!("{id} {kind} {name}  {}", step_state(newest)),
            None => format!("{id} {kind} {name}  {status}{took}"),
        },
    }
}

fn attempt_line(attempt: &AttemptView) -> String {
    format!("attempt {}  {}", attempt.number, attempt_state(attempt))
}
