//! `tidemill observe`: the pages and the API of fleets and nodes, at any moment.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use tidemill_model::FleetUrl;
use tidemill_observer::NodeAddress;
use tidemill_web::{Settings, reader_tokens, serve};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::common::S3Args;
use crate::{node_tokens, output};

const HELP: &str = "\
It executes nothing and writes nothing under a node's prefix. What it restores is kept in \
TIDEMILL_CACHE, up to TIDEMILL_CACHE_MIB (10240).

On any address but loopback readers need a token: TIDEMILL_OBSERVE_TOKEN lets them look and act, \
TIDEMILL_OBSERVE_READ_TOKEN look only. TIDEMILL_TOKEN is the token of the nodes that it asks, where \
--node-tokens names no other.

Addresses (docs/observe.md, GET /openapi.json), where … is /s3/BUCKET/FLEET/NODE@MOMENT or \
/live/HOST:PORT:";

#[derive(Debug, clap::Args)]
#[command(after_help = format!("{HELP}\n{}", tidemill_web::addresses()))]
pub(crate) struct Args {
    /// A fleet to show; give it several times for several
    #[arg(long = "bucket", value_name = "s3://BUCKET/FLEET")]
    fleets: Vec<FleetUrl>,
    /// A node to ask while it answers; give it several times for several
    #[arg(long, value_name = "http://HOST:PORT")]
    node_url: Vec<NodeAddress>,
    /// A file with a token for each node, one `http://HOST:PORT TOKEN` a line, which only its owner may
    /// read; a node without a line is sent TIDEMILL_TOKEN
    #[arg(long, value_name = "FILE", env = "TIDEMILL_NODE_TOKENS")]
    node_tokens: Option<PathBuf>,
    /// Where to listen
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7421")]
    listen: SocketAddr,
    /// How many seconds pass between two looks at the leases: a node without a heartbeat is seen that
    /// much later, and an idle node costs one request each time
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    watch_every: u64,
    #[command(flatten)]
    s3: S3Args,
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let tokens = reader_tokens(
        variable("TIDEMILL_OBSERVE_TOKEN").as_deref(),
        variable("TIDEMILL_OBSERVE_READ_TOKEN").as_deref(),
    )?;
    let mut access = args.s3.access()?;
    let file = args.node_tokens.filter(|path| !path.as_os_str().is_empty());
    let node_tokens = node_tokens::read(file.as_deref(), access.token.take())?;
    let settings = Settings {
        access,
        node_tokens,
        fleets: args.fleets,
        nodes: args.node_url,
        listen: args.listen,
        tokens,
        watch_every: Duration::from_secs(args.watch_every),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let stop = CancellationToken::new();
        let stopping = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            stopping.cancel();
        });
        let fleets: Vec<String> = settings.fleets.iter().map(ToString::to_string).collect();
        let nodes = settings.nodes.iter().map(ToString::to_string);
        let shown: Vec<String> = fleets.into_iter().chain(nodes).collect();
        serve(settings, stop, |address| {
            // Nothing depends on the line: a closed stdout is no reason to end.
            let _ = output::text(&format!("observing {} at http://{address}\n", shown.join(", ")));
        })
        .await?;
        Ok(ExitCode::SUCCESS)
    })
}
