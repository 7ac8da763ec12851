//! Compiles the programs of the guide as doc tests, a page each.

macro_rules! page {
    ($name:ident, $path:literal) => {
        #[doc = include_str!(concat!("../../docs/guide/", $path))]
        struct $name;
    };
}

page!(FirstWorkflow, "first-workflow.md");
page!(Steps, "steps.md");
page!(Timers, "timers.md");
page!(Signals, "signals.md");
page!(Promises, "promises.md");
page!(Children, "children.md");
page!(Concurrency, "concurrency.md");
page!(StatusAndLabels, "status-and-labels.md");
page!(Starting, "starting.md");
page!(Errors, "errors.md");
page!(Cancelling, "cancelling.md");
page!(Fork, "fork.md");
page!(Determinism, "determinism.md");
page!(ChangingCode, "changing-code.md");
page!(Testing, "testing.md");
page!(Agents, "agents.md");
page!(Deploying, "deploying.md");
page!(Operating, "operating.md");
page!(Looking, "looking.md");
page!(OtherSystems, "other-systems.md");
