//! Which token each node is sent. Pure.
//!
//! A token goes to the node that its line names and to no other. The text that holds tokens is never
//! repeated in an error: whoever mixes up the two parts of a line would find a token in the log.

use tidemill_client::NodeClient;
use tidemill_model::{Error, ErrorKind};
use tidemill_observer::NodeAddress;
use tidemill_page::guard::Token;

/// The tokens of the nodes that are asked.
#[derive(Debug, Clone, Default)]
pub struct NodeTokens {
    own: Vec<Own>,
    others: Option<Shared>,
}

/// The token of every other node, as it was given: an observer must not refuse what a node takes.
/// `Debug` does not print it.
#[derive(Clone)]
struct Shared(String);

/// A node's own token, and the line that names it.
#[derive(Debug, Clone)]
struct Own {
    address: NodeAddress,
    token: Token,
    line: usize,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shared(…)")
    }
}

impl NodeTokens {
    /// One token for every node; `None` for none.
    pub fn shared(token: Option<String>) -> NodeTokens {
        NodeTokens { own: Vec::new(), others: token.map(Shared) }
    }

    /// Adds what a file says: each line is `http://HOST:PORT TOKEN`; an empty one, and one that
    /// begins with `#`, says nothing. `file` is its name for errors.
    ///
    /// # Errors
    /// `Invalid`, with the file and the line, for a line that is something else, a weak token, and a
    /// node that an earlier line names.
    pub fn with_file(mut self, file: &str, text: &str) -> Result<NodeTokens, Error> {
        for (line, content) in (1..).zip(text.lines()) {
            let content = content.trim();
            if content.is_empty() || content.starts_with('#') {
                continue;
            }
            let invalid =
                |why: String| Error::new(ErrorKind::Invalid, format!("{file}, line {line}: {why}"));
            let parts: Vec<&str> = content.split_whitespace().collect();
            let [address, token] = parts.as_slice() else {
                return Err(invalid("use `http://HOST:PORT TOKEN`".to_owned()));
            };
            let Ok(address) = address.parse::<NodeAddress>() else {
                let why = "the first part is no address of a node: use `http://HOST:PORT TOKEN`";
                return Err(invalid(why.to_owned()));
            };
            if let Some(before) = self.own.iter().find(|own| own.address == address) {
                let why = format!("{address} has a token in line {}: remove one", before.line);
                return Err(invalid(why));
            }
            let token = Token::new("the token", token).map_err(|e| invalid(e.to_string()))?;
            self.own.push(Own { address, token, line });
        }
        Ok(self)
    }

    /// A client of a node, with its token.
    pub(crate) fn client(&self, address: &NodeAddress) -> NodeClient {
        let client = NodeClient::new(address.clone(), self.sent(address).map(str::to_owned));
        client.advising(match self.own(address) {
            Some(_) => "correct its line in the file of --node-tokens",
            None => "set TIDEMILL_TOKEN to its token, or name it in the file of --node-tokens",
        })
    }

    /// The token that a node gets.
    fn sent(&self, address: &NodeAddress) -> Option<&str> {
        let others = self.others.as_ref().map(|Shared(token)| token.as_str());
        self.own(address).map(Token::reveal).or(others)
    }

    /// The nodes that have a token of their own and are none of these.
    pub(crate) fn unused(&self, asked: &[NodeAddress]) -> impl Iterator<Item = &NodeAddress> {
        self.own.iter().map(|own| &own.address).filter(|address| !asked.contains(address))
    }

    fn own(&self, address: &NodeAddress) -> Option<&Token> {
        self.own.iter().find(|own| own.address == *address).map(|own| &own.token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = "first-0123456789abcdef";
    const SECOND: &str = "second-0123456789abcdef";

    fn read(text: &str) -> Result<NodeTokens, Error> {
        NodeTokens::shared(Some("shared-0123456789".to_owned())).with_file("tokens", text)
    }

    /// The token that a node gets.
    fn sent(tokens: &NodeTokens, address: &str) -> Option<String> {
        tokens.sent(&address.parse().unwrap()).map(str::to_owned)
    }

    #[test]
    fn each_node_gets_the_token_of_its_line_and_the_others_the_shared_one() {
        let text = format!(
            "# the fleet\n\nhttp://10.0.0.7:7420 {FIRST}\r\n  http://Node.example:80\t{SECOND} \n"
        );
        let tokens = read(&text).unwrap();
        assert_eq!(sent(&tokens, "http://10.0.0.7:7420").as_deref(), Some(FIRST));
        assert_eq!(sent(&tokens, "http://node.example").as_deref(), Some(SECOND));
        for other in ["http://10.0.0.7:7421", "http://10.0.0.70:7420", "http://node.example:7420"] {
            assert_eq!(sent(&tokens, other).as_deref(), Some("shared-0123456789"), "{other}");
        }
        let alone = NodeTokens::default().with_file("tokens", &text).unwrap();
        assert_eq!(sent(&alone, "http://10.0.0.7:7421"), None);
        let asked = ["http://10.0.0.7:7420".parse().unwrap()];
        let unused: Vec<String> = tokens.unused(&asked).map(ToString::to_string).collect();
        assert_eq!(unused, ["http://node.example"]);
    }

    #[test]
    fn a_line_that_is_something_else_is_refused_without_what_it_holds() {
        let address = "http://a:1";
        for (text, part) in [
            (format!("{address} {FIRST}\n{FIRST}\n"), "line 2: use `http://HOST:PORT TOKEN`"),
            (format!("{address}\n"), "line 1: use `http://HOST:PORT TOKEN`"),
            (format!("{address} {FIRST} # n1\n"), "line 1: use `http://HOST:PORT TOKEN`"),
            (format!("\n{FIRST} {address}\n"), "line 2: the first part is no address"),
            (format!("https://a:1 {FIRST}\n"), "line 1: the first part is no address"),
            (format!("http://{FIRST}@a:1 {SECOND}\n"), "line 1: the first part is no address"),
            (format!("{address} secret\n"), "line 1: the token is too weak"),
            (
                format!("#\n{address} {FIRST}\nhttp://A:1/ {SECOND}\n"),
                "line 3: http://a:1 has a token in line 2",
            ),
        ] {
            let error = read(&text).unwrap_err();
            let message = error.to_string();
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(message.starts_with("tokens, ") && message.contains(part), "{message}");
            for secret in [FIRST, SECOND, "secret"] {
                assert!(!message.contains(secret), "{message}");
            }
        }
    }

    #[test]
    fn no_token_is_shown() {
        let shown = format!("{:?}", read(&format!("http://a:1 {FIRST}\n")).unwrap());
        assert!(shown.contains("http://a:1"), "{shown}");
        assert!(!shown.contains(FIRST) && !shown.contains("shared"), "{shown}");
    }
}
