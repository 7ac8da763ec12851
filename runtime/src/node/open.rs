//! Opens a node's file, alone or under the sidecar that the environment names.
//!
//! A file that a sidecar has ever owned belongs to a node and an epoch. [`Node::open`] opens it only
//! in an environment that names both: without that check another machine might own the node, and
//! what this process wrote would be lost or, worse, shipped. So the app asks the sidecar first.

use std::path::{Path, PathBuf};

use tidemill_eventlog::{Checkpoints, LOG_VERSION};

use super::attach::Sidecar;
use super::side::SideThread;
use crate::author::App;
use crate::engine::recovery::Continues;
use crate::engine::{Environment, Node};
use crate::error::Error;

/// An open node, and the sidecar that it is attached to.
#[derive(Debug)]
pub(crate) struct OpenNode {
    pub(crate) node: Node,
    pub(crate) environment: Environment,
    pub(crate) sidecar: Option<Sidecar>,
}

impl OpenNode {
    /// Attaches to the sidecar, if there is one, and opens the file. A task on `side` follows the
    /// lease.
    pub(crate) async fn open(
        app: App,
        path: &Path,
        sidecar: Option<PathBuf>,
        side: &SideThread,
        continues: Continues,
    ) -> Result<OpenNode, Error> {
        let sidecar = match sidecar {
            Some(socket) => Some(side.run(async move { Sidecar::attach(&socket).await }).await?),
            None => None,
        };
        let environment = environment(path, sidecar.as_ref());
        match Node::open_for(app, environment.clone(), continues).await {
            Ok(node) => Ok(OpenNode { node, environment, sidecar }),
            Err(error) => {
                // This process has nothing open: a goodbye tells the sidecar that it was no crash.
                if let Some(sidecar) = sidecar {
                    goodbye(side, sidecar).await;
                }
                Err(error)
            }
        }
    }

    /// Closes the file, then detaches from the sidecar.
    pub(crate) async fn close(self, side: &SideThread) -> Result<(), Error> {
        self.node.shutdown().await?;
        if let Some(sidecar) = self.sidecar {
            goodbye(side, sidecar).await;
        }
        Ok(())
    }
}

async fn goodbye(side: &SideThread, sidecar: Sidecar) {
    if let Err(error) = side.run(async move { sidecar.detach().await }).await {
        tracing::warn!(%error, "the sidecar took no goodbye: it will repair the replica");
    }
}

fn environment(path: &Path, sidecar: Option<&Sidecar>) -> Environment {
    let Some(sidecar) = sidecar else { return Environment::alone(path) };
    let hello = sidecar.hello();
    Environment {
        path: path.to_owned(),
        checkpoints: Checkpoints::ByLitestream,
        gate: sidecar.gate().clone(),
        compared: sidecar.compared().clone(),
        fleet: hello.fleet.as_ref().map(ToString::to_string),
        node: Some(hello.node.clone()),
        epoch: Some(hello.epoch),
        instance: Some(hello.instance.clone()),
        migrates: hello.log_version.is_some_and(|version| version >= LOG_VERSION),
    }
}
