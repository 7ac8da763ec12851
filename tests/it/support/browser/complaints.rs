//! What pages complain of, ask and load: errors of scripts, what a content policy stopped, dialogs
//! and requests.

use std::sync::{Arc, Mutex, PoisonError};

use chromiumoxide::Page;
use chromiumoxide::cdp::IntoEventKind;
use chromiumoxide::cdp::browser_protocol::log::{EventEntryAdded, LogEntryLevel};
use chromiumoxide::cdp::browser_protocol::network::EventRequestWillBeSent;
use chromiumoxide::cdp::browser_protocol::page::{
    EventJavascriptDialogOpening, HandleJavaScriptDialogParams,
};
use chromiumoxide::cdp::js_protocol::runtime::{
    ConsoleApiCalledType, EventConsoleApiCalled, EventExceptionThrown,
};
use futures_util::StreamExt;

type List = Arc<Mutex<Vec<String>>>;

/// Lists that grow while a page lives.
#[derive(Default)]
pub(super) struct Complaints {
    complaints: List,
    requests: List,
    questions: List,
}

impl Complaints {
    /// Listens to a page; every question of it is answered with yes.
    pub(super) async fn of(page: &Page) -> Self {
        let lists = Self::default();
        page.enable_log().await.expect("hear its log");
        note(page, &lists.complaints, |event: &EventEntryAdded| {
            let entry = &event.entry;
            let is_bad = matches!(entry.level, LogEntryLevel::Error | LogEntryLevel::Warning);
            let of = entry.url.as_deref().unwrap_or_default();
            is_bad.then(|| format!("{:?}: {} ({of})", entry.source, entry.text))
        })
        .await;
        note(page, &lists.complaints, |event: &EventConsoleApiCalled| {
            use ConsoleApiCalledType::{Assert, Error, Warning};
            let is_bad = matches!(event.r#type, Error | Warning | Assert);
            is_bad.then(|| format!("{:?}: {:?}", event.r#type, event.args))
        })
        .await;
        note(page, &lists.complaints, |event: &EventExceptionThrown| {
            Some(format!("exception: {:?}", event.exception_details))
        })
        .await;
        note(page, &lists.requests, |event: &EventRequestWillBeSent| {
            Some(event.request.url.clone())
        })
        .await;
        lists.answer(page).await;
        lists
    }

    async fn answer(&self, page: &Page) {
        let mut asked =
            page.event_listener::<EventJavascriptDialogOpening>().await.expect("hear its dialogs");
        let (page, questions) = (page.clone(), Arc::clone(&self.questions));
        // Ends with the page, whose events end then.
        tokio::spawn(async move {
            while let Some(question) = asked.next().await {
                push(&questions, question.message.clone());
                let yes = HandleJavaScriptDialogParams::new(true);
                if page.execute(yes).await.is_err() {
                    return;
                }
            }
        });
    }

    /// The complaints since this was asked last.
    pub(super) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.complaints.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn questions(&self) -> Vec<String> {
        self.questions.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Writes down what `line` makes of each event of a kind, until the page is closed.
async fn note<E: IntoEventKind + Unpin + Send + Sync + 'static>(
    page: &Page,
    to: &List,
    line: impl Fn(&E) -> Option<String> + Send + 'static,
) {
    let mut events = page.event_listener::<E>().await.expect("hear its events");
    let to = Arc::clone(to);
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            if let Some(line) = line(&event) {
                push(&to, line);
            }
        }
    });
}

fn push(list: &List, line: String) {
    list.lock().unwrap_or_else(PoisonError::into_inner).push(line);
}
