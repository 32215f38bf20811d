//! Making, finding and listing keys in AWS KMS.

use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_kms::types::{KeyManagerType, KeyMetadata, KeyState, KeyUsageType, OriginType};
use futures::stream::{self, StreamExt, TryStreamExt};
use undercroft_keymgr::{AwsKmsUri, Error, ErrorKind, Key, KeyManager, KeyUri, SigningKey, StoredKey};
use undercroft_keys::{KeyAlgorithm, PublicKey};

use crate::calls::Failed;
use crate::signing::Shown;

use super::custody::Custody;
use super::error::{Failure, sort};
use super::key::{AwsKey, specs};
use super::service::Service;

/// For how many days a key that we made in vain can still be had back: the fewest that AWS allows.
const PENDING_DAYS: i32 = 7;

/// How many keys are asked about at once when they are listed.
const LISTED_AT_ONCE: usize = 8;

/// AWS KMS in a region.
#[derive(Debug)]
pub(super) struct AwsKms(pub(super) Arc<Service>);

#[async_trait]
impl KeyManager for AwsKms {
    async fn create(&self, uri: &KeyUri, algorithm: KeyAlgorithm) -> Result<Key, Error> {
        let subject = uri.to_string();
        let alias = match named(uri)? {
            Named::Alias(alias) => alias,
            Named::Id(_) => {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    format!("{subject}: AWS KMS chooses the IDs of keys; name the new key by alias=…"),
                ));
            }
        };
        let (spec, _) = specs(algorithm)?;
        match self.describe(&alias, &subject, Settled::Yes).await {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
            Ok(_) => {
                return Err(Error::new(
                    ErrorKind::Exists,
                    format!("{subject} exists already; choose another alias"),
                ));
            }
        }
        let request = self
            .0
            .client
            .create_key()
            .key_usage(KeyUsageType::SignVerify)
            .key_spec(spec)
            .origin(OriginType::AwsKms)
            .description(format!("Undercroft: {}", alias.trim_start_matches("alias/")));
        let failure = Failure { subject: subject.clone(), operation: "CreateKey" };
        let made = self
            .0
            .calls
            .run(move || {
                let (request, failure) = (request.clone(), failure.clone());
                async move { request.send().await.map_err(|error| sort(&failure, error)) }
            })
            .await?;
        let Some(metadata) = made.key_metadata else {
            return Err(Error::new(
                ErrorKind::Fault,
                format!(
                    "{subject}: AWS KMS made a key and does not say which; look for keys without an alias"
                ),
            ));
        };
        let id = metadata.key_id().to_owned();
        if let Err(error) = self.name(&alias, &id, &subject).await {
            return Err(self.take_back(&id, &subject, error).await);
        }
        match self.key(metadata, algorithm, subject.clone(), Settled::No).await {
            Err(error) if error.kind() != ErrorKind::Unavailable => Err(Error::with_source(
                ErrorKind::Fault,
                format!(
                    "{subject} was made as {id}, but it is not what was asked for; delete the alias and the key"
                ),
                error,
            )),
            opened => opened,
        }
    }

    async fn open(&self, uri: &KeyUri, algorithm: KeyAlgorithm) -> Result<Key, Error> {
        let subject = uri.to_string();
        let (Named::Alias(name) | Named::Id(name)) = named(uri)?;
        let metadata = self.describe(&name, &subject, Settled::Yes).await?;
        self.key(metadata, algorithm, subject, Settled::Yes).await
    }

    async fn list(&self) -> Result<Vec<StoredKey>, Error> {
        let ids = self.ids().await?;
        stream::iter(ids)
            .map(|id| self.stored(id))
            .buffered(LISTED_AT_ONCE)
            .try_filter_map(async |stored| Ok(stored))
            .try_collect()
            .await
    }

    async fn throwaway(&self, algorithm: KeyAlgorithm) -> Result<Arc<dyn SigningKey>, Error> {
        Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "AWS KMS has no {algorithm} keys that are forgotten at once: each stays for {PENDING_DAYS} days at least, and is paid for; lint with a key in a PKCS#11 token or a TPM"
            ),
        ))
    }
}

/// Whether the key has been there for long. KMS is eventually consistent: what was made a moment ago may not be known
/// to the one who is asked next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Settled {
    Yes,
    No,
}

impl AwsKms {
    async fn describe(&self, name: &str, subject: &str, settled: Settled) -> Result<KeyMetadata, Error> {
        let request = self.0.client.describe_key().key_id(name);
        let failure = Failure { subject: subject.to_owned(), operation: "DescribeKey" };
        let answer = self.0.calls.run(move || {
            let (request, failure) = (request.clone(), failure.clone());
            async move { request.send().await.map_err(|error| patient(settled, sort(&failure, error))) }
        });
        let nothing = || Error::new(ErrorKind::Fault, format!("{subject}: AWS KMS describes nothing"));
        answer.await?.key_metadata.ok_or_else(nothing)
    }

    async fn public_key(&self, arn: &str, subject: &str, settled: Settled) -> Result<PublicKey, Error> {
        let request = self.0.client.get_public_key().key_id(arn);
        let failure = Failure { subject: subject.to_owned(), operation: "GetPublicKey" };
        let answer = self.0.calls.run(move || {
            let (request, failure) = (request.clone(), failure.clone());
            async move { request.send().await.map_err(|error| patient(settled, sort(&failure, error))) }
        });
        let answer = answer.await?;
        if answer.key_id() != Some(arn) {
            let other = answer.key_id().unwrap_or("no key");
            return Err(Error::new(
                ErrorKind::Fault,
                format!("{subject} is {arn}, but AWS gave the public key of {other}"),
            ));
        }
        let spki = answer.public_key.unwrap_or_else(|| Vec::new().into());
        PublicKey::from_spki(spki.as_ref()).map_err(|error| {
            Error::with_source(
                ErrorKind::Unsupported,
                format!("{subject} is of a kind that is not used"),
                error,
            )
        })
    }

    /// The key that `metadata` describes, if it is what it should be.
    async fn key(
        &self,
        metadata: KeyMetadata,
        algorithm: KeyAlgorithm,
        subject: String,
        settled: Settled,
    ) -> Result<Key, Error> {
        let arn = self.is_sound(&metadata, &subject)?;
        let (spec, signing) = specs(algorithm)?;
        if metadata.key_spec() != Some(&spec) {
            let found = metadata.key_spec().map_or("of no kind", |found| found.as_str());
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("{subject} is {found} and no {algorithm} key ({spec}); correct the algorithm"),
            ));
        }
        let public_key = self.public_key(&arn, &subject, settled).await?;
        if public_key.key_type() != algorithm.key_type() {
            return Err(Error::new(
                ErrorKind::Fault,
                format!("{subject} is {spec}, but its public key is {}", public_key.key_type()),
            ));
        }
        let custody = Custody {
            service: self.0.clone(),
            arn: arn.clone(),
            public_key: public_key.clone(),
            subject: subject.clone(),
        };
        let signer = Arc::new(AwsKey {
            service: self.0.clone(),
            arn,
            algorithm,
            signing,
            public_key,
            subject,
            shown: Shown::default(),
        });
        Ok(Key { signer: signer.clone(), custody: Arc::new(custody), gated: None, prehashed: Some(signer) })
    }

    /// Whether a key may be signed with: it is in the right account, ours to use, was made in KMS, and is enabled. Gives
    /// its ARN.
    fn is_sound(&self, metadata: &KeyMetadata, subject: &str) -> Result<String, Error> {
        let refused = |kind, what: String| Err(Error::new(kind, format!("{subject} {what}")));
        let Some(arn) = metadata.arn() else { return refused(ErrorKind::Fault, "has no ARN".to_owned()) };
        let account = account_of(arn);
        if let Some(wanted) = &self.0.uri.account
            && account != Some(wanted.as_str())
        {
            let account = account.unwrap_or("none");
            return refused(
                ErrorKind::Denied,
                format!(
                    "belongs to the account {account} and not to {wanted}; these are the credentials of another account"
                ),
            );
        }
        if metadata.key_usage() != Some(&KeyUsageType::SignVerify) {
            let usage = metadata.key_usage().map_or("nothing", |usage| usage.as_str());
            return refused(ErrorKind::Unsupported, format!("is for {usage} and not for SIGN_VERIFY"));
        }
        if metadata.key_manager() != Some(&KeyManagerType::Customer) {
            return refused(ErrorKind::Denied, "is managed by AWS; make a key of your own".to_owned());
        }
        match metadata.origin() {
            Some(OriginType::AwsKms | OriginType::AwsCloudhsm) => {}
            origin => {
                let origin = origin.map_or("nowhere", |origin| origin.as_str());
                return refused(
                    ErrorKind::Denied,
                    format!(
                        "has its key material from {origin}, so that it is or was elsewhere, too; make a new key in KMS"
                    ),
                );
            }
        }
        match metadata.key_state() {
            Some(KeyState::Enabled) => Ok(arn.to_owned()),
            Some(KeyState::Disabled) => refused(
                ErrorKind::Denied,
                "is in the state Disabled; `aws kms enable-key` makes it sign again".to_owned(),
            ),
            Some(state @ (KeyState::PendingDeletion | KeyState::PendingReplicaDeletion)) => refused(
                ErrorKind::Denied,
                format!("is in the state {state}; `aws kms cancel-key-deletion` keeps it"),
            ),
            Some(KeyState::PendingImport) => refused(
                ErrorKind::Denied,
                "is in the state PendingImport: it has no key material; make a new key in KMS".to_owned(),
            ),
            Some(state @ (KeyState::Creating | KeyState::Updating | KeyState::Unavailable)) => {
                refused(ErrorKind::Unavailable, format!("is in the state {state}; try again in a moment"))
            }
            state => {
                let state = state.map_or("none", |state| state.as_str());
                refused(ErrorKind::Denied, format!("is in the state {state}"))
            }
        }
    }

    async fn name(&self, alias: &str, id: &str, subject: &str) -> Result<(), Error> {
        let request = self.0.client.create_alias().alias_name(alias).target_key_id(id);
        let failure = Failure { subject: subject.to_owned(), operation: "CreateAlias" };
        let named = self.0.calls.run(move || {
            let (request, failure) = (request.clone(), failure.clone());
            async move { request.send().await.map_err(|error| patient(Settled::No, sort(&failure, error))) }
        });
        named.await.map(drop)
    }

    /// Lets AWS delete a key that was made in vain: it never had a name, and nobody has used it. Gives the error that
    /// tells why, and what became of the key.
    async fn take_back(&self, id: &str, subject: &str, why: Error) -> Error {
        let request = self.0.client.schedule_key_deletion().key_id(id).pending_window_in_days(PENDING_DAYS);
        let failure = Failure { subject: id.to_owned(), operation: "ScheduleKeyDeletion" };
        let scheduled = self.0.calls.run(move || {
            let (request, failure) = (request.clone(), failure.clone());
            async move { request.send().await.map_err(|error| patient(Settled::No, sort(&failure, error))) }
        });
        let left = match scheduled.await {
            Ok(_) => format!("the new key {id} is deleted in {PENDING_DAYS} days"),
            Err(error) => format!("the new key {id} is left over, since it could not be deleted ({error})"),
        };
        Error::with_source(why.kind(), format!("{subject} got no key; {left}"), why)
    }

    async fn ids(&self) -> Result<Vec<String>, Error> {
        let mut ids = Vec::new();
        let mut marker = None;
        loop {
            let request = self.0.client.list_keys().set_marker(marker);
            let failure = Failure { subject: self.0.uri.to_string(), operation: "ListKeys" };
            let page = self.0.calls.run(move || {
                let (request, failure) = (request.clone(), failure.clone());
                async move { request.send().await.map_err(|error| sort(&failure, error)) }
            });
            let page = page.await?;
            ids.extend(page.keys().iter().filter_map(|key| key.key_id().map(str::to_owned)));
            match page.next_marker {
                Some(next) if page.truncated => marker = Some(next),
                _ => return Ok(ids),
            }
        }
    }

    /// A listed key; none if it does not sign, is going to be deleted, or may not be looked at.
    async fn stored(&self, id: String) -> Result<Option<StoredKey>, Error> {
        let uri = KeyUri::AwsKms(AwsKmsUri { key_id: Some(id.clone()), alias: None, ..self.0.uri.clone() });
        let subject = uri.to_string();
        let metadata = match self.describe(&id, &subject, Settled::Yes).await {
            Err(error) if matches!(error.kind(), ErrorKind::Denied | ErrorKind::NotFound) => return Ok(None),
            described => described?,
        };
        let gone = matches!(
            metadata.key_state(),
            Some(KeyState::PendingDeletion | KeyState::PendingReplicaDeletion | KeyState::PendingImport)
        );
        let Some(arn) = metadata.arn().filter(|_| !gone) else { return Ok(None) };
        if metadata.key_usage() != Some(&KeyUsageType::SignVerify) {
            return Ok(None);
        }
        match self.public_key(arn, &subject, Settled::Yes).await {
            Ok(public_key) => Ok(Some(StoredKey { uri, public_key: Some(public_key) })),
            Err(error) if error.kind() == ErrorKind::Unavailable => Err(error),
            Err(_) => Ok(Some(StoredKey { uri, public_key: None })),
        }
    }
}

/// What a URI calls a key, as KMS wants it.
enum Named {
    Alias(String),
    Id(String),
}

fn named(uri: &KeyUri) -> Result<Named, Error> {
    match uri {
        KeyUri::AwsKms(AwsKmsUri { alias: Some(alias), key_id: None, .. }) => {
            Ok(Named::Alias(format!("alias/{alias}")))
        }
        KeyUri::AwsKms(AwsKmsUri { alias: None, key_id: Some(id), .. }) => Ok(Named::Id(id.clone())),
        KeyUri::AwsKms(AwsKmsUri { alias: None, key_id: None, .. }) => Err(Error::new(
            ErrorKind::NotFound,
            format!("{uri} names AWS KMS but no key; add alias=… or key-id=… to it"),
        )),
        KeyUri::AwsKms(_) => Err(Error::new(
            ErrorKind::NotFound,
            format!("{uri} has an alias and a key ID, which may be two keys; remove one of them"),
        )),
        _ => Err(Error::new(ErrorKind::Unsupported, format!("{uri} names no key of AWS KMS"))),
    }
}

/// The account of `arn:aws:kms:region:account:key/…`.
fn account_of(arn: &str) -> Option<&str> {
    arn.split(':').nth(4)
}

/// A new key that is not found is looked for again: it is there, and nothing was done with it.
fn patient(settled: Settled, failed: Failed) -> Failed {
    match failed {
        Failed::Finally(error) if settled == Settled::No && error.kind() == ErrorKind::NotFound => {
            Failed::NotDone(error)
        }
        failed => failed,
    }
}
