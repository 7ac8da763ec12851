//! A real browser: one Chromium a test process, one context with its own cookies a [`Tab`].
//!
//! Chromium is `TIDEMILL_TEST_CHROMIUM`, `/usr/bin/chromium`, or `chromium` in the PATH; without it
//! a test fails. Its profile lies in the scratch folder, whose reaper ends it with the process.
//! What pages complain of is in [`complaints`]. A page is given keys and clicks as a person gives
//! them: at places on the screen, and a click on what lies under something else fails.

mod complaints;

use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use chromiumoxide::cdp::browser_protocol::browser::BrowserContextId;
use chromiumoxide::cdp::browser_protocol::emulation::{
    MediaFeature, SetDeviceMetricsOverrideParams, SetFocusEmulationEnabledParams,
};
use chromiumoxide::cdp::browser_protocol::network::{Cookie, GetCookiesParams};
use chromiumoxide::cdp::browser_protocol::page::{
    CaptureScreenshotFormat, CaptureScreenshotParams, NavigateParams, Viewport,
};
use chromiumoxide::cdp::browser_protocol::target::{
    CreateBrowserContextParams, CreateTargetParams,
};
use chromiumoxide::cdp::js_protocol::runtime::EvaluateParams;
use chromiumoxide::layout::Point;
use chromiumoxide::{Browser, BrowserConfig, Command, Page};
use futures_util::StreamExt;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::runtime::Runtime;

use self::complaints::Complaints;
use super::{scratch, tools, wait};

/// The height up to which a picture shows a page.
const PICTURE_HEIGHT_MAX: f64 = 4_000.0;

/// A window as a desk has it.
pub(crate) const DESK: (i64, i64) = (1280, 800);
/// A phone, upright.
pub(crate) const PHONE: (i64, i64) = (390, 844);

struct Started {
    browser: Browser,
    runtime: Runtime,
}

static BROWSER: LazyLock<Started> = LazyLock::new(start);

/// A page in a context of its own. Dropping it closes both.
pub(crate) struct Tab {
    page: Page,
    context: BrowserContextId,
    complaints: Complaints,
    width: f64,
}

/// Where an element is on the screen, in pixels from the upper left corner.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(crate) struct Place {
    pub(crate) x: f64,
    pub(crate) y: f64,
    pub(crate) width: f64,
    pub(crate) height: f64,
}

impl Tab {
    /// An empty page of the size of a desk's window.
    pub(crate) fn new() -> Self {
        let Started { browser, runtime } = &*BROWSER;
        let (page, context, complaints) = runtime.block_on(async {
            let context = browser.create_browser_context(CreateBrowserContextParams::default());
            let context = context.await.expect("make a browser context");
            let mut target = CreateTargetParams::new("about:blank");
            target.browser_context_id = Some(context.clone());
            let page = browser.new_page(target).await.expect("open a page");
            // Pages of other tests have the focus, too.
            let focus = SetFocusEmulationEnabledParams::new(true);
            page.execute(focus).await.expect("give it the focus");
            let complaints = Complaints::of(&page).await;
            (page, context, complaints)
        });
        let mut tab = Self { page, context, complaints, width: 0.0 };
        tab.resize(DESK);
        tab
    }

    /// [`Self::new`], with this address open.
    #[track_caller]
    pub(crate) fn at(address: &str) -> Self {
        let tab = Self::new();
        tab.open(address);
        tab
    }

    /// Another size of the window; a narrow one is a phone.
    pub(crate) fn resize(&mut self, (width, height): (i64, i64)) {
        let metrics = SetDeviceMetricsOverrideParams::new(width, height, 1.0, width < 600);
        self.run(metrics);
        self.width = f64::from(i32::try_from(width).expect("a small number"));
    }

    /// `light` or `dark`, as a person prefers it.
    pub(crate) fn prefer(&self, scheme: &str) {
        let feature = MediaFeature::new("prefers-color-scheme", scheme);
        let set = self.page.emulate_media_features(vec![feature]);
        BROWSER.runtime.block_on(set).expect("set the colour scheme");
    }

    /// Opens an address and waits until it is loaded.
    #[track_caller]
    pub(crate) fn open(&self, address: &str) {
        self.eval::<Value>("window.before = true");
        let went = self.run(NavigateParams::new(address));
        assert_eq!(went.error_text, None, "open {address}");
        self.wait_loaded();
    }

    /// Waits until another page is loaded than the one from which a click led away.
    #[track_caller]
    fn wait_loaded(&self) {
        wait::until_true("a page to be loaded", wait::SOON, || {
            self.try_eval("!window.before && document.readyState === 'complete'") == Some(true)
        });
    }

    /// The address that the browser shows.
    pub(crate) fn address(&self) -> String {
        wait::until("an address", wait::SOON, || self.try_eval("location.href"))
    }

    /// Waits until the address has this in it and its page is loaded.
    #[track_caller]
    pub(crate) fn wait_address(&self, part: &str) {
        let script = "document.readyState === 'complete' ? location.href : ''";
        let mut seen = String::new();
        wait::until_or(wait::SOON, || {
            seen = self.try_eval(script).unwrap_or_default();
            seen.contains(part).then_some(())
        })
        .unwrap_or_else(|| panic!("no {part} in the address {seen}: {}", self.shown()));
    }

    /// Waits for an element.
    #[track_caller]
    pub(crate) fn wait(&self, selector: &str) {
        let script = format!("!!document.querySelector({})", text(selector));
        wait::until_or(wait::SOON, || (self.try_eval(&script) == Some(true)).then_some(()))
            .unwrap_or_else(|| panic!("no {selector}: {}", self.shown()));
    }

    /// Waits until an element has this in its text.
    #[track_caller]
    pub(crate) fn wait_text(&self, selector: &str, part: &str) {
        let script = format!(
            "(document.querySelector({})?.innerText ?? '').includes({})",
            text(selector),
            text(part)
        );
        wait::until_or(wait::SOON, || (self.try_eval(&script) == Some(true)).then_some(()))
            .unwrap_or_else(|| panic!("no {part:?} in {selector}: {}", self.shown()));
    }

    /// What a page shows, for the message of a test that fails.
    fn shown(&self) -> String {
        self.try_eval("location.href + '\\n' + document.body.innerText").unwrap_or_default()
    }

    /// The text of the first element that fits.
    #[track_caller]
    pub(crate) fn text(&self, selector: &str) -> String {
        self.wait(selector);
        self.eval(&format!("document.querySelector({}).innerText", text(selector)))
    }

    /// The texts of all that fit.
    #[track_caller]
    pub(crate) fn texts(&self, selector: &str) -> Vec<String> {
        let all = format!("document.querySelectorAll({})", text(selector));
        self.eval(&format!("[...{all}].map(it => it.innerText.trim())"))
    }

    /// How many elements fit.
    #[track_caller]
    pub(crate) fn count(&self, selector: &str) -> usize {
        self.eval(&format!("document.querySelectorAll({}).length", text(selector)))
    }

    /// Where the first element that fits is, without scrolling.
    #[track_caller]
    pub(crate) fn place(&self, selector: &str) -> Place {
        self.wait(selector);
        self.eval(&format!(
            "(({{x, y, width, height}}) => ({{x, y, width, height}}))\
             (document.querySelector({}).getBoundingClientRect())",
            text(selector)
        ))
    }

    /// Scrolls to an element and clicks into its middle.
    #[track_caller]
    pub(crate) fn click(&self, selector: &str) {
        self.wait(selector);
        let place: Option<(f64, f64)> = self.eval(&format!(
            "(it => {{ it.scrollIntoView({{block: 'center'}}); \
             const box = it.getClientRects()[0]; \
             const [x, y] = [box.x + box.width / 2, box.y + box.height / 2]; \
             const top = document.elementFromPoint(x, y); \
             return it === top || it.contains(top) ? [x, y] : null; }})\
             (document.querySelector({}))",
            text(selector)
        ));
        let place = place.unwrap_or_else(|| panic!("something lies over {selector}"));
        self.click_at(place);
    }

    /// Clicks on what leads to another page, and waits until that is loaded.
    #[track_caller]
    pub(crate) fn follow(&self, selector: &str) {
        self.eval::<Value>("window.before = true");
        self.click(selector);
        self.wait_loaded();
    }

    /// Clicks at a place on the screen.
    pub(crate) fn click_at(&self, (x, y): (f64, f64)) {
        BROWSER.runtime.block_on(self.page.click(Point { x, y })).expect("click");
    }

    /// Presses and releases a key: a character, or a name as `Enter` and `ArrowLeft`.
    pub(crate) fn press(&self, key: &str) {
        let pressed = BROWSER.runtime.block_on(async {
            // Any element will do: keys go to what has the focus.
            self.page.find_element("body").await?.press_key(key).await.map(drop)
        });
        pressed.unwrap_or_else(|error| panic!("press {key}: {error}"));
    }

    /// Presses the keys of a text.
    pub(crate) fn type_text(&self, text: &str) {
        for c in text.chars() {
            self.press(&c.to_string());
        }
    }

    /// The value of an expression, or nothing while the page is exchanged.
    pub(crate) fn try_eval<T: DeserializeOwned>(&self, script: &str) -> Option<T> {
        let params = EvaluateParams::builder().expression(script).return_by_value(true);
        let params = params.await_promise(true).build().expect("it has an expression");
        let reply = BROWSER.runtime.block_on(self.page.execute(params)).ok()?.result;
        assert!(reply.exception_details.is_none(), "{script}: {:?}", reply.exception_details);
        serde_json::from_value(reply.result.value.unwrap_or_default()).ok()
    }

    /// The value of an expression.
    #[track_caller]
    pub(crate) fn eval<T: DeserializeOwned>(&self, script: &str) -> T {
        wait::until(&format!("the value of {script}"), wait::SOON, || self.try_eval(script))
    }

    /// The cookies of this page.
    pub(crate) fn cookies(&self) -> Vec<Cookie> {
        self.run(GetCookiesParams::default()).cookies
    }

    /// The questions that pages asked in a dialog; each was answered with yes.
    pub(crate) fn questions(&self) -> Vec<String> {
        self.complaints.questions()
    }

    /// Asserts that no page has complained, or loaded anything from another origin than `base`.
    #[track_caller]
    pub(crate) fn assert_quiet(&self, base: &str) {
        let complaints = self.complaints();
        assert!(complaints.is_empty(), "{}: {complaints:#?}", self.address());
        let foreign: Vec<String> =
            self.complaints.requests().into_iter().filter(|it| !it.starts_with(base)).collect();
        assert!(foreign.is_empty(), "requests to elsewhere: {foreign:#?}");
    }

    /// What pages complained of since it was asked last.
    pub(crate) fn complaints(&self) -> Vec<String> {
        // What was said before the answer to this has been heard.
        self.eval::<Value>("1");
        self.complaints.take()
    }

    /// Asserts that no part of the page is wider than the window.
    #[track_caller]
    pub(crate) fn assert_fits(&self) {
        let wider: Vec<String> = self.eval(
            "document.documentElement.scrollWidth <= innerWidth ? [] : \
             [...document.querySelectorAll('body *')]\
             .filter(it => it.getBoundingClientRect().right > innerWidth + 1)\
             .map(it => it.tagName + '.' + it.getAttribute('class') + ' ' + it.textContent.slice(0, 40))\
             .concat('the document')",
        );
        assert!(wider.is_empty(), "{} is wider than its window: {wider:#?}", self.address());
    }

    /// A picture of the page in `target/screens/NAME.png`.
    pub(crate) fn picture(&self, name: &str) {
        let height: f64 = self.eval("document.documentElement.scrollHeight");
        let clip = Viewport {
            x: 0.0,
            y: 0.0,
            width: self.width,
            height: height.min(PICTURE_HEIGHT_MAX),
            scale: 1.0,
        };
        let params = CaptureScreenshotParams::builder()
            .format(CaptureScreenshotFormat::Png)
            .clip(clip)
            .capture_beyond_viewport(true)
            .build();
        let picture = BROWSER.runtime.block_on(self.page.screenshot(params));
        let folder = pictures();
        std::fs::create_dir_all(&folder).expect("make the folder of pictures");
        std::fs::write(folder.join(format!("{name}.png")), picture.expect("take a picture"))
            .expect("write a picture");
    }

    fn run<C: Command>(&self, command: C) -> C::Response {
        let reply = BROWSER.runtime.block_on(self.page.execute(command));
        reply.unwrap_or_else(|error| panic!("ask the browser: {error}")).result
    }
}

impl Drop for Tab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the page was {}", self.shown());
            eprintln!("--- it complained of {:#?}", self.complaints.take());
        }
        let context = self.context.clone();
        // A browser that is gone has closed it.
        let _ = BROWSER.runtime.block_on(BROWSER.browser.dispose_browser_context(context));
    }
}

/// A text as a script writes it.
pub(crate) fn text(text: &str) -> String {
    Value::from(text).to_string()
}

fn pictures() -> PathBuf {
    let programs = tools::tidemill().parent().expect("it lies in a folder");
    programs.parent().expect("which lies in target").join("screens")
}

fn start() -> Started {
    let folder = scratch::folder("chromium");
    let config = BrowserConfig::builder()
        .chrome_executable(tools::chromium())
        .user_data_dir(folder.join("profile"))
        .new_headless_mode()
        .no_sandbox()
        .viewport(None)
        .request_timeout(Duration::from_secs(60))
        .launch_timeout(Duration::from_secs(60))
        .args(["disable-gpu", "disable-quic", "disable-component-update"])
        .env(scratch::MARK, scratch::root().to_string_lossy())
        // Its sockets and caches go with the folder.
        .envs(["TMPDIR", "HOME"].map(|name| (name, folder.to_string_lossy())))
        .build()
        .expect("the settings are whole");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("start a runtime");
    let browser = runtime.block_on(async {
        let (browser, mut handler) = Browser::launch(config).await.expect("start Chromium");
        // Messages of a newer browser that this client does not know are no reason to stop.
        tokio::spawn(async move { while handler.next().await.is_some() {} });
        browser
    });
    Started { browser, runtime }
}
