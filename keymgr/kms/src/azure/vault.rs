//! A vault and the keys in it.

use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;
use azure_core::http::headers::HeaderName;
use azure_core::http::{ClientOptions, Pager, RetryOptions, Transport as AzureTransport};
use azure_core::time::parse_rfc7231;
use azure_security_keyvault_keys::models::{
    CreateKeyParameters, CurveName, Key as AzureKey, KeyAttributes, KeyClientGetKeyOptions, KeyOperation,
    KeyType as AzureKeyType, ListKeyPropertiesResult,
};
use azure_security_keyvault_keys::{KeyClient, KeyClientOptions};
use futures::TryStreamExt as _;
use undercroft_keymgr::{
    AzureKvUri, Device, Error, ErrorKind, Key, KeyManager, KeyUri, Secrecy, SignPrehashed, SigningKey,
    StoredKey,
};
use undercroft_keys::{KeyAlgorithm, KeyType, PublicKey};

use super::credentials::{self, Source};
use super::custody::Custody;
use super::error::Doing;
use super::jwk;
use super::key::VaultKey;
use super::transport::Transport;
use super::version::{self, Listed};
use crate::calls::{AT_ONCE, Calls};

const READ: (&str, &str) = ("Microsoft.KeyVault/vaults/keys/read", "Key Vault Crypto User");

/// A vault, opened.
#[derive(Debug)]
pub(super) struct Vault(Arc<VaultInner>);

/// What keys share with their vault.
pub(super) struct VaultInner {
    pub(super) calls: Calls,
    client: Arc<KeyClient>,
    pub(super) host: String,
    pub(super) uri: AzureKvUri,
    source: Source,
}

impl Vault {
    /// Opens the vault. It is not asked yet.
    pub(super) fn open(device: &Device, uri: &AzureKvUri, secrecy: Secrecy) -> Result<Self, Error> {
        let about = format!("device `{}`", device.name);
        let Some(host) = uri.vault.clone() else {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("{about}: its URI names no vault; add vault=NAME.vault.azure.net to it"),
            ));
        };
        // URIs allow no http:// but to this machine.
        let simulator = uri.endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http://"));
        let (source, credential) = credentials::find(simulator, secrecy, |name| std::env::var_os(name))?;
        let transport = Transport::to_vault(&host, uri.endpoint.as_deref())?;
        let options = KeyClientOptions {
            client_options: ClientOptions {
                transport: Some(AzureTransport::new(Arc::new(transport))),
                // Calls decides what is tried again.
                retry: RetryOptions::none(),
                ..ClientOptions::default()
            },
            ..KeyClientOptions::default()
        };
        let client = KeyClient::new(&format!("https://{host}/"), credential, Some(options))
            .map_err(|error| Error::with_source(ErrorKind::Fault, format!("{about}: no client"), error))?;
        let calls =
            Calls::start(&device.name, device.sessions.unwrap_or(AT_ONCE), device.time_limit.duration())?;
        Ok(Self(Arc::new(VaultInner { calls, client: Arc::new(client), host, uri: uri.clone(), source })))
    }

    fn key(&self, found: Found, algorithm: KeyAlgorithm, subject: String) -> Key {
        let Found { name, version, public_key } = found;
        let custody = Custody {
            vault: self.0.clone(),
            name: name.clone(),
            version: version.clone(),
            public_key: public_key.clone(),
            subject: subject.clone(),
        };
        let signer = Arc::new(VaultKey::new(self.0.clone(), (name, version), algorithm, public_key, subject));
        let digests = algorithm.signature_algorithm().digest();
        let prehashed = digests.map(|_| signer.clone() as Arc<dyn SignPrehashed>);
        Key { signer, custody: Arc::new(custody), gated: None, prehashed }
    }

    /// The versions of a key.
    ///
    /// # Errors
    /// `NotFound` if there is no such key, and `Denied` if it was deleted and could be brought back.
    async fn must_have_versions(&self, name: &str, subject: &str) -> Result<Vec<Listed>, Error> {
        let versions = self.0.versions(name, subject).await?;
        if !versions.is_empty() {
            return Ok(versions);
        }
        Err(match self.0.is_deleted(name, subject).await? {
            true => Error::new(
                ErrorKind::Denied,
                format!(
                    "{subject} was deleted, and the vault keeps it for now; recover it, or name another key"
                ),
            ),
            false => {
                Error::new(ErrorKind::NotFound, format!("{subject} is not in the vault {}", self.0.host))
            }
        })
    }
}

/// A version found in a vault.
struct Found {
    name: String,
    version: String,
    public_key: PublicKey,
}

fn key_of(uri: &KeyUri) -> Result<(String, Option<String>), Error> {
    match uri {
        KeyUri::AzureKv(AzureKvUri { key: Some(key), version, .. }) => Ok((key.clone(), version.clone())),
        _ => Err(Error::new(ErrorKind::NotFound, format!("{uri} names no key of a vault; add key=… to it"))),
    }
}

#[async_trait]
impl KeyManager for Vault {
    /// A vault that is asked to make a key which is there makes another version of it; so it is asked what is there
    /// before, and again after.
    async fn create(&self, uri: &KeyUri, algorithm: KeyAlgorithm) -> Result<Key, Error> {
        let subject = uri.to_string();
        let (name, version) = key_of(uri)?;
        if version.is_some() {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("{subject} cannot be made: vaults choose the versions of keys; leave version away"),
            ));
        }
        let parameters = parameters(algorithm).ok_or_else(|| {
            Error::new(ErrorKind::Unsupported, format!("{subject}: Azure's vaults make no {algorithm} keys"))
        })?;
        let exists =
            |how: &str| Error::new(ErrorKind::Exists, format!("{subject} {how}; choose another name"));
        if !self.0.versions(&name, &subject).await?.is_empty() {
            return Err(exists("exists already and was not touched"));
        }
        if self.0.is_deleted(&name, &subject).await? {
            return Err(exists("is the name of a deleted key, which the vault keeps for now"));
        }
        let doing = Doing {
            what: format!("cannot make {subject}"),
            needs: ("Microsoft.KeyVault/vaults/keys/create/action", "Key Vault Crypto Officer"),
            repeatable: false,
        };
        let made = {
            let name = name.clone();
            self.0
                .call(doing, move |client| {
                    let (name, parameters) = (name.clone(), parameters.clone());
                    async move { client.create_key(&name, parameters.try_into()?, None).await?.into_model() }
                })
                .await?
        };
        let kid = made.key.as_ref().and_then(|key| key.kid.clone()).unwrap_or_default();
        let id = kid.rsplit('/').next().unwrap_or_default().to_owned();
        let versions = self.0.versions(&name, &subject).await?;
        if versions.len() != 1 || versions.iter().any(|version| version.id != id) {
            return Err(exists(
                "was made by somebody else at the same time, so that it has two versions, neither of which is used here",
            ));
        }
        let public_key = version::must_sign(&made, &self.0.kid(&name, &id), algorithm, &subject)?;
        if !version::is_in_hsm(&made) {
            return Err(Error::new(
                ErrorKind::Fault,
                format!(
                    "{subject} was to be made in an HSM, and the vault says that it is not; it is left as it is, delete it"
                ),
            ));
        }
        let key = self.key(Found { name, version: id, public_key }, algorithm, subject);
        // Its first signature is verified; after that the key is known to work.
        key.signer.sign(b"undercroft: a new key signs for the first time").await?;
        Ok(key)
    }

    async fn open(&self, uri: &KeyUri, algorithm: KeyAlgorithm) -> Result<Key, Error> {
        let subject = uri.to_string();
        let (name, version) = key_of(uri)?;
        let versions = self.must_have_versions(&name, &subject).await?;
        let chosen = version::choose(&versions, version.as_deref(), &subject)?;
        let key = self.0.key(&name, &chosen.id, &subject).await?;
        let public_key = version::must_sign(&key, &self.0.kid(&name, &chosen.id), algorithm, &subject)?;
        Ok(self.key(Found { name, version: chosen.id, public_key }, algorithm, subject))
    }

    async fn list(&self) -> Result<Vec<StoredKey>, Error> {
        let doing = Doing {
            what: format!("cannot list the keys of the vault {}", self.0.host),
            needs: READ,
            repeatable: true,
        };
        let names = self
            .0
            .call(doing, |client| async move {
                let mut items = client.list_key_properties(None)?;
                let mut names = Vec::new();
                while let Some(item) = items.try_next().await? {
                    let kid = item.kid.unwrap_or_default();
                    names.extend(kid.split("/keys/").nth(1).map(str::to_owned));
                }
                Ok(names)
            })
            .await?;
        let mut stored = Vec::new();
        for name in names {
            for version in self.0.versions(&name, &name).await? {
                if version.unusable.is_some() {
                    continue;
                }
                let key = self.0.key(&name, &version.id, &name).await?;
                let web_key = key.key.unwrap_or_default();
                if !web_key.key_ops.iter().flatten().any(|operation| operation == "sign") {
                    continue;
                }
                let uri =
                    AzureKvUri { key: Some(name.clone()), version: Some(version.id), ..self.0.uri.clone() };
                stored.push(StoredKey {
                    uri: KeyUri::AzureKv(uri),
                    public_key: jwk::public_key(&web_key).ok(),
                });
            }
        }
        Ok(stored)
    }

    async fn throwaway(&self, _algorithm: KeyAlgorithm) -> Result<Arc<dyn SigningKey>, Error> {
        Err(Error::new(
            ErrorKind::Unsupported,
            "a vault keeps deleted keys for days, so that there are no throwaway keys in it",
        ))
    }
}

impl VaultInner {
    /// Calls the vault: `request` makes the call, once or again.
    pub(super) async fn call<T, F>(
        &self,
        doing: Doing,
        request: impl Fn(Arc<KeyClient>) -> F + Send + 'static,
    ) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Future<Output = azure_core::Result<T>> + Send,
    {
        let client = self.client.clone();
        self.calls
            .run(move || {
                let (answer, doing) = (request(client.clone()), doing.clone());
                async move { answer.await.map_err(|error| doing.failed(error)) }
            })
            .await
    }

    /// How the vault names a version.
    pub(super) fn kid(&self, name: &str, version: &str) -> String {
        format!("https://{}/keys/{name}/{version}", self.host)
    }

    /// Everything that the vault says of a version.
    pub(super) async fn key(&self, name: &str, version: &str, subject: &str) -> Result<AzureKey, Error> {
        let doing = Doing { what: format!("cannot look at {subject}"), needs: READ, repeatable: true };
        let (name, version) = (name.to_owned(), version.to_owned());
        self.call(doing, move |client| {
            let name = name.clone();
            let options = KeyClientGetKeyOptions {
                key_version: Some(version.clone()),
                ..KeyClientGetKeyOptions::default()
            };
            async move { client.get_key(&name, Some(options)).await?.into_model() }
        })
        .await
    }

    async fn versions(&self, name: &str, subject: &str) -> Result<Vec<Listed>, Error> {
        let doing =
            Doing { what: format!("cannot list the versions of {subject}"), needs: READ, repeatable: true };
        let name = name.to_owned();
        let listed = self
            .call(doing, move |client| {
                let name = name.clone();
                async move { listed(client.list_key_properties_versions(&name, None)?).await }
            })
            .await;
        match listed {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            other => other,
        }
    }

    async fn is_deleted(&self, name: &str, subject: &str) -> Result<bool, Error> {
        let doing = Doing {
            what: format!("cannot see whether {subject} was deleted"),
            needs: READ,
            repeatable: true,
        };
        let name = name.to_owned();
        let answer = self
            .call(doing, move |client| {
                let name = name.clone();
                async move { client.get_deleted_key(&name, None).await.map(|_| ()) }
            })
            .await;
        match answer {
            Ok(()) => Ok(true),
            // Who may not see deleted keys is told by the vault when it matters (ObjectIsDeletedButRecoverable).
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Denied) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl std::fmt::Debug for VaultInner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Vault({}, {:?}, {:?})", self.host, self.source, self.calls)
    }
}

async fn listed(pager: Pager<ListKeyPropertiesResult>) -> azure_core::Result<Vec<Listed>> {
    let mut pages = pager.into_pages();
    let mut versions = Vec::new();
    while let Some(page) = pages.try_next().await? {
        let date = page.headers().get_optional_str(&HeaderName::from_static("date"));
        let now = date.and_then(|date| parse_rfc7231(date).ok());
        versions.extend(page.into_model()?.value.into_iter().map(|properties| Listed::of(properties, now)));
    }
    Ok(versions)
}

/// A key in an HSM that signs and never leaves it; none for algorithms that vaults do not have.
fn parameters(algorithm: KeyAlgorithm) -> Option<CreateKeyParameters> {
    let (kty, curve, key_size) = match algorithm.key_type() {
        KeyType::P256 => (AzureKeyType::EcHsm, Some(CurveName::P256), None),
        KeyType::P384 => (AzureKeyType::EcHsm, Some(CurveName::P384), None),
        KeyType::Rsa(bits) => (AzureKeyType::RsaHsm, None, Some(i32::from(bits.bits()))),
        KeyType::Ed25519 => return None,
    };
    Some(CreateKeyParameters {
        kty: Some(kty),
        curve,
        key_size,
        key_ops: Some(vec![KeyOperation::Sign, KeyOperation::Verify]),
        key_attributes: Some(KeyAttributes { exportable: Some(false), ..KeyAttributes::default() }),
        ..CreateKeyParameters::default()
    })
}
