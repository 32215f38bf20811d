//! AWS KMS.
//!
//! A key is found by its alias or its ID and is its ARN from then on: aliases can be made to point elsewhere, and what
//! was opened, shown to be sound and logged is signed with until it is opened again. Asymmetric keys of KMS cannot leave
//! it, but whoever may administer them may let others sign; `custody.rs` collects who that is.

mod credentials;
mod custody;
mod error;
mod key;
mod keys;

use std::sync::Arc;
use std::time::Duration;

use aws_config::provider_config::ProviderConfig;
use aws_sdk_kms::Client;
use aws_sdk_kms::config::retry::RetryConfig;
use aws_sdk_kms::config::timeout::TimeoutConfig;
use aws_sdk_kms::config::{BehaviorVersion, Region};
use undercroft_keymgr::{AwsKmsUri, Backend, Device, Error, ErrorKind, KeyManager, KeyUri, Scheme, Secrecy};

use crate::calls::{AT_ONCE, Calls};
use credentials::Ambient;
pub use custody::CUSTODY_FORMAT;
use error::{Failure, sort};
use keys::AwsKms;

/// How long a call may take from asking to the answer.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// How long a connection may take to be made.
const CONNECTING: Duration = Duration::from_secs(3);

/// The backend of `awskms:` URIs.
#[derive(Clone, Copy, Debug, Default)]
pub struct AwsKmsBackend {
    /// With [`Secrecy::Strict`], only credentials that AWS itself gives to this machine or workload are used, and which
    /// it changes by itself: those of a web identity, a container's or an instance's role. Keys in the environment or in
    /// the files of a profile are refused, with where they were found.
    pub secrecy: Secrecy,
}

impl Backend for AwsKmsBackend {
    fn scheme(&self) -> Scheme {
        Scheme::AwsKms
    }

    fn open(&self, device: &Device) -> Result<Arc<dyn KeyManager>, Error> {
        let KeyUri::AwsKms(uri) = &device.uri else {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("device `{}` is no AWS KMS: {}", device.name, device.uri),
            ));
        };
        let calls = Calls::start(&device.name, device.sessions.unwrap_or(AT_ONCE), TIME_LIMIT)?;
        let service = Service { client: client(device, uri, self.secrecy)?, calls, uri: uri.clone() };
        Ok(Arc::new(AwsKms(Arc::new(service))))
    }
}

/// What all keys of a device share.
#[derive(Debug)]
struct Service {
    client: Client,
    calls: Calls,
    uri: AwsKmsUri,
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
