//! How far Litestream's own state beside the database reaches.
//!
//! Litestream keeps the newest of what it shipped, and goes on from there. Without it, it goes on
//! from what it finds under the prefix, which may leave a hole in the replica that no call and no
//! check of its own tells of. So a start under a prefix that was shipped to compares
//! first: a state that ends before what was counted is not this prefix's any more.

use std::path::Path;

use tidemill_eventlog::Beside;
use tidemill_model::Txid;

/// The newest transaction that Litestream's own state holds, if any. The state is
/// only looked at, and a folder that cannot be read holds nothing.
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
