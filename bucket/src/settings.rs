//! How to reach S3: settings, credentials, and where they come from.

use std::fmt;
use std::time::Duration;

use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::ProfileFileRegionProvider;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::config::{ProvideCredentials, SharedCredentialsProvider};
use tidemill_model::Timestamp;

use crate::error::{Error, ErrorKind};
use crate::failure::innermost;

/// How to reach S3. What is not set comes from the usual AWS chain: environment, profile, instance.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The address of an S3 server, such as `http://127.0.0.1:9000`, else `AWS_ENDPOINT_URL_S3`,
    /// `AWS_ENDPOINT_URL` or the profile's; `None` for AWS itself. With an endpoint, buckets are
    /// named in the path.
    pub endpoint: Option<String>,
    /// The region, else `AWS_REGION`, the profile's or the instance's, else `us-east-1`.
    pub region: Option<String>,
    /// The credentials, else those of the chain.
    pub credentials: Option<Credentials>,
    /// How long one request may take. 10 s: longer than a slow answer of S3 (a second or two),
    /// short enough that a person who waits learns of an outage.
    pub request_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            endpoint: None,
            region: None,
            credentials: None,
            request_timeout: Duration::from_secs(10),
        }
    }
}

/// A text that is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides a text.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The text itself, to pass it on.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// Credentials as they are right now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The id of the key, which requests show.
    pub access_key_id: String,
    /// The secret of the key, which signs requests.
    pub secret_access_key: Secret,
    /// The session token of temporary credentials.
    pub session_token: Option<Secret>,
    /// When they end; `None` if they do not.
    pub expires_at: Option<Timestamp>,
}

impl Credentials {
    /// The environment that gives a child process these credentials and no others.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let mut environment = vec![
            ("AWS_ACCESS_KEY_ID", self.access_key_id.clone()),
            ("AWS_SECRET_ACCESS_KEY", self.secret_access_key.reveal().to_owned()),
            // Without this, an empty key would send the child to the instance's own identity.
            ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
        ];
        if let Some(token) = &self.session_token {
            environment.push(("AWS_SESSION_TOKEN", token.reveal().to_owned()));
        }
        environment
    }
}

/// What [`Settings`] and the chain resolved to.
pub(crate) struct Resolved {
    pub(crate) sdk: SdkConfig,
    pub(crate) endpoint: Option<String>,
    pub(crate) region: String,
    pub(crate) provider: SharedCredentialsProvider,
}

/// Refuses a machine without certificate authorities, where the S3 client panics, with or without
/// TLS: a slim container image is often such a machine.
fn check_authorities() -> Result<(), Error> {
    let found = rustls_native_certs::load_native_certs();
    if !found.certs.is_empty() {
        return Ok(());
    }
    let why = found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
    let message = format!(
        "this machine has no certificate authorities{why}: install the package ca-certificates, or \
         name a file of them in SSL_CERT_FILE"
    );
    Err(Error::new(ErrorKind::Invalid, message))
}

/// Asks the chain for what the settings leave open.
pub(crate) async fn resolve(settings: &Settings) -> Result<Resolved, Error> {
    check_authorities()?;
    let given = settings.endpoint.clone().or_else(endpoint_of_environment);
    let region = match (&settings.region, &given) {
        (Some(region), _) => RegionProviderChain::first_try(Region::new(region.clone())),
        // With an endpoint of the user's own the instance's metadata is not asked for the region:
        // outside AWS that request would only wait.
        (None, Some(_)) => RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new())
            .or_else(ProfileFileRegionProvider::new()),
        (None, None) => RegionProviderChain::default_provider(),
    };
    let region = region.or_else("us-east-1").region().await;
    // An empty variable counts as unset.
    let region = region.filter(|region| !region.as_ref().is_empty());
    let region = region.unwrap_or_else(|| Region::from_static("us-east-1"));
    let mut loader = aws_config::defaults(BehaviorVersion::latest()).region(region.clone());
    if let Some(endpoint) = &given {
        loader = loader.endpoint_url(check_endpoint(endpoint)?);
    }
    if let Some(keys) = &settings.credentials {
        loader = loader.credentials_provider(aws_sdk_s3::config::Credentials::new(
            &keys.access_key_id,
            keys.secret_access_key.reveal(),
            keys.session_token.as_ref().map(|token| token.reveal().to_owned()),
            None,
            "settings",
        ));
    }
    let sdk = loader.load().await;
    let endpoint = match sdk.endpoint_url() {
        Some(endpoint) => Some(check_endpoint(endpoint)?.to_owned()),
        None => None,
    };
    let provider = sdk.credentials_provider().ok_or_else(no_credentials)?;
    Ok(Resolved { sdk, endpoint, region: region.to_string(), provider })
}

fn endpoint_of_environment() -> Option<String> {
    ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
}

fn check_endpoint(endpoint: &str) -> Result<&str, Error> {
    let host = endpoint.strip_prefix("http://").or_else(|| endpoint.strip_prefix("https://"));
    let good = host.is_some_and(|host| {
        !host.is_empty()
            && host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_:/[]".contains(&b))
    });
    if good {
        return Ok(endpoint);
    }
    let message = format!(
        "endpoint `{endpoint}` is not an address: use http://HOST:PORT or https://HOST:PORT"
    );
    Err(Error::new(ErrorKind::Invalid, message))
}

fn no_credentials() -> Error {
    let message = "no AWS credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, \
                   or a profile";
    Error::new(ErrorKind::Invalid, message)
}

/// The credentials that the provider gives now.
pub(crate) async fn credentials(
    provider: &SharedCredentialsProvider,
) -> Result<Credentials, Error> {
    let keys = provider.provide_credentials().await.map_err(|e| match e {
        CredentialsError::CredentialsNotLoaded(_) => no_credentials().because(e),
        _ => {
            let message = format!(
                "the AWS credentials cannot be used ({}): set AWS_ACCESS_KEY_ID and \
                 AWS_SECRET_ACCESS_KEY, or a profile",
                innermost(&e)
            );
            Error::new(ErrorKind::Invalid, message).because(e)
        }
    })?;
    let expires_at = keys.expiry().and_then(|at| {
        let since = at.duration_since(std::time::UNIX_EPOCH).ok()?;
        Timestamp::from_micros(i64::try_from(since.as_micros()).ok()?).ok()
    });
    Ok(Credentials {
        access_key_id: keys.access_key_id().to_owned(),
        secret_access_key: Secret::new(keys.secret_access_key()),
        session_token: keys.session_token().map(Secret::new),
        expires_at,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_needs_a_scheme_and_no_query() {
        assert!(check_endpoint("http://127.0.0.1:9000").is_ok());
        assert!(check_endpoint("https://s3.example.org/path").is_ok());
        for bad in ["", "127.0.0.1:9000", "http://", "ftp://x", "http://x?a=b", "http://x y"] {
            assert!(check_endpoint(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_secret_is_not_shown() {
        let keys = Credentials {
            access_key_id: "id".into(),
            secret_access_key: Secret::new("hush"),
            session_token: Some(Secret::new("hush")),
            expires_at: None,
        };
        assert!(!format!("{keys:?}").contains("hush"));
        assert_eq!(keys.environment().len(), 4);
    }
}
