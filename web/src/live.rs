//! The nodes that are asked while they answer: who each of them is, and its pages.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use serde::Deserialize;
use tidemill_client::NodeClient;
use tidemill_model::{Epoch, Error, ErrorKind, Json, NodeId};
use tidemill_observer::NodeAddress;
use tidemill_page::overview::Overview;
use tidemill_page::{Page, View};

use crate::node_tokens::NodeTokens;

/// How long a node may take to answer: a page of it is a few queries.
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// The nodes, and what each said last.
#[derive(Debug)]
pub(crate) struct LiveNodes {
    tokens: NodeTokens,
    said: RwLock<BTreeMap<String, Said>>,
    pub(crate) addresses: Vec<NodeAddress>,
}

/// What a node said last.
#[derive(Debug, Clone)]
pub(crate) struct Said {
    pub(crate) address: NodeAddress,
    /// Who it is; why it does not answer otherwise.
    pub(crate) identity: Result<Identity, String>,
    /// What it shows first; why that cannot be known otherwise. `None` for a node that does not
    /// answer at all.
    pub(crate) overview: Option<Result<Overview, String>>,
}

impl Said {
    /// What it shows first, if that is known.
    pub(crate) fn shown(&self) -> Option<&Overview> {
        self.overview.as_ref()?.as_ref().ok()
    }
}

/// Who a node is.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Identity {
    pub(crate) app: String,
    pub(crate) status: String,
    pub(crate) node: Option<NodeId>,
    pub(crate) epoch: Option<Epoch>,
}

impl LiveNodes {
    pub(crate) fn new(tokens: NodeTokens, addresses: Vec<NodeAddress>) -> LiveNodes {
        for address in tokens.unused(&addresses) {
            tracing::warn!(node = %address, "a token is set for a node that no --node-url names");
        }
        LiveNodes { tokens, said: RwLock::default(), addresses }
    }

    /// A client of a node.
    pub(crate) fn client(&self, address: &NodeAddress) -> NodeClient {
        self.tokens.client(address)
    }

    /// Asks every node who it is and what it shows first.
    pub(crate) async fn ask_all(&self) {
        let asked = self.addresses.iter().map(|address| self.ask(address));
        for said in futures_util::future::join_all(asked).await {
            let key = said.address.to_string();
            self.said.write().unwrap_or_else(PoisonError::into_inner).insert(key, said);
        }
    }

    /// Asks one node again.
    pub(crate) async fn ask_one(&self, address: &NodeAddress) {
        let said = self.ask(address).await;
        self.said.write().unwrap_or_else(PoisonError::into_inner).insert(address.to_string(), said);
    }

    async fn ask(&self, address: &NodeAddress) -> Said {
        let client = self.client(address);
        let identity = in_time(client.get_ready_or_not::<Identity>("/v1/health")).await;
        let overview = match &identity {
            Ok(_) => {
                let overview = in_time(client.get::<Overview>("/")).await;
                Some(overview.map_err(|error| error.to_string()))
            }
            Err(_) => None,
        };
        let identity = identity.map_err(|error| error.to_string());
        Said { address: address.clone(), identity, overview }
    }

    /// What every node said last, in the order of their addresses.
    pub(crate) fn said(&self) -> Vec<Said> {
        self.said.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// The node that said it is this one in this epoch: another one of that name is not it.
    pub(crate) fn node(&self, node: &NodeId, epoch: Option<Epoch>) -> Option<Said> {
        let all = self.said.read().unwrap_or_else(PoisonError::into_inner);
        let is = |said: &&Said| {
            said.identity.as_ref().is_ok_and(|identity| {
                identity.node.as_ref() == Some(node) && epoch.is_some() && identity.epoch == epoch
            })
        };
        all.values().find(is).cloned()
    }

    /// A page of a node, as it shows it now. `path` is its address there.
    ///
    /// # Errors
    /// What the node says; `Unavailable` if it does not answer in time.
    pub(crate) async fn page(
        &self,
        address: &NodeAddress,
        view: &View,
        path: &str,
    ) -> Result<Page, Error> {
        let client = self.client(address);
        let json: Json = in_time(client.get(path)).await?;
        view.of_json(json.as_str())
    }
}

/// What a node answers, if it does in time.
pub(crate) async fn in_time<T>(call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    tokio::time::timeout(ANSWER_TIME, call).await.unwrap_or_else(|_| {
        let message =
            format!("the node does not answer within {} s: try again", ANSWER_TIME.as_secs());
        Err(Error::new(ErrorKind::Unavailable, message))
    })
}
