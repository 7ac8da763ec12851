//! `tidemill sidecar`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use tidemill_bucket::Settings as StoreSettings;
use tidemill_model::{FleetUrl, NodeId, Ttl};
use tidemill_replicator::{Options, Settings};

use crate::common::S3Args;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The node's name; one sidecar at a time holds it
    #[arg(long, env = "TIDEMILL_NODE", value_name = "NAME")]
    node: NodeId,
    /// The fleet in the bucket, s3://BUCKET/FLEET
    #[arg(long, env = "TIDEMILL_BUCKET", value_name = "URL")]
    bucket: FleetUrl,
    /// The database; its folder must exist
    #[arg(long, env = "TIDEMILL_DB", value_name = "PATH")]
    db: PathBuf,
    #[command(flatten)]
    s3: S3Args,
    /// How long the lease lasts after each write, 3s to 10m: after that another machine can take
    /// a lost machine's node over; a shorter time needs a quicker S3
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = ttl)]
    ttl: Duration,
    /// The shortest time between two uploads of a busy node, 100ms to 60s: a shorter time means
    /// that a lost disk takes less with it, and more requests
    #[arg(long, value_name = "TIME", default_value = "500ms", value_parser = duration)]
    ship_every: Duration,
    /// How long all of this may take to end after SIGTERM, 1s to 1h: CMD, the last upload, the
    /// release of the node. Keep it below the time after which your platform kills: docker stop
    /// 10s, Kubernetes 30s, systemd 90s. CMD gets about 60 % of it, and learns how much from
    /// TIDEMILL_LEAVE_WITHIN
    #[arg(
        long,
        env = "TIDEMILL_LEAVE_WITHIN",
        value_name = "TIME",
        default_value = "25s",
        value_parser = duration
    )]
    leave_within: Duration,
    /// The longest wait before a start that follows others which ended badly, up to 1h; each such
    /// start costs the bucket a full copy of the file
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
    pace: Duration,
    /// Begin from an older point if the newest in the bucket is damaged: what was done after it is
    /// lost. Without this the sidecar waits and says which object is damaged
    #[arg(long)]
    allow_older: bool,
    /// The app to run; without it, the sidecar serves an app that another supervisor starts
    #[arg(last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let options = Options {
        store: StoreSettings { endpoint: args.s3.endpoint, ..StoreSettings::default() },
        ttl: Some(args.ttl),
        poke_every: Some(args.ship_every),
        leave_within: Some(args.leave_within),
        pace_most: Some(args.pace),
        allow_older: args.allow_older,
        command: args.command,
        ..Options::new(args.node.as_str(), &args.bucket.to_string(), &args.db)
    };
    let ended = tidemill_replicator::run(Settings::resolve(options)?)?;
    Ok(ExitCode::from(ended.code()))
}

/// A time such as `500ms`, `15s`, `2m` or `1h`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let error = || format!("invalid time `{text}`: use a number and ms, s, m or h, such as 15s");
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(error()),
    };
    let number: u64 = number.parse().map_err(|_| error())?;
    number.checked_mul(unit_ms).map(Duration::from_millis).ok_or_else(error)
}

fn ttl(text: &str) -> Result<Duration, String> {
    let time = duration(text)?;
    Ttl::from_millis(tidemill_model::unix_ms(time)).map(Ttl::get).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_unit() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for bad in ["", "15", "s", "-1s", "1.5s", "1 s", "99999999999999999999h"] {
            assert!(duration(bad).unwrap_err().contains("use a number and"), "{bad}");
        }
        assert!(ttl("1s").unwrap_err().contains("3 s to 10 min"));
    }
}
