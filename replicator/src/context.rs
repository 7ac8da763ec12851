//! What stays the same for the life of a sidecar: its settings, its lock, its bucket, its host.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidemill_bucket::{Litestream, Store};
use tidemill_eventlog::{Beside, FileLock, LockError, host};
use tidemill_model::{BootId, FolderId, MachineId, NodeKeys, NodeState, SidecarStatus};

use crate::clocks::Clocks;
use crate::disk::state_file;
use crate::error::{Error, ErrorKind};
use crate::figures::Figures;
use crate::lease::client::LeaseClient;
use crate::metrics::{self, Shown};
use crate::problems::Topic;
use crate::settings::Settings;
use crate::shared_status::SharedStatus;
use crate::ship::litestream::control::LitestreamControl;
use crate::ship::litestream::leftover;

/// Shared by everything that runs in this process.
pub(crate) struct Context {
    pub(crate) settings: Settings,
    pub(crate) node_lock: FileLock,
    pub(crate) store: Store,
    pub(crate) keys: NodeKeys,
    pub(crate) leases: LeaseClient,
    pub(crate) litestream: Litestream,
    pub(crate) control: LitestreamControl,
    pub(crate) litestream_socket: PathBuf,
    pub(crate) boot: BootId,
    pub(crate) machine: MachineId,
    pub(crate) folder: FolderId,
    status: Mutex<SharedStatus>,
    pub(crate) figures: Figures,
}

impl Context {
    /// Checks the tools and takes the node lock, without a request to the bucket.
    pub(crate) async fn open(settings: Settings) -> Result<Arc<Context>, Error> {
        Context::with(settings, Litestream::find().await?).await
    }

    async fn with(settings: Settings, litestream: Litestream) -> Result<Arc<Context>, Error> {
        let store = Store::connect(settings.fleet.bucket(), &settings.store).await?;
        let node_lock = match leftover::take_node_lock(&settings.beside).await {
            Ok(lock) => lock,
            Err(LockError::Held { holder, .. }) => {
                let message = format!(
                    "another sidecar, {holder}, has {}: end that process first",
                    settings.beside.db().display()
                );
                return Err(Error::new(ErrorKind::Conflict, message));
            }
            Err(error) => return Err(error.into()),
        };
        let keys = settings.fleet.node(&settings.node);
        let litestream_socket = settings.beside.litestream_socket()?;
        let context = Context {
            leases: LeaseClient::new(store.clone(), &keys),
            control: LitestreamControl::new(&litestream_socket, settings.beside.db()),
            litestream_socket,
            status: Mutex::new(SharedStatus::new(host::host_name(), host::boot_id()?)),
            figures: Figures::default(),
            boot: host::boot_id()?,
            machine: host::machine_id()?,
            folder: node_lock.folder()?,
            settings,
            node_lock,
            store,
            keys,
            litestream,
        };
        Ok(Arc::new(context))
    }

    /// The database and what lies beside it.
    pub(crate) fn beside(&self) -> &Beside {
        &self.settings.beside
    }

    /// What the lease says about this process.
    pub(crate) fn status(&self) -> MutexGuard<'_, SharedStatus> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The page of metrics of a sidecar with this status; `lease_left` as in [`Shown`].
    pub(crate) fn metrics(&self, status: &SidecarStatus, lease_left: Option<Duration>) -> String {
        let ttl = self.settings.ttl.get();
        let (shared, figures) = (self.status(), &self.figures);
        let problems = &shared.problems;
        metrics::render(&Shown { status, problems, figures, ttl, lease_left })
    }

    /// Notes a problem; returns true if it is new and should be logged.
    pub(crate) fn say(&self, topic: Topic, text: impl Into<String>) -> bool {
        self.status().problems.say(topic, text)
    }

    /// Notes that a topic's problem is over.
    pub(crate) fn clear(&self, topic: Topic) {
        self.status().problems.clear(topic);
    }

    /// Writes the state file.
    pub(crate) fn save(&self, state: &NodeState) -> Result<(), Error> {
        Ok(state_file::write(self.beside(), &self.node_lock, state)?)
    }
}

/// Both clocks, now.
pub(crate) fn now() -> Clocks {
    Clocks { boot: host::boot_now(), wall: host::wall_now() }
}

#[cfg(test)]
impl Context {
    /// The context of node `n1` in `dir`, whose file was just made, with a store that does not
    /// answer.
    ///
    /// # Panics
    /// If there is no Litestream.
    pub(crate) async fn in_test(dir: &std::path::Path) -> Arc<Context> {
        let db = dir.join("workflow.db");
        tidemill_eventlog::create(&db).unwrap();
        let mut options = crate::settings::Options::new("n1", "s3://bucket/fleet", &db);
        options.store.endpoint = Some("http://127.0.0.1:1".to_owned());
        options.store.region = Some("us-east-1".to_owned());
        options.store.credentials = Some(tidemill_bucket::Credentials {
            access_key_id: "id".to_owned(),
            secret_access_key: tidemill_bucket::Secret::new("key"),
            session_token: None,
            expires_at: None,
        });
        let litestream = crate::ship::litestream::testing::litestream();
        let litestream = Litestream::at(litestream).await.unwrap();
        Context::with(Settings::resolve(options).unwrap(), litestream).await.unwrap()
    }
}
