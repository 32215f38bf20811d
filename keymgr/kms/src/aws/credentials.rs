//! Where AWS credentials come from: the places that every program on AWS looks at, in the same order.

use std::fmt;

use aws_config::ecs::EcsCredentialsProvider;
use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::imds::credentials::ImdsCredentialsProvider;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::web_identity_token::WebIdentityTokenCredentialsProvider;
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use undercroft_keymgr::{Secrecy, Sighting};

/// A place that credentials are looked for in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Environment,
    Profile,
    WebIdentity,
    Container,
    Instance,
}

impl Source {
    /// Whether somebody wrote them down there, or may have. A profile can also name a role; which of both it does is
    /// not told, so that it counts as written.
    fn is_written(self) -> bool {
        matches!(self, Self::Environment | Self::Profile)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Environment => "the environment variables AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
            Self::Profile => {
                "a profile in ~/.aws or in the files of AWS_CONFIG_FILE and AWS_SHARED_CREDENTIALS_FILE"
            }
            Self::WebIdentity => "the token file of AWS_WEB_IDENTITY_TOKEN_FILE",
            Self::Container => "the container's credentials endpoint",
            Self::Instance => "the instance's metadata service",
        })
    }
}

/// The credentials of wherever the program runs. Each time they are needed anew, they are judged anew.
#[derive(Debug)]
pub(super) struct Ambient {
    places: [(Source, SharedCredentialsProvider); 5],
    secrecy: Secrecy,
}

impl Ambient {
    /// The default chain of `aws-config`, place by place, so that what is found is known by its place.
    pub(super) fn of(environment: &ProviderConfig, secrecy: Secrecy) -> Self {
        let profile = ProfileFileCredentialsProvider::builder().configure(environment).build();
        let web_identity = WebIdentityTokenCredentialsProvider::builder().configure(environment).build();
        let container = EcsCredentialsProvider::builder().configure(environment).build();
        let instance = ImdsCredentialsProvider::builder().configure(environment).build();
        let places = [
            (
                Source::Environment,
                SharedCredentialsProvider::new(EnvironmentVariableCredentialsProvider::new()),
            ),
            (Source::Profile, SharedCredentialsProvider::new(profile)),
            (Source::WebIdentity, SharedCredentialsProvider::new(web_identity)),
            (Source::Container, SharedCredentialsProvider::new(container)),
            (Source::Instance, SharedCredentialsProvider::new(instance)),
        ];
        Self { places, secrecy }
    }

    async fn find(&self) -> std::result::Result<(Source, Credentials), CredentialsError> {
        for (source, place) in &self.places {
            match place.provide_credentials().await {
                Ok(_) if self.secrecy == Secrecy::Strict && source.is_written() => {
                    return Err(CredentialsError::invalid_configuration(Refused(*source)));
                }
                Err(CredentialsError::CredentialsNotLoaded(_)) => {}
                found => return found.map(|found| (*source, found)),
            }
        }
        Err(CredentialsError::not_loaded_no_source())
    }

    /// Where the credentials of this machine come from, or how it could have some.
    pub(super) async fn sighting(&self) -> Sighting {
        const WHAT: &str = "AWS credentials";
        match self.find().await {
            Ok((source, _)) => Sighting::usable(format!("{WHAT}, from {source}"), "awskms:region=…"),
            Err(error @ CredentialsError::CredentialsNotLoaded(_)) => Sighting::wanting(
                WHAT,
                format!("{error}: give the machine an instance profile, or the workload a role"),
            ),
            Err(error) => Sighting::wanting(WHAT, told(&error)),
        }
    }
}

impl ProvideCredentials for Ambient {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async { self.find().await.map(|(_, found)| found) })
    }
}

/// An error and what caused it.
fn told(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", told(source)),
        None => error.to_string(),
    }
}

/// Credentials that strict secrecy does not take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refused(Source);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the credentials come from {}, which --strict refuses; remove them, and give this machine or workload a role",
            self.0
        )
    }
}

impl std::error::Error for Refused {}
