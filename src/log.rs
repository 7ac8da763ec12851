//! What the command logs, to stderr.

use std::io::IsTerminal as _;

use tidemill_model::terminal;
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
        .with_writer(|| Stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
    Ok(())
}

/// Stderr, for whole lines that are safe on a terminal.
struct Stderr;

impl std::io::Write for Stderr {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        let safe = terminal::coloured(&String::from_utf8_lossy(line)).into_owned();
        std::io::stderr().write_all(safe.as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}
