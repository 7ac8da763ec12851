//! The world of the benchmark: a development bucket, the real sidecar that ships to it,
//! `litestream`, and the observer.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tidemill::{App, ServeSettings};
use tidemill_bucket::{LeaseStore, Litestream, NodeUrl, Settings, Store};
use tidemill_devbucket::{Background, Keys};
use tidemill_model::{FleetUrl, LeaseDoc, NodeId, NodeKeys, Seq};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

const BUCKET: &str = "dev";
const FLEET: &str = "s3://dev/fleet";

/// How long a node may take to ship its file.
const SHIPPED_WITHIN: Duration = Duration::from_secs(600);

/// The bucket, and the programs and credentials that reach it.
pub(super) struct World {
    folder: PathBuf,
    bucket: Background,
    runtime: Runtime,
    litestream: Litestream,
    fleet: FleetUrl,
    store: Store,
}

/// A running `tidemill observe`; dropping it ends it.
pub(super) struct Observer {
    child: Child,
    /// `http://127.0.0.1:PORT`.
    pub(super) base: String,
    /// When it was started.
    pub(super) since: Instant,
}

/// The node's app while a sidecar ships its file. It registers none of the prepared runs'
/// workflows, because all of these runs have ended.
pub(crate) fn serve_app() -> anyhow::Result<()> {
    Runtime::new()?.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let settings = ServeSettings::from_env()?.listen("127.0.0.1:0".parse()?);
        let serving = App::new("bench").serve(settings).await?;
        terminate.recv().await;
        Ok(serving.close().await?)
    })
}

impl World {
    pub(super) fn start(folder: &Path) -> anyhow::Result<World> {
        let store = tidemill_devbucket::Store::open(&folder.join("bucket"))?;
        store.create_bucket(BUCKET)?;
        let bucket = Background::start(store, Keys::development())?;
        let runtime = Runtime::new()?;
        let litestream = runtime.block_on(Litestream::find())?;
        let keys = Keys::development();
        let settings = Settings {
            endpoint: Some(bucket.endpoint()),
            region: Some("us-east-1".to_owned()),
            credentials: Some(tidemill_bucket::Credentials {
                access_key_id: keys.access_key,
                secret_access_key: tidemill_bucket::Secret::new(keys.secret_key),
                session_token: None,
                expires_at: None,
            }),
            ..Settings::default()
        };
        let store = runtime.block_on(Store::connect(BUCKET, &settings))?;
        let fleet = FLEET.parse()?;
        Ok(World { folder: folder.to_owned(), bucket, runtime, litestream, fleet, store })
    }

    /// Writes a node's file and lets a sidecar ship it; its size in bytes.
    pub(super) fn ship(
        &self,
        node: &str,
        write: impl FnOnce(&Path) -> anyhow::Result<()>,
    ) -> anyhow::Result<u64> {
        let db = self.folder.join(node).join("workflow.db");
        std::fs::create_dir(self.folder.join(node))?;
        write(&db)?;
        let bytes = std::fs::metadata(&db)?.len();
        let last = last_seq(&db)?;
        let log = self.folder.join(format!("{node}.log"));
        let mut sidecar = self.tidemill(&["sidecar", "--node", node, "--bucket", FLEET], &log)?;
        sidecar.arg("--db").arg(&db).arg("--").arg(std::env::current_exe()?).arg("--serve-app");
        let mut sidecar = Ended(sidecar.spawn().context("start the sidecar")?);
        let covered = self.until_covered(node, last, &mut sidecar.0);
        covered.with_context(|| std::fs::read_to_string(&log).unwrap_or_default())?;
        terminate(&sidecar.0)?;
        sidecar.0.wait()?;
        std::fs::remove_dir_all(self.folder.join(node))?;
        Ok(bytes)
    }

    #[expect(clippy::disallowed_methods, reason = "a benchmark has a clock")]
    fn until_covered(&self, node: &str, last: Seq, sidecar: &mut Child) -> anyhow::Result<()> {
        let lease = LeaseStore::new(self.store.clone(), &self.keys(node)?);
        let since = Instant::now();
        while since.elapsed() < SHIPPED_WITHIN {
            let covered = self.runtime.block_on(lease.read())?.and_then(|it| it.doc.covered);
            if covered.is_some_and(|covered| covered.seq >= last) {
                return Ok(());
            }
            if let Some(status) = sidecar.try_wait()? {
                bail!("the sidecar of {node} ended: {status}");
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        bail!("{node} was not shipped in {} s", SHIPPED_WITHIN.as_secs())
    }

    fn keys(&self, node: &str) -> anyhow::Result<NodeKeys> {
        let node = NodeId::new(node)?;
        Ok(NodeUrl { fleet: self.fleet.clone(), node, moment: None }.keys())
    }

    /// Writes copies of this node's lease under other names, as if they were further nodes.
    pub(super) fn add_nodes(&self, like: &str, count: u32) -> anyhow::Result<()> {
        self.runtime.block_on(async {
            let lease = LeaseStore::new(self.store.clone(), &self.keys(like)?).read().await?;
            let doc = lease.context("the node that was shipped has a lease")?.doc;
            for number in 0..count {
                let name = format!("vm-{number:03}");
                let keys = self.keys(&name)?;
                let doc = LeaseDoc { node: NodeId::new(&name)?, ..doc.clone() };
                LeaseStore::new(self.store.clone(), &keys).swap(&doc, None).await?;
            }
            Ok(())
        })
    }

    /// Restores a node's newest point with Litestream alone, in milliseconds.
    #[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
    pub(super) fn restore(&self, node: &str, to: &Path, checked: bool) -> anyhow::Result<f64> {
        std::fs::create_dir(to)?;
        let mut command = Command::new(self.litestream.path());
        command.args(["restore", "-json"]);
        if checked {
            command.args(["-integrity-check", "quick"]);
        }
        // The first epoch: one sidecar shipped each node.
        let prefix = self.keys(node)?.epoch(tidemill_model::Epoch::FIRST);
        let endpoint = self.bucket.endpoint();
        let url = format!("s3://{BUCKET}/{prefix}?endpoint={endpoint}&force-path-style=true");
        command.arg("-o").arg(to.join("workflow.db")).arg(url);
        self.reach(&mut command);
        let since = Instant::now();
        let output = command.output().context("run litestream")?;
        let took = since.elapsed();
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "litestream restore: {said}");
        std::fs::remove_dir_all(to)?;
        Ok(took.as_secs_f64() * 1e3)
    }

    /// Starts an observer with this cache.
    #[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
    pub(super) fn observe(&self, cache: &Path) -> anyhow::Result<Observer> {
        std::fs::create_dir_all(cache)?;
        let log = self.folder.join("observe.log");
        let args = ["observe", "--bucket", FLEET, "--listen", "127.0.0.1:0"];
        let mut command = self.tidemill(&args, &log)?;
        command.env("TIDEMILL_CACHE", cache);
        let since = Instant::now();
        let child = command.spawn().context("start the observer")?;
        let mut observer = Observer { child, base: String::new(), since };
        while observer.base.is_empty() {
            let said = std::fs::read_to_string(&log)?;
            if let Some(status) = observer.child.try_wait()? {
                bail!("the observer ended: {status}: {said}");
            }
            if let Some((line, _)) = said.split_once(" at ").and_then(|it| it.1.split_once('\n')) {
                observer.base = line.to_owned();
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(observer)
    }

    /// The command of the same build, with its output in a file.
    fn tidemill(&self, args: &[&str], log: &Path) -> anyhow::Result<Command> {
        let program = std::env::current_exe()?.with_file_name("tidemill");
        ensure!(
            program.is_file(),
            "{} is missing: build it with `cargo build --release -p tidemill-cli`",
            program.display()
        );
        let output = File::create(log)?;
        let mut command = Command::new(program);
        command.args(args);
        self.reach(&mut command);
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        Ok(command)
    }

    /// Gives a command the bucket, and keeps the surrounding shell's AWS variables from it.
    fn reach(&self, command: &mut Command) {
        let keys = Keys::development();
        command.env_clear().env("TIDEMILL_LITESTREAM", self.litestream.path());
        command.envs([
            ("AWS_ENDPOINT_URL", self.bucket.endpoint()),
            ("AWS_ACCESS_KEY_ID", keys.access_key),
            ("AWS_SECRET_ACCESS_KEY", keys.secret_key),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
        ]);
    }
}

impl Observer {
    /// The observer's memory in MiB: `VmRSS:` what it has now, `VmHWM:` the most it had.
    pub(super) fn mib(&self, name: &str) -> anyhow::Result<f64> {
        crate::measure::mib_of(&format!("/proc/{}/status", self.child.id()), name)
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        // An error means that the process has ended already.
        let _gone = terminate(&self.child);
        let _gone = self.child.wait();
    }
}

/// A child process, killed when this is dropped.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _gone = self.0.wait();
    }
}

fn terminate(child: &Child) -> anyhow::Result<()> {
    let pid = Pid::from_raw(i32::try_from(child.id())?).context("a child has a pid")?;
    Ok(kill_process(pid, Signal::TERM)?)
}

fn last_seq(db: &Path) -> anyhow::Result<Seq> {
    let file = tidemill_eventlog::open_snapshot(db)?;
    let last: i64 = file.query_row("SELECT max(seq) FROM events", [], |row| row.get(0))?;
    Ok(Seq::new(u64::try_from(last)?)?)
}
