//! Opening a node by the path of its file: alone, or under the sidecar that the environment names.
//!
//! A file that a sidecar ever had belongs to a node and an epoch, and [`Node::open`] opens it only
//! in an environment that names both: otherwise another machine may own that node, and what is
//! written here would be lost or, worse, shipped. So the sidecar is asked first.

use std::path::{Path, PathBuf};

use tidemill_eventlog::{Checkpoints, LOG_VERSION};

use super::attach::Sidecar;
use super::side::SideThread;
use crate::author::App;
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
    /// Opens the file; attaches first where there is a sidecar. The lease is followed on `side`.
    pub(crate) async fn open(
        app: App,
        path: &Path,
        sidecar: Option<PathBuf>,
        side: &SideThread,
    ) -> Result<OpenNode, Error> {
        let sidecar = match sidecar {
            Some(socket) => Some(side.run(async move { Sidecar::attach(&socket).await }).await?),
            None => None,
        };
        let environment = environment(path, sidecar.as_ref());
        match Node::open(app, environment.clone()).await {
            Ok(node) => Ok(OpenNode { node, environment, sidecar }),
            Err(error) => {
                // Nothing of ours is open: the sidecar need not take this for a crash.
                if let Some(sidecar) = sidecar {
                    goodbye(side, sidecar).await;
                }
                Err(error)
            }
        }
    }

    /// Closes the file and says goodbye.
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
        fleet: hello.fleet.as_ref().map(ToString::to_string),
        node: Some(hello.node.clone()),
        epoch: Some(hello.epoch),
        instance: Some(hello.instance.clone()),
        migrates: hello.log_version.is_some_and(|version| version >= LOG_VERSION),
    }
}
