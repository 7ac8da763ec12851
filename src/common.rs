//! What the commands that look at something share: how to reach S3, waiting.

use tidemill_bucket::Settings;
use tidemill_observer::{Access, Cache};

use crate::interrupt;

/// How to reach S3.
#[derive(Debug, clap::Args)]
pub(crate) struct S3Args {
    /// The address of an S3 server other than AWS, such as http://127.0.0.1:9000 [default:
    /// AWS_ENDPOINT_URL]; credentials and region come from the usual AWS variables and profiles
    #[arg(long, value_name = "URL")]
    pub(crate) endpoint: Option<String>,
}

impl S3Args {
    pub(crate) fn access(&self) -> anyhow::Result<Access> {
        Ok(Access {
            s3: Settings { endpoint: self.endpoint.clone(), ..Settings::default() },
            cache: Cache::of_environment()?,
            litestream: None,
            token: token(),
            now: tidemill_eventlog::host::wall_now(),
        })
    }
}

/// The bearer token of the nodes that are called.
pub(crate) fn token() -> Option<String> {
    std::env::var("TIDEMILL_TOKEN").ok().filter(|token| !token.is_empty())
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
