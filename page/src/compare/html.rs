//! The comparison as a page.

use maud::{Markup, html};

use super::{
    ComparePage, CompareQuery, ComparedRun, EventPair, EventShown, Fields, OpOfSide, OpPair, What,
};
use crate::site::{Shown, Site};
use crate::words;

impl ComparePage {
    /// What asks for two runs.
    pub fn form(site: &Site) -> Markup {
        asking(site, &CompareQuery::default())
    }

    /// The content of the page, of two runs of one source.
    pub fn html(&self, site: &Site) -> Markup {
        self.html_of(site, site)
    }

    /// The content of the page, of a run of one source and one of another, such as the same node at
    /// two moments.
    pub fn html_of(&self, a: &Site, b: &Site) -> Markup {
        let asked = CompareQuery {
            a: Some(self.a.run.clone()),
            b: Some(self.b.run.clone()),
            a_seq: self.a.seq,
            b_seq: self.b.seq,
        };
        html! {
            h1 { "Compare" }
            @if a.base == b.base { (form(a, &asked)) }
            div.scroll {
                table {
                    thead { tr { th {} th { "A" } th { "B" } } }
                    tbody { (self.heads(a, b)) }
                }
            }
            (self.beginning(a, b))
            (fields("Inputs", &self.input))
            (fields("Outputs", &self.output))
            (self.operations_table(a, b))
        }
    }

    fn heads(&self, a: &Site, b: &Site) -> Markup {
        let took = |head: &ComparedRun| head.duration_ms.map(words::duration).unwrap_or_default();
        let moment = |site: &Site| match &site.shown {
            Shown::Live => "live".to_owned(),
            Shown::Past(past) => past.asked.clone(),
        };
        let (x, y) = (&self.a, &self.b);
        html! {
            (line("run", x.run != y.run, &run(a, x), &run(b, y)))
            @if a.base != b.base { (line("moment", true, &html! { (moment(a)) }, &html! { (moment(b)) })) }
            (line("workflow", x.workflow != y.workflow, &html! { (x.workflow) }, &html! { (y.workflow) }))
            (line("status", x.status != y.status, &words::status(x.status), &words::status(y.status)))
            (line("started", false, &words::time(x.started), &words::time(y.started)))
            (line("took", false, &html! { (took(x)) }, &html! { (took(y)) }))
            (line("inputs and acts", x.events != y.events,
                &html! { (words::thousands(x.events)) }, &html! { (words::thousands(y.events)) }))
        }
    }

    /// Where both histories part.
    fn beginning(&self, a: &Site, b: &Site) -> Markup {
        let alike = words::count(self.same_events, "event");
        html! {
            h2 { "Histories" }
            @match &self.divergence {
                None => { p { "Both are the same to their ends: " (alike) "." } }
                Some(divergence) => {
                    p { "The same for " b { (alike) } ". " (divergent(divergence)) }
                    (pair(divergence, (a, &self.a), (b, &self.b)))
                }
            }
            @if let Some(payload) = &self.payload {
                p { "The first payload that differs is that of event " b { (payload.position) } "." }
                (pair(payload, (a, &self.a), (b, &self.b)))
            }
        }
    }

    fn operations_table(&self, a: &Site, b: &Site) -> Markup {
        let all = &self.operations;
        let count = |n: usize| words::thousands(u64::try_from(n).unwrap_or(u64::MAX));
        html! {
            h2 {
                "Operations " small {
                    (count(all.differing)) " differ, " (count(all.same)) " are the same"
                    @if all.left_out > 0 { ", " (count(all.left_out)) " of all are not shown" }
                }
            }
            @if !all.rows.is_empty() {
                div.scroll {
                    table {
                        thead { tr { th.n { "op" } th { "differs in" } th { "A" } th { "B" } } }
                        tbody {
                            @for row in &all.rows {
                                tr.differs[!row.differs.is_empty()] {
                                    td.n { (row.op) }
                                    td { (differs(row)) }
                                    td { (side(a, &self.a, row, row.a.as_ref())) }
                                    td { (side(b, &self.b, row, row.b.as_ref())) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

pub(super) fn asking(site: &Site, asked: &CompareQuery) -> Markup {
    html! {
        h1 { "Compare two runs" }
        p.soft { "From which event on their histories differ, and what differs in them." }
        (form(site, asked))
    }
}

fn form(site: &Site, asked: &CompareQuery) -> Markup {
    html! {
        form.filters action=(site.at(&["compare"])) {
            label { "run A" input name="a" required value=[asked.a.as_ref()]; }
            label { "run B" input name="b" required value=[asked.b.as_ref()]; }
            label { "A up to event" input name="a_seq" inputmode="numeric" size="9" placeholder="all" value=[asked.a_seq]; }
            label { "B up to event" input name="b_seq" inputmode="numeric" size="9" placeholder="all" value=[asked.b_seq]; }
            button.main { "Compare" }
        }
    }
}

fn line(what: &str, differs: bool, a: &Markup, b: &Markup) -> Markup {
    html! { tr.differs[differs] { th scope="row" { (what) } td { (a) } td { (b) } } }
}

fn run(site: &Site, head: &ComparedRun) -> Markup {
    html! {
        a href=(site.run(head.run.as_str())) { (head.run) }
        @if let Some(seq) = head.seq { " up to event " (seq) }
    }
}

fn divergent(pair: &EventPair) -> &'static str {
    match (pair.what, &pair.a) {
        (What::End, None) => "There A ends, and B goes on.",
        (What::End, Some(_)) => "There B ends, and A goes on.",
        (What::Kind, _) => "Then another thing happens.",
        (What::Op, _) => "Then another operation follows.",
        (What::Name, _) => "Then an operation has another name.",
        (What::Payload, _) => "Then an operation is given something else.",
    }
}

fn pair(pair: &EventPair, a: (&Site, &ComparedRun), b: (&Site, &ComparedRun)) -> Markup {
    html! {
        div.pair {
            @for ((site, head), event, side) in [(a, &pair.a, "A"), (b, &pair.b, "B")] {
                @match event {
                    Some(event) => (shown(site, head, event, side)),
                    None => div.card { h3 { (side) } p.soft { "has no further event" } },
                }
            }
        }
    }
}

fn shown(site: &Site, head: &ComparedRun, event: &EventShown, side: &str) -> Markup {
    let bytes = u64::try_from(event.bytes).unwrap_or(u64::MAX);
    html! {
        div.card {
            h3 { (side) " · event " (event.seq) " · " (words::time(event.ts)) }
            p {
                code { (event.kind) } " "
                @if let Some(op) = event.op {
                    a href=(operation(site, head, op)) {
                        @if let Some(name) = &event.name { (name) " " } (op)
                    }
                } @else if let Some(name) = &event.name { (name) }
                " " small.soft { (words::bytes(bytes)) }
            }
            @if let Some(data) = &event.data { pre { (data) } }
        }
    }
}

fn operation(site: &Site, head: &ComparedRun, op: u32) -> String {
    site.at(&["runs", head.run.as_str(), "operations", &op.to_string()])
}

fn fields(heading: &str, fields: &Fields) -> Markup {
    let value = |value: &Option<String>| {
        html! { @match value { Some(text) => code { (text) }, None => span.soft { "–" } } }
    };
    html! {
        h2 {
            (heading) " "
            small {
                @match (fields.differing, fields.same) {
                    (0, 0) => "none",
                    (0, _) => "the same",
                    (1, _) => "1 field differs",
                    (n, _) => { (n) " fields differ" }
                }
                @if fields.left_out > 0 { ", " (fields.left_out) " fields are not shown" }
            }
        }
        @if !fields.fields.is_empty() {
            div.scroll {
                table {
                    thead { tr { th { "field" } th { "A" } th { "B" } } }
                    tbody {
                        @for field in &fields.fields {
                            tr.differs[field.differs] {
                                th scope="row" { @if field.path.is_empty() { "all of it" } @else { (field.path) } }
                                td { (value(&field.a)) }
                                td { (value(&field.b)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn differs(row: &OpPair) -> String {
    match (&row.a, &row.b) {
        (None, _) => "only in B".to_owned(),
        (_, None) => "only in A".to_owned(),
        (Some(_), Some(_)) => row.differs.join(", "),
    }
}

fn side(site: &Site, head: &ComparedRun, row: &OpPair, op: Option<&OpOfSide>) -> Markup {
    let Some(op) = op else { return html! { "–" } };
    let has = |what: &str| row.differs.iter().any(|differs| differs == what);
    // One value a row: a list is read for what to open.
    let value = match (has("input"), has("output")) {
        (true, _) => op.input.as_ref(),
        (false, true) => op.output.as_ref(),
        (false, false) => None,
    };
    let took = op.duration_ms.map(|ms| format!(" in {}", words::duration(ms))).unwrap_or_default();
    html! {
        a href=(operation(site, head, row.op)) { (op.kind) " " (op.name.as_deref().unwrap_or_default()) }
        " " (op.status) (took)
        @if let Some(value) = value { " " code { (value) } }
    }
}
