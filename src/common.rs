//! What the commands that look at something share: where from, how to reach S3, waiting.

use tidemill_bucket::Settings;
use tidemill_observer::{Access, Cache, Snapshot, Source};

use crate::interrupt;
use crate::output;

/// How to reach S3.
#[derive(Debug, clap::Args)]
pub(crate) struct S3Args {
    /// The address of an S3 server other than AWS, such as http://127.0.0.1:9000 [default:
    /// AWS_ENDPOINT_URL]; credentials and region come from the usual AWS variables and profiles
    #[arg(long, value_name = "URL")]
    pub(crate) endpoint: Option<String>,
}

/// Where to look.
#[derive(Debug, clap::Args)]
pub(crate) struct FromArgs {
    /// What to look at: a file, http://HOST:PORT, or s3://BUCKET/FLEET/NODE[@MOMENT]
    #[arg(long, value_name = "SOURCE")]
    pub(crate) from: Source,
    #[command(flatten)]
    pub(crate) s3: S3Args,
}

impl S3Args {
    pub(crate) fn access(&self) -> anyhow::Result<Access> {
        Ok(Access {
            s3: Settings { endpoint: self.endpoint.clone(), ..Settings::default() },
            cache: Cache::of_environment()?,
            litestream: None,
            token: std::env::var("TIDEMILL_TOKEN").ok().filter(|token| !token.is_empty()),
            now: tidemill_eventlog::host::wall_now(),
        })
    }
}

impl FromArgs {
    /// Opens the source; for people, says on stderr which moment that is.
    pub(crate) fn open(&self, json: bool) -> anyhow::Result<Snapshot> {
        let access = self.s3.access()?;
        let snapshot = wait(async { Ok(access.open(&self.from).await?) })?;
        if !json && matches!(self.from, Source::Bucket(_)) {
            output::say(&snapshot.origin().to_string());
        }
        Ok(snapshot)
    }
}

/// Runs a future to its end. A signal drops it, so that what it began is cleaned up.
pub(crate) fn wait<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let mut interrupted = interrupt::notices()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        tokio::select! {
            biased;
            _ = interrupted.changed() => anyhow::bail!("interrupted"),
            result = work => result,
        }
    })
}
