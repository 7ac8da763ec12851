//! What can be looked at: a file, a live node, or a moment in a bucket. Pure.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use tidemill_bucket::NodeUrl;
use tidemill_client::NodeAddress;
use tidemill_model::Invalid;

/// Something with a node's history in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A `workflow.db`, being written or not.
    File(PathBuf),
    /// A running node, `http://HOST:PORT`.
    Node(NodeAddress),
    /// A node in a bucket at a moment of its past, `s3://BUCKET/FLEET/NODE[@MOMENT]`.
    Bucket(NodeUrl),
}

impl FromStr for Source {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Source, Invalid> {
        if text.starts_with("s3://") {
            return text.parse().map(Source::Bucket);
        }
        if text.starts_with("http://") {
            return text.parse().map(Source::Node);
        }
        if text.is_empty() || text.contains("://") {
            let rule = "use a path, http://HOST:PORT, or s3://BUCKET/FLEET/NODE[@MOMENT]";
            return Err(Invalid::new("source", text, rule));
        }
        Ok(Source::File(PathBuf::from(text)))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::File(path) => path.display().fmt(f),
            Source::Node(address) => address.fmt(f),
            Source::Bucket(url) => url.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_one_of_three_and_comes_back() {
        for text in ["./workflow.db", "/data/workflow.db", "http://127.0.0.1:7420"] {
            assert_eq!(text.parse::<Source>().unwrap().to_string(), text);
        }
        let moment = "s3://backups/fleet/n1@e3:000000000000002a";
        assert_eq!(moment.parse::<Source>().unwrap().to_string(), moment);
        let slash = "http://[::1]:7420/".parse::<Source>().unwrap();
        assert_eq!(slash.to_string(), "http://[::1]:7420");
    }

    #[test]
    fn what_is_none_of_the_three_is_refused_with_the_forms() {
        let error = |text: &str| text.parse::<Source>().unwrap_err().to_string();
        assert!(error("").contains("use a path"));
        assert!(error("https://node:7420").contains("use a path"));
        assert!(error("ftp://x").contains("s3://BUCKET/FLEET/NODE"));
        assert!(error("http://node/v1/runs").contains("http://HOST:PORT"));
        assert!(error("http://").contains("http://HOST:PORT"));
        assert!(error("http://127.0.0.1:99999").contains("http://HOST:PORT"));
        assert!(error("http://node:").contains("http://HOST:PORT"));
        assert!(error("s3://backups/n1").contains("s3://BUCKET/FLEET/NODE"));
        assert!(error("s3://backups/fleet/n1@yesterday").contains("use latest"));
    }
}
