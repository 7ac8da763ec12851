//! What the command logs, to stderr.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

/// Starts logging: `TIDEMILL_LOG` in the form of tracing's filters, else `default`.
///
/// # Errors
/// What `TIDEMILL_LOG` says is no filter.
pub(crate) fn start(default: &str) -> anyhow::Result<()> {
    let wanted = std::env::var("TIDEMILL_LOG").ok().filter(|filter| !filter.is_empty());
    let filter = match wanted {
        Some(wanted) => EnvFilter::try_new(&wanted).map_err(|e| {
            let forms = "use a level such as debug, or target=level pairs such as info,aws=warn";
            anyhow::anyhow!("TIDEMILL_LOG `{wanted}` is no filter ({e}): {forms}")
        })?,
        None => EnvFilter::new(default),
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
    Ok(())
}
