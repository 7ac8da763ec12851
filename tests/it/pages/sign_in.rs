//! Who may look and who may act: signing in, a shared link, and pages of other origins.

use chromiumoxide::cdp::browser_protocol::network::CookieSameSite;

use serde_json::json;

use super::world::world;
use crate::support::app::Settings as AppSettings;
use crate::support::browser::Tab;
use crate::support::foreign_site::Site;
use crate::support::http::Api;
use crate::support::observing::{Observer, Settings};
use crate::support::{process, scratch, wait};

const FULL: &str = "0123456789abcdef-full";
const LOOK: &str = "0123456789abcdef-look";
/// Ready to be typed into.
const TOKEN: &str = "input[name=token]:focus";
const RESUME: &str = "button[formaction$='/resume']";

/// An observer that wants a token, and the address of a blocked run.
fn guarded() -> (Observer, String) {
    let api = world().machine.api();
    let observer = Settings::of_node(&api)
        .env("TIDEMILL_OBSERVE_TOKEN", FULL)
        .env("TIDEMILL_OBSERVE_READ_TOKEN", LOOK)
        .start();
    let run = format!("{}/runs/stuck", observer.live(&api));
    (observer, run)
}

/// Signs in on the page that an address shows instead of its own.
fn signed_in(address: &str, token: &str) -> Tab {
    let tab = Tab::at(address);
    tab.wait(TOKEN);
    tab.type_text(token);
    tab.press("Enter");
    tab.wait_text("h1", "stuck");
    let refused = tab.complaints();
    assert!(refused.iter().all(|it| it.contains("status of 401")), "{refused:#?}");
    tab
}

#[track_caller]
fn assert_still_blocked() {
    let status = world().machine.api().status("stuck");
    assert_eq!(status.as_deref(), Some("blocked"));
}

#[test]
fn who_signs_in_lands_on_the_page_that_was_asked_for() {
    let (observer, run) = guarded();
    let tab = Tab::at(&run);
    assert_eq!(tab.text("h1"), "Sign in");
    assert!(!tab.text("body").contains("stuck"), "nothing is told before");
    tab.picture("sign-in");
    tab.wait(TOKEN);
    tab.type_text("0123456789abcdef-none");
    tab.press("Enter");
    tab.wait_text("[role=alert]", "The token is wrong");
    tab.wait(TOKEN);
    tab.type_text(FULL);
    tab.click("button.main");
    tab.wait_text("h1", "stuck");
    assert_eq!(tab.address(), run);
    assert!(tab.complaints().iter().all(|it| it.contains("status of 401")));
    let cookies = tab.cookies();
    let [cookie] = cookies.as_slice() else { panic!("one cookie: {cookies:?}") };
    let port = observer.base().rsplit(':').next().expect("a port");
    assert_eq!(cookie.name, format!("tidemill_session_{port}"));
    assert!(cookie.http_only && cookie.same_site == Some(CookieSameSite::Lax), "{cookie:?}");
    assert_eq!(tab.eval::<String>("document.cookie"), "", "no script sees it");
    assert!(!cookie.value.contains("0123456789abcdef"), "it says nothing of the token");
    assert_eq!(tab.count(RESUME), 1);

    tab.click("footer button");
    tab.wait_text("h1", "Sign in");
    tab.open(&run);
    assert_eq!(tab.text("h1"), "Sign in", "the session has ended");
    assert!(tab.cookies().is_empty());
    assert!(!tab.address().contains(FULL) && tab.address().starts_with(observer.base()));
}

#[test]
fn a_token_to_look_shows_nothing_to_act_with() {
    let (_observer, run) = guarded();
    let tab = signed_in(&run, LOOK);
    assert!(tab.text("[role=alert]").contains("Blocked."));
    assert_eq!((tab.count(RESUME), tab.count("form.acts")), (0, 0));
    assert_eq!(tab.count("footer button"), 1, "it can sign out");
    let status: u16 = tab.eval(
        "fetch(location.pathname + '/resume', {method: 'POST', body: new URLSearchParams(\
         {form_token: document.querySelector('[name=form_token]').value})}).then(it => it.status)",
    );
    assert_eq!(status, 403);
    assert_still_blocked();
}

#[test]
fn a_link_on_another_site_opens_and_a_form_there_does_nothing() {
    let (_observer, run) = guarded();
    let tab = signed_in(&run, FULL);
    let token: String = tab.eval("document.querySelector('main [name=form_token]').value");

    let links =
        Site::start("default-src 'none'", &format!("<h1>chat</h1><a href='{run}'>look</a>"));
    tab.open(&links.at("/"));
    tab.click("a");
    tab.wait_text("h1", "stuck");
    assert_eq!(tab.count(RESUME), 1, "signed in as before");

    // Even with the token of the form: another port is another origin, although the same site.
    let form = format!(
        "<h1>a game</h1><form method=post action='{run}/resume'>\
         <input name=form_token value='{token}'><button>win</button></form>"
    );
    let forms = Site::start("default-src 'none'", &form);
    tab.open(&forms.at("/"));
    tab.click("button");
    tab.wait_text("body", "another origin");
    assert_still_blocked();

    tab.open(&run);
    tab.complaints();
    let post = "fetch(location.pathname + '/resume', {method: 'POST', \
                body: new URLSearchParams()}).then(it => it.status)";
    assert_eq!(tab.eval::<u16>(post), 403, "without the token of the form");
    assert_still_blocked();
}

#[test]
fn a_program_without_a_token_is_told_nothing() {
    let (observer, run) = guarded();
    let api = Api::new(observer.base());
    for path in ["/", run.strip_prefix(observer.base()).expect("it is the observer's")] {
        let reply = api.get(path).expect("it answers");
        assert_eq!(reply.status, 401, "{path}: {reply:?}");
        assert!(!reply.body.to_string().contains("stuck"), "{reply:?}");
    }
}

/// Types a token into the form that is shown.
fn sign_in(tab: &Tab, token: &str) {
    tab.wait(TOKEN);
    tab.type_text(token);
    tab.press("Enter");
}

#[test]
fn a_node_with_a_token_is_read_and_acted_on_in_a_browser_beside_its_observer() {
    let folder = scratch::folder("guarded");
    let settings = AppSettings::alone(&folder.join("workflow.db")).env("TIDEMILL_TOKEN", FULL);
    let app = settings.start();
    let (api, file) = (app.api(), folder.join("file"));
    let input = json!(file).to_string();
    let start = ["start", "wants_file", &input, "--id", "waits", "--url", api.base()];
    process::finish("start", &mut settings.command(&start)).ok();
    let run = format!("{}/runs/waits", api.base());
    let tab = Tab::at(&run);
    assert_eq!(tab.text("h1"), "Sign in");
    assert!(!tab.text("body").contains("waits"), "nothing is told before");
    sign_in(&tab, "0123456789abcdef-none");
    tab.wait_text("[role=alert]", "The token is wrong");
    sign_in(&tab, FULL);
    tab.wait_text("h1", "waits");
    assert_eq!(tab.address(), run);
    wait::until_true("the run to be blocked", wait::SOON, || {
        tab.open(&run);
        tab.count(RESUME) == 1
    });
    let read: Vec<u16> = tab.eval(
        "Promise.all(['/runs/waits/input.json', '/v1/runs/waits', '/v1/runs', '/metrics'].map(\
         path => fetch(path).then(it => it.status)))",
    );
    assert_eq!(read, [200, 401, 401, 401], "a session opens the pages and not the API");

    // The events of a run that goes on arrive by themselves.
    tab.open(&format!("{run}/events"));
    std::fs::write(&file, "").expect("write the file");
    let resume = "fetch('/runs/waits/resume', {method: 'POST', body: new URLSearchParams(\
                  {form_token: document.querySelector('footer [name=form_token]').value})})\
                  .then(it => it.status)";
    assert_eq!(tab.eval::<u16>(resume), 200, "led to the run's page");
    tab.wait_text("tbody", "run_completed");
    tab.open(&run);
    assert_eq!(tab.text("h1 .status"), "completed");

    // An observer at the same host has its own session.
    let observer = Settings::of_node(&api)
        .env("TIDEMILL_TOKEN", FULL)
        .env("TIDEMILL_OBSERVE_TOKEN", LOOK)
        .start();
    tab.open(&format!("{}/runs/waits", observer.live(&api)));
    sign_in(&tab, LOOK);
    tab.wait_text("h1", "waits");
    assert_eq!(tab.cookies().len(), 2);
    tab.open(&run);
    tab.wait_text("h1", "waits");
    tab.click("footer button");
    tab.wait_text("h1", "Sign in");
    tab.open(&format!("{}/runs/waits", observer.live(&api)));
    tab.wait_text("h1", "waits");
    tab.open(&run);
    assert_eq!(tab.text("h1"), "Sign in", "the session has ended");
    let complaints = tab.complaints();
    assert!(complaints.iter().all(|it| it.contains("status of 401")), "{complaints:#?}");
    assert!(!app.log().contains(FULL), "no token is in the log");
}
