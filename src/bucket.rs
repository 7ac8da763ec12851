//! `tidemill bucket`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{anyhow, bail};
use tidemill_devbucket::{Keys, Server, Store};
use tokio::signal::unix::{SignalKind, signal};

use crate::output;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The folder that keeps the objects; made if it is not there
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Where to listen; port 0 takes a free one. An address that other machines reach needs keys
    /// of your own
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7422")]
    listen: SocketAddr,
    /// A bucket to make if it is not there; may be repeated
    #[arg(long, value_name = "NAME", default_value = "dev")]
    create: Vec<String>,
    /// The AWS_ACCESS_KEY_ID that clients use [default: tidemill]
    #[arg(long, env = "TIDEMILL_BUCKET_ACCESS_KEY", value_name = "KEY")]
    access_key: Option<String>,
    /// The AWS_SECRET_ACCESS_KEY that clients use [default: tidemill-dev]
    #[arg(long, env = "TIDEMILL_BUCKET_SECRET_KEY", value_name = "KEY", hide_env_values = true)]
    secret_key: Option<String>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let shown = args.secret_key.is_none();
    let keys = keys(args)?;
    let store = Store::open(&args.dir)?;
    for name in &args.create {
        store.create_bucket(name)?;
    }
    let folder = store.folder().display().to_string();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        // Before the first line, so that whoever has read it can end the server cleanly.
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let server = Server::bind(args.listen, store, keys.clone())
            .await
            .map_err(|error| anyhow!("cannot listen on {}: {error}", args.listen))?;
        let secret = if shown { keys.secret_key.as_str() } else { "…" };
        output::text(&greeting(
            &server.address(),
            &folder,
            &args.create,
            &keys.access_key,
            secret,
        ))?;
        server
            .run(async {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
            })
            .await;
        output::say(&format!("ended; the objects stay in {folder}"));
        Ok(ExitCode::SUCCESS)
    })
}

/// The keys, which must be the user's own if other machines can reach the server.
fn keys(args: &Args) -> anyhow::Result<Keys> {
    let development = Keys::development();
    if !args.listen.ip().is_loopback() && args.secret_key.is_none() {
        bail!(
            "{} is reached from other machines, and the default keys are no secret: set \
             TIDEMILL_BUCKET_SECRET_KEY",
            args.listen
        );
    }
    Ok(Keys {
        access_key: args.access_key.clone().unwrap_or(development.access_key),
        secret_key: args.secret_key.clone().unwrap_or(development.secret_key),
    })
}

fn greeting(
    address: &SocketAddr,
    folder: &str,
    buckets: &[String],
    access_key: &str,
    secret: &str,
) -> String {
    let bucket = buckets.first().map_or("BUCKET", String::as_str);
    format!(
        "bucket s3://{bucket} at http://{address}, kept in {folder}\n\
         For development and tests only: one process, one disk, no TLS. In another terminal:\n\n\
         export AWS_ENDPOINT_URL=http://{address} AWS_REGION=us-east-1\n\
         export AWS_ACCESS_KEY_ID={access_key} AWS_SECRET_ACCESS_KEY={secret}\n\
         tidemill probe s3://{bucket}/fleet\n"
    )
}
