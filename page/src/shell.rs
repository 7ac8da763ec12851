//! What every page has around its content: the document, the moment that it shows, the ways on.

use maud::{DOCTYPE, Markup, html};

use crate::assets;
use crate::guard::SIGN_OUT;
use crate::site::{Past, Shown, Site, Viewer};
use crate::words;

/// The tabs of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tab {
    /// What the source shows first.
    Overview,
    /// The list of runs, and each of them.
    Runs,
    /// What waits for an answer.
    Promises,
    /// SQL.
    Sql,
    /// Two runs beside each other.
    Compare,
}

/// A page of a source.
///
/// `rest` is the address without the base and the moment, so that the same view can be shown at
/// another moment.
pub fn page(site: &Site, title: &str, tab: Tab, rest: &str, content: &Markup) -> Markup {
    let body = html! {
        (header(site, tab))
        @if let Shown::Past(past) = &site.shown { (moment(site, past, rest)) }
        main id="content" { (content) }
    };
    document(&format!("{title} · {} · Tidemill", site.name), &site.viewer, &body)
}

/// A page that is of no source: the fleet, the sign-in, an error.
pub fn plain(title: &str, viewer: &Viewer, content: &Markup) -> Markup {
    let body = html! {
        header { nav aria-label="Tidemill" { a.brand href="/" { (assets::mark()) "Tidemill" } } }
        main id="content" { (content) }
    };
    document(&format!("{title} · Tidemill"), viewer, &body)
}

/// A page that leads nowhere: for who may see nothing else.
pub(crate) fn alone(title: &str, content: &Markup) -> Markup {
    let body = html! {
        header { span.brand { (assets::mark()) "Tidemill" } }
        main id="content" { (content) }
    };
    document(&format!("{title} · Tidemill"), &Viewer::default(), &body)
}

fn document(title: &str, viewer: &Viewer, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                link rel="icon" href=(assets::MARK.address()) type="image/svg+xml";
                link rel="stylesheet" href=(assets::STYLE.address());
                script src=(assets::SCRIPT.address()) defer {}
            }
            body {
                a.skip href="#content" { "Skip to the content" }
                (body)
                footer {
                    p {
                        "Times are UTC. "
                        kbd { "/" } " searches, " kbd { "j" } " and " kbd { "k" }
                        " go through a list, " kbd { "Enter" } " opens."
                    }
                    @if let Some(session) = &viewer.session {
                        form method="post" action=(SIGN_OUT) {
                            input type="hidden" name="form_token" value=(session);
                            button.link { "Sign out" }
                        }
                    }
                }
            }
        }
    }
}

fn header(site: &Site, tab: Tab) -> Markup {
    let home = if site.observer.is_some() { "/".to_owned() } else { site.at(&[]) };
    let link = |this: Tab, address: String, words: &str| {
        html! { a href=(address) aria-current=[(this == tab).then_some("page")] { (words) } }
    };
    html! {
        header {
            nav aria-label="Tidemill" {
                a.brand href=(home) { (assets::mark()) "Tidemill" }
                @match site.observer.as_ref().and_then(|links| links.node.as_ref()) {
                    Some(node) => { a.source href=(node) { (site.name) } }
                    None => { a.source href=(site.at(&[])) { (site.name) } }
                }
            }
            nav.tabs aria-label="Views" {
                @if site.observer.is_none() { (link(Tab::Overview, site.at(&[]), "Overview")) }
                (link(Tab::Runs, site.at(&["runs"]), "Runs"))
                (link(Tab::Promises, site.at(&["promises"]), "Inbox"))
                (link(Tab::Compare, site.at(&["compare"]), "Compare"))
                @if matches!(site.shown, Shown::Past(_)) { (link(Tab::Sql, site.at(&["sql"]), "SQL")) }
                @if site.shown == Shown::Live { span.live { "live" } }
            }
        }
    }
}

/// The moment that the page shows, and the ways to another.
fn moment(site: &Site, past: &Past, rest: &str) -> Markup {
    let to = |moment: &Option<String>| site.moved(moment.as_ref()?, rest);
    let exact = format!("e{}:{}", past.epoch, past.txid);
    let is_latest = past.asked == "latest";
    html! {
        div.moment role="status" {
            span {
                "Shows " strong { (site.name) }
                @if is_latest { " as the bucket has it now: " } @else { " as it was: " }
                @match past.whole_until {
                    Some(until) => { "all that it had done by " (words::time(until)) " (" (words::ago(until, site.now)) ") · " }
                    None => { "all that was in the bucket by " (words::time(past.at)) " (" (words::ago(past.at, site.now)) ") · " }
                }
                @match site.moved(&exact, rest) {
                    Some(address) => { a href=(address) title="an address that always shows this point" { code { (exact) } } }
                    None => { code { (exact) } }
                }
            }
            span.ways {
                @if let Some(earlier) = to(&past.earlier) { a href=(earlier) rel="prev" { "← earlier" } }
                @if let Some(later) = to(&past.later) { a href=(later) rel="next" { "later →" } }
                @if let Some(latest) = site.moved("latest", rest).filter(|_| !is_latest) { a href=(latest) { "latest" } }
                @if let Some(live) = site.observer.as_ref().and_then(|links| links.live.as_ref()) { a href=(format!("{live}{rest}")) { "live" } }
            }
            @if let Some(unknown) = &past.unknown { p.warn { (unknown) } }
        }
    }
}

/// A page that says what went wrong and what to do.
pub fn error_page(heading: &str, message: &str, viewer: &Viewer) -> Markup {
    let content = html! {
        h1 { (heading) }
        p.error { (message) }
        p { a href="/" { "To the beginning" } }
    };
    plain(heading, viewer, &content)
}
