//! How far Litestream's own state beside the database reaches.
//!
//! Litestream keeps the newest files that it shipped, and continues from there. Without them it
//! continues from what it finds under the prefix, which may leave a hole in the replica that
//! neither its answers nor its own checks reveal. So a start under a prefix that was shipped to
//! first compares: a state that ends before the last counted barrier no longer fits this prefix.

use std::path::Path;

use tidemill_eventlog::Beside;
use tidemill_model::Txid;

/// The newest transaction that Litestream's own state holds; `None` if it holds none or cannot be
/// read. This only reads the state.
pub(crate) fn end(beside: &Beside) -> Option<Txid> {
    let files = std::fs::read_dir(beside.litestream_meta().join("ltx").join("0")).ok()?;
    files.filter_map(|file| end_of(Path::new(&file.ok()?.file_name()))).max()
}

/// The last transaction of a file named `<first>-<last>.ltx`.
fn end_of(name: &Path) -> Option<Txid> {
    let (_, last) = name.to_str()?.strip_suffix(".ltx")?.split_once('-')?;
    last.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_transaction_counts_and_leftovers_do_not() {
        let dir = tempfile::tempdir().unwrap();
        let beside = Beside::new(&dir.path().join("workflow.db"));
        assert_eq!(end(&beside), None);
        let folder = beside.litestream_meta().join("ltx").join("0");
        std::fs::create_dir_all(&folder).unwrap();
        assert_eq!(end(&beside), None);
        for name in [
            "0000000000000009-0000000000000009.ltx",
            "000000000000000a-000000000000000a.ltx",
            "000000000000000b-000000000000000b.ltx.tmp",
            "notes",
        ] {
            std::fs::write(folder.join(name), "").unwrap();
        }
        assert_eq!(end(&beside), Some(Txid::new(10).unwrap()));
    }
}
