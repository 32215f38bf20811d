//! How AWS KMS is reached.

use std::num::NonZeroUsize;
use std::time::Duration;

use aws_config::provider_config::ProviderConfig;
use aws_sdk_kms::Client;
use aws_sdk_kms::config::retry::RetryConfig;
use aws_sdk_kms::config::timeout::TimeoutConfig;
use aws_sdk_kms::config::{BehaviorVersion, Region};
use undercroft_keymgr::{AwsKmsUri, Device, Error, ErrorKind, Secrecy, Sighting};

use crate::calls::{AT_ONCE, Calls};

use super::credentials::Ambient;

/// How long a call may take from asking to the answer.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// How long a connection may take to be made.
const CONNECTING: Duration = Duration::from_secs(3);

/// What all keys of a device share.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) client: Client,
    pub(super) calls: Calls,
    pub(super) uri: AwsKmsUri,
}

impl Service {
    /// AWS KMS as `device` names it. Nothing is asked yet.
    pub(super) fn of(device: &Device, uri: &AwsKmsUri, secrecy: Secrecy) -> Result<Self, Error> {
        let client = client(device, uri, secrecy)?;
        let calls = Calls::start(&device.name, device.sessions.unwrap_or(AT_ONCE), TIME_LIMIT)?;
        Ok(Self { client, calls, uri: uri.clone() })
    }
}

/// How long the credentials of this machine are looked for, when nobody has configured a device.
const LOOKING: Duration = Duration::from_secs(3);

/// Whether this machine has credentials for AWS.
pub(super) fn survey(secrecy: Secrecy) -> Sighting {
    let looked = Calls::start("AWS", NonZeroUsize::MIN, LOOKING).and_then(|calls| {
        let looking = calls.run(move || async move {
            Ok(Ambient::of(&ProviderConfig::default(), secrecy).sighting().await)
        });
        futures::executor::block_on(looking)
    });
    looked.unwrap_or_else(|error| Sighting::wanting("AWS credentials", error.to_string()))
}

/// A client that tries everything once: when to try again is decided in one place, `calls.rs`.
fn client(device: &Device, uri: &AwsKmsUri, secrecy: Secrecy) -> Result<Client, Error> {
    let Some(region) = uri.region.clone().map(Region::new) else {
        return Err(Error::new(
            ErrorKind::NotFound,
            format!("device `{}` is AWS KMS in no region; add region=… to its URI", device.name),
        ));
    };
    let environment = ProviderConfig::default().with_region(Some(region.clone()));
    let mut config = aws_sdk_kms::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .credentials_provider(Ambient::of(&environment, secrecy))
        .region(region)
        .retry_config(RetryConfig::disabled())
        .timeout_config(TimeoutConfig::builder().connect_timeout(CONNECTING).build());
    // Set here and not by AWS_ENDPOINT_URL: where requests go is configuration that is checked.
    config.set_endpoint_url(uri.endpoint.clone());
    Ok(Client::from_conf(config.build()))
}
