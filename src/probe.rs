//! `tidemill probe`.

use std::fmt::Write as _;
use std::process::ExitCode;

use tidemill_bucket::{Rule, Settings, Store, examine};
use tidemill_model::{FleetUrl, Nonce};

use crate::common::{S3Args, wait};
use crate::output;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A fleet in the store to test, s3://BUCKET/FLEET; it need not exist yet
    fleet: FleetUrl,
    #[command(flatten)]
    s3: S3Args,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// One rule and whether the store keeps it.
#[derive(Debug, serde::Serialize)]
struct Tried {
    rule: String,
    kept: bool,
}

/// Exit code 0 if the store keeps every rule, else 1.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let nonce = Nonce::from_random(tidemill_eventlog::host::random()?);
    let settings = Settings { endpoint: args.s3.endpoint.clone(), ..Settings::default() };
    let broken = wait(async {
        let store = Store::connect(args.fleet.bucket(), &settings).await?;
        store.check().await?;
        Ok(examine(&store, &args.fleet, &nonce).await?)
    })?;
    let tried: Vec<Tried> = Rule::ALL
        .into_iter()
        .map(|rule| Tried { rule: rule.to_string(), kept: !broken.contains(&rule) })
        .collect();
    if args.json {
        output::json(&tried)?
    } else {
        output::text(&table(&tried))?
    };
    Ok(if broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn table(tried: &[Tried]) -> String {
    let mut text = String::new();
    for Tried { rule, kept } in tried {
        let mark = if *kept { "kept  " } else { "BROKEN" };
        writeln!(text, "{mark}  {rule}").expect("a string takes every write");
    }
    text
}
