//! SIGKILL of `tidemill bucket` under a hundred racing writers: of the creates of one key at most
//! one is acknowledged, and nothing is lost that was.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_s3::primitives::ByteStream;

use crate::support::process::Process;
use crate::support::server::runtime;
use crate::support::{scratch, tools, wait};

const ROUNDS: usize = 20;
const WRITERS: usize = 100;

/// A `tidemill bucket` that is killed and started again on the same folder and port.
struct Server {
    folder: PathBuf,
    process: Process,
    address: String,
}

impl Server {
    fn start(folder: &Path, listen: &str) -> Server {
        let mut command = Command::new(tools::tidemill());
        command.args(["bucket", "--listen", listen, "--dir"]).arg(folder.join("data"));
        let log = folder.join("log");
        let process = Process::spawn("bucket", &mut command, &log);
        let address = wait::until("the bucket to say where it listens", wait::SOON, || {
            let text = std::fs::read_to_string(&log).ok()?;
            let (_, rest) = text.rsplit_once(" at http://")?;
            Some(rest.split_once(',')?.0.to_owned())
        });
        Server { folder: folder.to_owned(), process, address }
    }

    fn kill_and_start_again(&mut self) {
        self.process.kill();
        std::fs::remove_file(self.folder.join("log")).expect("remove the old log");
        *self = Server::start(&self.folder, &self.address);
    }

    /// A client that asks once: one that asked again could lose a race against itself.
    fn client(&self) -> Client {
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .credentials_provider(Credentials::new("tidemill", "tidemill-dev", None, None, "tests"))
            .endpoint_url(format!("http://{}", self.address))
            .force_path_style(true)
            .retry_config(RetryConfig::disabled())
            .timeout_config(
                TimeoutConfig::builder().operation_timeout(Duration::from_secs(20)).build(),
            )
            .build();
        Client::from_conf(config)
    }
}

/// What was acknowledged: of each key its creator, and of each writer its newest overwrite.
#[derive(Default)]
struct Acknowledged {
    creators: BTreeMap<String, usize>,
    overwrites: BTreeMap<usize, u64>,
}

#[test]
fn nothing_acknowledged_is_lost_and_of_many_creates_one_wins() {
    let folder = scratch::folder("bucket-kills");
    let mut server = Server::start(&folder, "127.0.0.1:0");
    let acknowledged = Mutex::new(Acknowledged::default());
    let mut interrupted = 0;
    for round in 0..ROUNDS {
        // Each round dies after another number of acknowledgements, from the first on.
        let last = round * 4;
        let (answers, errors) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let client = server.client();
        runtime().block_on(async {
            let mut writers = tokio::task::JoinSet::new();
            for writer in 0..WRITERS {
                writers.spawn(write(client.clone(), round, writer));
            }
            while let Some(wrote) = writers.join_next().await {
                let wrote = wrote.expect("a writer");
                let mut acknowledged = acknowledged.lock().expect("no panic");
                note(&mut acknowledged, round, &wrote);
                if wrote.failed {
                    errors.fetch_add(1, Ordering::Relaxed);
                }
                if answers.fetch_add(1, Ordering::Relaxed) == last {
                    server.process.kill();
                }
            }
        });
        interrupted += usize::from(errors.into_inner() > 0);
        server.kill_and_start_again();
        check(&server.client(), &acknowledged.lock().expect("no panic"));
    }
    let acknowledged = acknowledged.into_inner().expect("no panic");
    assert!(interrupted >= ROUNDS / 2, "only {interrupted} kills met a write");
    assert!(!acknowledged.creators.is_empty() && !acknowledged.overwrites.is_empty());
}

struct Wrote {
    writer: usize,
    created: bool,
    overwrote: Option<u64>,
    failed: bool,
}

/// Races for the round's key, then overwrites a key of its own.
async fn write(client: Client, round: usize, writer: usize) -> Wrote {
    let put = |key: String, body: String| {
        client.put_object().bucket("dev").key(key).body(ByteStream::from(body.into_bytes()))
    };
    let create = put(format!("race/{round}"), writer.to_string()).if_none_match("*").send().await;
    let refused = create.as_ref().err().and_then(|error| error.raw_response());
    let lost = refused.is_some_and(|reply| reply.status().as_u16() == 412);
    let count = u64::try_from(round).expect("few rounds");
    let overwrite = put(format!("own/{writer}"), count.to_string()).send().await;
    Wrote {
        writer,
        created: create.is_ok(),
        overwrote: overwrite.is_ok().then_some(count),
        failed: (create.is_err() && !lost) || overwrite.is_err(),
    }
}

fn note(acknowledged: &mut Acknowledged, round: usize, wrote: &Wrote) {
    if wrote.created {
        let before = acknowledged.creators.insert(format!("race/{round}"), wrote.writer);
        assert_eq!(before, None, "two creates of one key were acknowledged");
    }
    if let Some(count) = wrote.overwrote {
        acknowledged.overwrites.insert(wrote.writer, count);
    }
}

fn check(client: &Client, acknowledged: &Acknowledged) {
    for (key, writer) in &acknowledged.creators {
        assert_eq!(read(client, key), writer.to_string(), "{key}");
    }
    for (writer, count) in &acknowledged.overwrites {
        let stored: u64 = read(client, &format!("own/{writer}")).parse().expect("a whole body");
        assert!(stored >= *count, "writer {writer}: {stored} is older than {count}");
    }
}

fn read(client: &Client, key: &str) -> String {
    runtime().block_on(async {
        let reply = client.get_object().bucket("dev").key(key).send().await;
        let body = reply.unwrap_or_else(|e| panic!("{key} is lost: {e:?}")).body.collect().await;
        String::from_utf8(body.expect("a body").to_vec()).expect("text")
    })
}
