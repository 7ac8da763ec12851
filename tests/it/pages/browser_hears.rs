//! The browser tells of what it must not see: tests that assert silence rest on that.

use crate::support::browser::Tab;
use crate::support::foreign_site::Site;
use crate::support::wait;

#[track_caller]
fn hears(tab: &Tab, words: &[&str]) {
    let mut heard = String::new();
    wait::until_or(wait::SOON, || {
        heard += &tab.complaints().join("\n");
        words.iter().all(|word| heard.contains(word)).then_some(())
    })
    .unwrap_or_else(|| panic!("not all of {words:?} in {heard}"));
}

#[test]
fn a_page_that_breaks_its_policy_is_heard() {
    let site = Site::start(
        "default-src 'none'",
        "<h1>a page</h1><script>window.hacked = 1</script><img src=/x.png>",
    );
    let tab = Tab::at(&site.at("/"));
    hears(&tab, &["inline script", "x.png"]);
    assert!(tab.eval::<bool>("window.hacked === undefined"), "the policy stopped it");
}

#[test]
fn a_script_that_fails_and_a_page_that_is_too_wide_are_seen() {
    let site = Site::start(
        "default-src 'unsafe-inline'",
        "<h1>a page</h1><p style='width: 3000px'>wide</p><script>console.error('heard'); nope()</script>",
    );
    let tab = Tab::at(&site.at("/"));
    hears(&tab, &["heard", "nope"]);
    let wide = tab.eval::<bool>("document.documentElement.scrollWidth > innerWidth");
    assert!(wide, "what `assert_fits` asks");
}
