//! The file with the tokens of nodes: it must be its owner's alone.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::Context as _;
use tidemill_web::NodeTokens;

/// The largest file: some ten thousand nodes.
const BYTES_MAX: u64 = 1024 * 1024;

/// What others than the owner may do with a file.
const OTHERS: u32 = 0o077;

/// The tokens of nodes: those of the file, if there is one, and `shared` for all others.
pub(crate) fn read(file: Option<&Path>, shared: Option<String>) -> anyhow::Result<NodeTokens> {
    let tokens = NodeTokens::shared(shared);
    let Some(path) = file else { return Ok(tokens) };
    let name = path.display().to_string();
    let open = || format!("cannot read the tokens of nodes in {name}");
    let file = File::open(path).with_context(open)?;
    // Of the open file, so that nobody can put another in its place in between.
    let mode = file.metadata().with_context(open)?.permissions().mode() & 0o777;
    anyhow::ensure!(
        mode & OTHERS == 0,
        "{name} holds tokens, and others may read or write it (mode {mode:03o}): chmod 600 {name}"
    );
    let mut text = String::new();
    let length = file.take(BYTES_MAX + 1).read_to_string(&mut text).with_context(open)?;
    anyhow::ensure!(
        u64::try_from(length).is_ok_and(|length| length <= BYTES_MAX),
        "{name} is larger than 1 MiB: is it the file with the tokens of nodes?"
    );
    Ok(tokens.with_file(&name, &text)?)
}
