//! A running `tidemill observe`.

use std::process::Command;

use super::bucket::Bucket;
use super::http::Api;
use super::process::{self, Process};
use super::{scratch, tools, wait};

/// How it is started.
pub(crate) struct Settings {
    args: Vec<String>,
    environment: Vec<(String, String)>,
}

/// An observer. Dropping it kills it.
pub(crate) struct Observer {
    process: Process,
    base: String,
}

impl Settings {
    /// One that shows the fleet of this bucket, and looks at its leases every second.
    pub(crate) fn of(bucket: &Bucket) -> Self {
        let environment = process::environment(bucket);
        Self { args: Vec::new(), environment }.args(&["--bucket", &bucket.fleet()])
    }

    /// One that asks this node, and knows of no bucket.
    pub(crate) fn of_node(api: &Api) -> Self {
        Self { args: Vec::new(), environment: Vec::new() }.node(api)
    }

    /// It asks this node, too.
    pub(crate) fn node(self, api: &Api) -> Self {
        self.args(&["--node-url", api.base()])
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    fn args(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(|arg| (*arg).to_owned()));
        self
    }

    /// Starts it and waits until it says where it listens.
    #[track_caller]
    pub(crate) fn start(&self) -> Observer {
        let mut command = Command::new(tools::tidemill());
        command.args(["observe", "--listen", "127.0.0.1:0", "--watch-every", "1"]).args(&self.args);
        command.env_remove("TIDEMILL_OBSERVE_TOKEN").env_remove("TIDEMILL_OBSERVE_READ_TOKEN");
        process::reach(&mut command, &self.environment);
        let process =
            Process::spawn("observer", &mut command, &scratch::folder("observe").join("log"));
        let base = wait::until("the observer to say where it listens", wait::SOON, || {
            let log = process.log();
            let (_, rest) = log.split_once("observing ")?;
            // A whole line only: the port may still be on its way.
            let (line, _) = rest.split_once('\n')?;
            Some(line.rsplit_once(" at ")?.1.to_owned())
        });
        Observer { process, base }
    }
}

impl Observer {
    /// `http://127.0.0.1:PORT`.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// A client of it.
    pub(crate) fn api(&self) -> Api {
        Api::new(self.base.clone())
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        self.process.log()
    }

    /// The address of a page.
    pub(crate) fn at(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// The base of a live node's pages.
    pub(crate) fn live(&self, api: &Api) -> String {
        self.at(&api.base().replacen("http://", "/live/", 1))
    }

    /// The base of a node's pages; with `@` and a moment behind it, of the node then.
    pub(crate) fn node(&self, bucket: &Bucket, node: &str) -> String {
        self.at(&format!("{}/{node}", bucket.fleet().replacen("s3://", "/s3/", 1)))
    }
}
