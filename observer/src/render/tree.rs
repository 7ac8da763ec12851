//! One run as a tree.

use super::attempt::{attempt_state, step_state};
use super::columns::columns;
use super::fold::{Fold, Shown};
use super::screen::{Colour, Screen};
use super::{JSON_CHARS_MAX, duration, json, short};
use crate::show::DEPTH_MAX;
use tidemill_model::{
    AttemptView, CancelView, Cut, ForkedView, Json, OperationView, Parent, PromiseAsked, Requester,
    RunView, Timestamp, WaitsFor, terminal,
};

/// How much of an error's message a line shows.
pub(super) const ERROR_CHARS_MAX: usize = 200;

/// A run with its operations, and its children below them.
pub fn run(view: &RunView, fold: &Fold, screen: Screen) -> String {
    let (text, indent) = (String::new(), String::new());
    let mut tree = Tree { text, indent, fold, screen, depth: 0 };
    tree.title(&run_title(view));
    tree.run(view);
    tree.text
}

/// The line of a run or an operation: what it is, how it is, and how long it took.
struct Title {
    what: String,
    state: String,
    colour: Option<Colour>,
    took: String,
}

fn run_title(view: &RunView) -> Title {
    Title {
        what: format!("{}  {}", view.id, view.workflow),
        state: view.status.to_string(),
        colour: Colour::of_run(view.status),
        took: took(view.created_at, view.ended_at),
    }
}

/// The time from the one to the other, after a gap.
fn took(from: Timestamp, to: Option<Timestamp>) -> String {
    to.map_or_else(String::new, |to| format!("  {}", duration(to.since(from))))
}

struct Tree<'a> {
    text: String,
    indent: String,
    fold: &'a Fold,
    screen: Screen,
    depth: u32,
}

impl Tree<'_> {
    fn line(&mut self, line: &str) {
        self.text.push_str(&self.indent);
        self.text.push_str(&terminal::line(line));
        self.text.push('\n');
    }

    fn title(&mut self, title: &Title) {
        self.text.push_str(&self.indent);
        self.text.push_str(&terminal::line(&title.what));
        self.text.push_str("  ");
        self.text.push_str(&self.screen.paint(&terminal::line(&title.state), title.colour));
        self.text.push_str(&title.took);
        self.text.push('\n');
    }

    /// A line that loses its end where the terminal has no room for it.
    fn cut_line(&mut self, line: &str) {
        let before = columns(&self.indent);
        let line = self.screen.cut(&terminal::line(line), before).into_owned();
        self.line(&line);
    }

    fn field(&mut self, name: &str, value: &str) {
        self.line(&format!("{name:<10} {value}"));
    }

    fn value(&mut self, name: &str, value: &Json) {
        match self.is_whole() {
            true => self.field(name, value.as_str()),
            false => self.cut_line(&format!("{name:<10} {}", json(value))),
        }
    }

    /// Whether values are shown whole: of the operation that was asked for.
    fn is_whole(&self) -> bool {
        matches!(self.fold, Fold::Operation(_)) && self.depth == 0
    }

    /// Draws what belongs below a line that is already there.
    fn inside(&mut self, mark: &str, draw: impl FnOnce(&mut Self)) {
        let before = self.indent.len();
        self.indent.push_str(mark);
        draw(self);
        self.indent.truncate(before);
    }

    fn run(&mut self, view: &RunView) {
        let more = !view.operations.is_empty();
        self.inside(if more { "│  " } else { "   " }, |tree| tree.facts(view));
        let lines = self.fold.lines(&view.operations);
        let last = lines.len().saturating_sub(1);
        for (index, line) in lines.iter().enumerate() {
            let (branch, below) =
                if index == last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            match line {
                Shown::Folded(said) => self.inside(branch, |tree| tree.line(said)),
                Shown::Operation(op) => {
                    self.inside(branch, |tree| tree.title(&op_title(op)));
                    self.inside(below, |tree| tree.op(op));
                }
            }
        }
    }

    fn facts(&mut self, view: &RunView) {
        let by = view.by.as_ref().map_or_else(String::new, |by| format!(" by {by}"));
        self.field("created", &format!("{}{}", view.created_at, short(&by, ERROR_CHARS_MAX)));
        if let Some(deadline) = view.deadline.filter(|_| !view.status.is_final()) {
            self.field("deadline", &deadline.to_string());
        }
        if view.attempt > 1 {
            let epoch = view.epoch.map_or_else(String::new, |e| format!(", now in epoch {e}"));
            self.field("run by", &format!("{} processes{epoch}", view.attempt));
        }
        if !view.labels.is_empty() {
            let labels: Vec<String> =
                view.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
            self.cut_line(&format!("{:<10} {}", "labels", labels.join(" ")));
        }
        if let Some(Parent { run, op }) = &view.spawned_by {
            self.field("spawned by", &format!("{run}, operation {op}: it is on its own"));
        }
        if let Some(Parent { run, .. }) = view.parent.as_ref().filter(|_| view.outlives_parent) {
            self.field("outlives", &format!("{run}, which started it"));
        }
        if let Some(ForkedView { from, seq, requester, origin, .. }) = &view.forked {
            let by = requester.as_ref().map_or_else(String::new, Requester::to_string);
            let by = short(&by, ERROR_CHARS_MAX);
            let of = origin.as_ref().map_or_else(String::new, |origin| format!(" of {origin}"));
            self.field("forked", &format!("from {from}{of}, before its event {seq}{by}"));
        }
        if let Some(status) = &view.custom_status {
            self.cut_line(&format!("{:<10} {}", "says", json(status)));
        }
        self.cut_line(&format!("{:<10} {}", "input", json(&view.input)));
        if let Some(output) = &view.output {
            self.cut_line(&format!("{:<10} {}", "output", json(output)));
        }
        if let Some(error) = &view.error {
            self.field("error", &short(&error.message, ERROR_CHARS_MAX));
        }
        self.asked(view);
        self.signals(view);
        if let Some(WaitsFor { run, reason }) = &view.waits_for {
            self.field("waits for", &format!("{run}, which is blocked: {}", reason.why()));
        }
        if let Some(blocked) = &view.blocked {
            self.field("blocked", &blocked.why());
            self.field("advice", &blocked.advice);
        }
    }

    /// Who asked it to end or paused it, and why.
    fn asked(&mut self, view: &RunView) {
        let by = |requester: &Requester| short(&requester.to_string(), ERROR_CHARS_MAX);
        if let Some(CancelView { requester, at, observed, terminated }) = &view.cancel {
            self.field("asked", &format!("to end at {at}{}", by(requester)));
            if !view.status.is_final() && !observed {
                self.field("", "its code has not been told yet");
            }
            if *terminated {
                self.field("ended", "without its code");
            }
        }
        if let Some(requester) = &view.paused {
            self.field("paused", by(requester).trim_start_matches([' ', ':']));
        }
    }

    /// The signals that it keeps: how many of each name.
    fn signals(&mut self, view: &RunView) {
        let mut names = std::collections::BTreeMap::<&str, usize>::new();
        for signal in &view.signals {
            *names.entry(signal.name.as_str()).or_default() += 1;
        }
        for (name, count) in names {
            let noun = if count == 1 { "signal" } else { "signals" };
            self.field("keeps", &format!("{count} {noun} `{name}` that its code has not taken"));
        }
    }

    fn op(&mut self, op: &OperationView) {
        if let Some(child) = &op.child_run {
            self.depth += 1;
            self.run(child);
            self.depth -= 1;
            return;
        }
        self.inside("   ", |tree| {
            if let Some(child) = op.child.as_ref().filter(|_| tree.depth >= DEPTH_MAX) {
                tree.line(&format!("… `tidemill show {child}` goes on below it"));
            }
            if let Some(input) = op.input.as_ref().filter(|_| tree.is_whole()) {
                tree.value("input", input);
            }
            if op.attempts.len() > 1 || tree.is_whole() {
                for attempt in &op.attempts {
                    tree.line(&attempt_line(attempt));
                }
            }
            if let Some(asked) =
                op.promise.as_ref().filter(|_| tree.is_whole() || op.status == "open")
            {
                tree.promise(asked);
            }
            tree.recorded(op);
        });
    }

    /// What an open promise asks, of whom, and what it was answered so far.
    fn promise(&mut self, asked: &PromiseAsked) {
        if let Some(message) = &asked.message {
            match self.is_whole() {
                true => self.field("asks", message),
                false => self.cut_line(&format!("{:<10} {message}", "asks")),
            }
        }
        if let Some(rule) = &asked.approval {
            let of = if rule.of.is_empty() { "anybody".to_owned() } else { rule.of.join(", ") };
            let not = rule.not_by.as_ref();
            let not =
                not.map_or_else(String::new, |not| format!("; not {not}, who started the run"));
            self.field("needs", &format!("{} of {of}{not}", rule.needs));
        }
        for answer in &asked.answers {
            self.field("answered", &answer.to_string());
        }
        if let Some(deadline) = asked.deadline {
            self.field("until", &deadline.to_string());
        }
    }

    /// What an operation recorded of its progress and its end.
    fn recorded(&mut self, op: &OperationView) {
        let noun = if op.checkpoints == 1 { "checkpoint" } else { "checkpoints" };
        let checkpoints = format!("{} {noun}, the last", op.checkpoints);
        if let (true, Some(last)) = (self.is_whole(), &op.last_checkpoint) {
            self.line(&format!("{checkpoints} {}", last.as_str()));
        } else if let Some(last) = payload(&op.last_checkpoint, &op.cut.last_checkpoint) {
            self.cut_line(&format!("{checkpoints} {last}"));
        }
        if let (true, Some(output)) = (self.is_whole(), &op.output) {
            self.value("output", output);
        } else if let Some(output) =
            payload(&op.output, &op.cut.output).filter(|output| output != "null")
        {
            self.cut_line(&format!("{:<10} {output}", "output"));
        }
        if let Some(error) = &op.error {
            match self.is_whole() {
                true => self.field("error", &error.message),
                false => self.field("error", &short(&error.message, ERROR_CHARS_MAX)),
            }
            let causes = if self.is_whole() { &error.chain[..] } else { &[] };
            for cause in causes {
                self.field("because", cause);
            }
        }
    }
}

/// The beginning of a value, for a line. A list cuts values, too, but never this short.
fn payload(value: &Option<Json>, cut: &Option<Cut>) -> Option<String> {
    let whole = value.as_ref().map(json);
    whole.or_else(|| cut.as_ref().map(|cut| short(&cut.head, JSON_CHARS_MAX)))
}

fn op_title(op: &OperationView) -> Title {
    let (id, kind, status) = (op.op, &op.kind, &op.status);
    let name = match &op.spawned {
        Some(run) => format!("{} → {run}", op.name),
        None => op.name.to_string(),
    };
    let colour = Colour::of_operation(status);
    let took = took(op.started_at, op.ended_at);
    let unfinished = |what: String, state: String| Title {
        what,
        state,
        colour: Some(Colour::Busy),
        took: String::new(),
    };
    match (&op.child, &op.fire_at) {
        (Some(child), _) => {
            let run = op.child_run.as_ref();
            let state = run.map_or_else(|| status.to_string(), |run| run.status.to_string());
            let held = if op.held { "  ended, held" } else { "" };
            Title {
                what: format!("{id} child {name} → {child}"),
                state,
                colour: run.map_or(colour, |run| Colour::of_run(run.status)),
                took: format!("{held}{took}"),
            }
        }
        (None, Some(_)) if op.held => {
            unfinished(format!("{id} timer {name}"), "fired, held".into())
        }
        (None, Some(at)) if op.status == "open" => {
            unfinished(format!("{id} timer {name}"), format!("waits until {at}"))
        }
        _ => match op.attempts.last().filter(|_| op.status == "open") {
            Some(newest) => unfinished(format!("{id} {kind} {name}"), step_state(newest)),
            None => Title {
                what: format!("{id} {kind} {name}"),
                state: status.to_string(),
                colour,
                took,
            },
        },
    }
}

fn attempt_line(attempt: &AttemptView) -> String {
    format!("attempt {}  {}", attempt.number, attempt_state(attempt))
}
