//! The S3 server, one a test process: `tidemill bucket`, unless `TIDEMILL_TEST_S3` names another.
//!
//! `binary` is the `minio` program on a free port, `docker` MinIO in a container of the image
//! `TIDEMILL_TEST_MINIO_IMAGE`. `env` takes `TIDEMILL_TEST_S3_ENDPOINT` with `AWS_ACCESS_KEY_ID`,
//! `AWS_SECRET_ACCESS_KEY` and optionally `AWS_SESSION_TOKEN` and `AWS_REGION`.
//!
//! A server ends with the process: a program carries the scratch folder's path and falls to its
//! reaper; a container has a reaper of its own, started before it. The container's handle and the
//! client live on a runtime that is the process's, not a test's.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use testcontainers::core::{IntoContainerPort, WaitFor};
use testcontainers::runners::AsyncRunner;
use testcontainers::{ContainerAsync, GenericImage, ImageExt};
use tokio::runtime::Runtime;

use super::{scratch, tools, wait};

/// Docker Hub has MinIO's images no more.
const IMAGE: &str = "quay.io/minio/minio:RELEASE.2025-02-28T09-55-16Z";
const MINIO_KEY: &str = "minioadmin";

/// Where the server came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Development,
    Env,
    Docker,
    Binary,
}

/// What keeps the server alive.
enum Guard {
    Foreign,
    Container { _handle: Box<ContainerAsync<GenericImage>>, _reaper: Child },
    Binary { _child: Child },
}

/// A running server and a client for it.
pub(crate) struct Server {
    pub(crate) kind: Kind,
    pub(crate) endpoint: String,
    pub(crate) client: Client,
    credentials: Secret,
    region: String,
    _guard: Guard,
}

struct Secret {
    key: String,
    secret: String,
    token: Option<String>,
}

/// The runtime of the client and the container, alive as long as the process.
pub(crate) fn runtime() -> &'static Runtime {
    static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("start a runtime")
    });
    &RUNTIME
}

/// The server of this test process; started by the first test that asks.
pub(crate) fn server() -> &'static Server {
    static SERVER: LazyLock<Server> = LazyLock::new(Server::start);
    &SERVER
}

impl Server {
    fn start() -> Self {
        match choose() {
            Kind::Development => development(),
            Kind::Env => foreign(),
            Kind::Docker => container(),
            Kind::Binary => binary(),
        }
    }

    fn new(
        kind: Kind,
        endpoint: String,
        credentials: Secret,
        region: String,
        guard: Guard,
    ) -> Self {
        let mut keys = Credentials::builder()
            .access_key_id(&credentials.key)
            .secret_access_key(&credentials.secret)
            .provider_name("tests");
        keys.set_session_token(credentials.token.clone());
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(region.clone()))
            .credentials_provider(keys.build())
            .endpoint_url(&endpoint)
            .force_path_style(true)
            .build();
        let client = Client::from_conf(config);
        Self { kind, endpoint, client, credentials, region, _guard: guard }
    }

    /// What a child process needs to reach the server by the standard chain, and nothing of what
    /// the surrounding shell may say about AWS.
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        let mut variables = vec![
            ("AWS_ENDPOINT_URL", self.endpoint.clone()),
            ("AWS_ACCESS_KEY_ID", self.credentials.key.clone()),
            ("AWS_SECRET_ACCESS_KEY", self.credentials.secret.clone()),
            ("AWS_REGION", self.region.clone()),
            ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
            ("AWS_CONFIG_FILE", "/dev/null".to_owned()),
            ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null".to_owned()),
        ];
        if let Some(token) = &self.credentials.token {
            variables.push(("AWS_SESSION_TOKEN", token.clone()));
        }
        variables
    }
}

fn choose() -> Kind {
    match variable("TIDEMILL_TEST_S3").as_deref() {
        None | Some("development") => Kind::Development,
        Some("env") => Kind::Env,
        Some("docker") => Kind::Docker,
        Some("binary") => Kind::Binary,
        Some(other) => {
            panic!("TIDEMILL_TEST_S3={other}: use development, binary, docker or env")
        }
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn needed(name: &str) -> String {
    variable(name).unwrap_or_else(|| panic!("TIDEMILL_TEST_S3=env needs {name}"))
}

fn foreign() -> Server {
    let credentials = Secret {
        key: needed("AWS_ACCESS_KEY_ID"),
        secret: needed("AWS_SECRET_ACCESS_KEY"),
        token: variable("AWS_SESSION_TOKEN"),
    };
    let region = variable("AWS_REGION").unwrap_or_else(|| "us-east-1".to_owned());
    let endpoint = needed("TIDEMILL_TEST_S3_ENDPOINT");
    Server::new(Kind::Env, endpoint, credentials, region, Guard::Foreign)
}

fn minio_server(kind: Kind, endpoint: String, guard: Guard) -> Server {
    let credentials =
        Secret { key: MINIO_KEY.to_owned(), secret: MINIO_KEY.to_owned(), token: None };
    Server::new(kind, endpoint, credentials, "us-east-1".to_owned(), guard)
}

fn container() -> Server {
    let image = variable("TIDEMILL_TEST_MINIO_IMAGE").unwrap_or_else(|| IMAGE.to_owned());
    let (name, tag) = image.rsplit_once(':').expect("TIDEMILL_TEST_MINIO_IMAGE is NAME:TAG");
    let container = format!("tidemill-it-{}-{:x}", std::process::id(), super::bucket::random());
    // Before the container, so that no moment exists in which nobody would remove it.
    let reaper = scratch::reaper("cat >/dev/null; docker rm -f \"$1\"", &container);
    let request = GenericImage::new(name, tag)
        .with_exposed_port(9000.tcp())
        .with_wait_for(WaitFor::message_on_stderr("API:"))
        .with_cmd(["server", "/data"])
        .with_container_name(container)
        .with_startup_timeout(Duration::from_secs(120));
    let (handle, port) = runtime().block_on(async {
        let handle = request.start().await.expect("start MinIO in Docker");
        let port = handle.get_host_port_ipv4(9000).await.expect("ask for MinIO's port");
        (handle, port)
    });
    let guard = Guard::Container { _handle: Box::new(handle), _reaper: reaper };
    minio_server(Kind::Docker, format!("http://127.0.0.1:{port}"), guard)
}

fn binary() -> Server {
    let folder = scratch::folder("minio");
    let mut command = Command::new(tools::minio());
    command.args(["server", "--address", "127.0.0.1:0"]).arg(folder.join("data"));
    command.env_clear().env("MINIO_BROWSER", "off").env("HOME", &folder);
    let (child, endpoint) = start(&mut command, &folder.join("log"), "API: ");
    minio_server(Kind::Binary, endpoint, Guard::Binary { _child: child })
}

fn development() -> Server {
    let folder = scratch::folder("bucket");
    let mut command = Command::new(tools::tidemill());
    command.args(["bucket", "--listen", "127.0.0.1:0", "--dir"]).arg(folder.join("data"));
    let (child, endpoint) = start(&mut command, &folder.join("log"), " at ");
    let credentials =
        Secret { key: "tidemill".to_owned(), secret: "tidemill-dev".to_owned(), token: None };
    let guard = Guard::Binary { _child: child };
    Server::new(Kind::Development, endpoint, credentials, "us-east-1".to_owned(), guard)
}

/// Starts a server, and waits for the address that it says after `before`.
fn start(command: &mut Command, log: &Path, before: &str) -> (Child, String) {
    let output = File::create(log).expect("create the server's log");
    let child = command
        .stdin(Stdio::null())
        .stdout(output.try_clone().expect("share the server's log"))
        .stderr(output)
        .process_group(0)
        .spawn()
        .expect("start the server");
    let endpoint = wait::until("the server to say where it listens", wait::SOON, || {
        let text = std::fs::read_to_string(log).ok()?;
        // A whole line only: the port may still be on its way.
        let (_, rest) = text.split_once(before)?;
        let (line, _) = rest.split_once('\n')?;
        let found = line.split_whitespace().find(|word| word.contains("//127.0.0.1:"));
        found.map(|url| url.trim_end_matches(',').to_owned())
    });
    (child, endpoint)
}
