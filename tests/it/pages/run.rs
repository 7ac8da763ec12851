//! The page of a run: why it failed at one look, and its life at the end of a slider.

use super::world::world;
use crate::support::browser::{PHONE, Tab};
use crate::support::wait;

const RANGE: &str = "form.slider input[type=range]";

#[test]
fn a_phone_shows_at_once_which_step_failed_and_why() {
    let world = world();
    let mut tab = Tab::new();
    tab.resize(PHONE);
    for base in [world.live(), world.latest()] {
        tab.open(&format!("{base}/runs/failing"));
        let trouble = tab.text("[role=alert]");
        for word in ["fetch", "after 3 attempts", "no answer in attempt 3"] {
            assert!(trouble.contains(word), "no {word:?} in {trouble}");
        }
        let (_, height) = PHONE;
        for selector in ["[role=alert] a", "[role=alert] pre"] {
            let place = tab.place(selector);
            let end = place.y + place.height;
            let height = f64::from(i32::try_from(height).expect("a small number"));
            assert!(place.y >= 0.0 && end <= height, "{selector} at {place:?}");
            assert!(place.width > 0.0 && place.x >= 0.0, "{selector} at {place:?}");
        }
    }
    tab.picture("run-failed-phone");
    tab.click("[role=alert] a");
    tab.wait_address("/runs/failing/operations/1");
    tab.wait_text("main", "no answer in attempt 1");
    tab.picture("operation-phone");
    tab.assert_quiet(world.observer.base());
}

#[test]
fn a_slider_shows_the_run_after_each_of_its_events() {
    let world = world();
    let tab = Tab::at(&format!("{}/runs/longer", world.latest()));
    let steps = || tab.count("table.gantt tbody tr");
    assert_eq!((steps(), tab.text("h1 .status")), (6, "completed".to_owned()));
    let last: u64 = tab.eval(&format!("Number(document.querySelector('{RANGE}').max)"));
    tab.eval::<bool>(&format!("!document.querySelector('{RANGE}').focus()"));
    for back in 1..=3 {
        tab.press("ArrowLeft");
        // The focus stays on the slider, so that the next key moves it on.
        tab.wait_address(&format!("event={}", last - back));
        tab.wait_text(".slider output", &format!("{} of {last}", last - back));
        let is_focused = format!("document.activeElement === document.querySelector('{RANGE}')");
        wait::until_true("the focus", wait::SOON, || tab.try_eval(&is_focused) == Some(true));
    }
    assert_eq!(tab.text("h1 .status"), "running");
    assert!(tab.text(".rewound").contains(&format!("after event {}", last - 3)));
    tab.press("Home");
    tab.wait_address("event=1");
    tab.wait_text(".rewound", &format!("after event 1 of {last}"));
    assert_eq!(steps(), 0, "before its first step");
    tab.picture("run-rewound");
    tab.click(".slider span a:last-of-type");
    tab.wait_text("h1 .status", "completed");
    assert!(!tab.address().contains("event="), "{}", tab.address());
    assert_eq!((steps(), tab.count(".rewound")), (6, 0));
    tab.assert_quiet(world.observer.base());
}
