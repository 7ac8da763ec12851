//! A run in one HTML file: it loads nothing, runs nothing, and stays readable wherever it is sent.

use maud::{DOCTYPE, Markup, PreEscaped, html};
use rusqlite::Connection;
use tidemill_eventlog::Result;

use crate::assets;
use crate::run::{EventsPage, EventsParams, RunPage};
use crate::site::{Shown, Site, Viewer};
use crate::words;

/// Operations that are in the file; of a longer run the first.
pub(crate) const ROWS: usize = 2_000;

/// The file of a run. Links lead nowhere outside of it, so there are none; and it is sent to others,
/// so nothing in it says who took it: a form's token stays here.
pub(crate) fn run(connection: &Connection, page: &RunPage, site: &Site) -> Result<Markup> {
    let alone = Site { observer: None, viewer: Viewer::default(), ..site.clone() };
    let events = EventsPage::read(connection, &page.run.id, &EventsParams::default())?;
    let body = page.html(&alone).into_string();
    let events = events.map(|events| events.html(&alone).into_string()).unwrap_or_default();
    let when = match &site.shown {
        Shown::Live => format!("as it was at {}", words::clock(site.now)),
        Shown::Past(past) => {
            format!("at e{}:{}, in the bucket by {}", past.epoch, past.txid, words::clock(past.at))
        }
    };
    let policy = "default-src 'none'; style-src 'unsafe-inline'";
    Ok(html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta http-equiv="Content-Security-Policy" content=(policy);
                title { (page.run.id) " · Tidemill" }
                style { (PreEscaped(assets::STYLE.content)) "nav, form, button { display: none !important; }" }
            }
            body { main {
                p.soft { "Run " b { (page.run.id) } " of " (site.name) ", " (when) ". All that the file has of it is here: it loads nothing." }
                (PreEscaped(without_links(&body)))
                (PreEscaped(without_links(&events)))
            } }
        }
    })
}

/// The markup with its links turned into text. It is our own: every `<a` in it is a tag, because
/// what came from a run has its `<` escaped.
fn without_links(markup: &str) -> String {
    let mut text = String::with_capacity(markup.len());
    let mut rest = markup;
    while let Some(at) = rest.find("<a ") {
        text.push_str(&rest[..at]);
        let end = end_of_tag(&rest[at..]);
        text.push_str("<span>");
        rest = &rest[at + end..];
    }
    text.push_str(rest);
    text.replace("</a>", "</span>")
}

/// Where a tag ends, past its attributes: a value in quotes may hold a `>`.
fn end_of_tag(tag: &str) -> usize {
    let mut quoted = false;
    for (at, c) in tag.char_indices() {
        match c {
            '"' => quoted = !quoted,
            '>' if !quoted => return at + 1,
            _ => {}
        }
    }
    tag.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_become_text_and_nothing_else_changes() {
        let markup = html! { p { a href="/x?a=1>2" title="a > b" { "one" } " &lt;a href " code { "<a href>" } } };
        assert_eq!(
            without_links(&markup.into_string()),
            "<p><span>one</span> &amp;lt;a href <code>&lt;a href&gt;</code></p>"
        );
    }
}
