//! A key ring and the keys in it.

use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;
use base64ct::{Base64, Encoding as _};
use crc::{CRC_32_ISCSI, Crc};
use futures::executor::block_on;
use google_cloud_gax::paginator::ItemPaginator as _;
use google_cloud_gax::retry_policy::NeverRetry;
use google_cloud_kms_v1::Result as GoogleResult;
use google_cloud_kms_v1::client::KeyManagementService;
use google_cloud_kms_v1::model::crypto_key::CryptoKeyPurpose;
use google_cloud_kms_v1::model::crypto_key_version::CryptoKeyVersionState;
use google_cloud_kms_v1::model::{CryptoKey, CryptoKeyVersion, CryptoKeyVersionTemplate, ProtectionLevel};
use undercroft_keymgr::{
    Device, Error, ErrorKind, GcpKmsUri, Key, KeyManager, KeyUri, Secrecy, SignPrehashed, SigningKey,
    StoredKey,
};
use undercroft_keys::{KeyAlgorithm, PublicKey};

use super::credentials;
use super::custody::Custody;
use super::error::Doing;
use super::key::RingKey;
use super::version;
use crate::calls::{AT_ONCE, Calls, Failed};

/// CRC-32C, the checksum of Google's interfaces.
pub(super) const CRC32C: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

const GET: (&str, &str) = ("cloudkms.cryptoKeyVersions.get", "roles/cloudkms.viewer");

/// A key ring, opened.
#[derive(Debug)]
pub(super) struct Ring(Arc<RingInner>);

/// What keys share with their ring.
#[derive(Debug)]
pub(super) struct RingInner {
    pub(super) calls: Calls,
    client: KeyManagementService,
    /// `projects/…/locations/…/keyRings/…`
    pub(super) name: String,
    pub(super) uri: GcpKmsUri,
}

impl Ring {
    /// Opens the ring. Google is not asked yet.
    pub(super) fn open(device: &Device, uri: &GcpKmsUri, secrecy: Secrecy) -> Result<Self, Error> {
        let part = |value: &Option<String>, attribute: &str| {
            value.clone().ok_or_else(|| {
                Error::new(
                    ErrorKind::NotFound,
                    format!("device `{}`: its URI has no {attribute}; add {attribute}=… to it", device.name),
                )
            })
        };
        let name = format!(
            "projects/{}/locations/{}/keyRings/{}",
            part(&uri.project, "project")?,
            part(&uri.location, "location")?,
            part(&uri.key_ring, "key-ring")?
        );
        // URIs allow no http:// but to this machine.
        let simulator = uri.endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http://"));
        let credentials = credentials::find(simulator, secrecy, |name| std::env::var_os(name))?;
        let at_once = device.sessions.unwrap_or(AT_ONCE);
        let calls = Calls::start(&device.name, at_once, device.time_limit.duration())?;
        let (endpoint, about) = (uri.endpoint.clone(), format!("device `{}`", device.name));
        // On the thread of the calls: there credentials are renewed in the background.
        let client = block_on(calls.run(move || {
            let (credentials, endpoint, about) = (credentials.clone(), endpoint.clone(), about.clone());
            async move {
                let mut builder = KeyManagementService::builder()
                    .with_credentials(credentials.use_them()?)
                    // Calls decides what is tried again.
                    .with_retry_policy(NeverRetry);
                if let Some(endpoint) = endpoint {
                    builder = builder.with_endpoint(endpoint);
                }
                builder.build().await.map_err(|error| {
                    Failed::Finally(Error::with_source(
                        ErrorKind::Fault,
                        format!("{about}: no client"),
                        error,
                    ))
                })
            }
        }))?;
        Ok(Self(Arc::new(RingInner { calls, client, name, uri: uri.clone() })))
    }

    fn key(&self, found: Found, algorithm: KeyAlgorithm, subject: String) -> Key {
        let custody = Custody {
            ring: self.0.clone(),
            version: found.version.clone(),
            public_key: found.public_key.clone(),
            subject: subject.clone(),
        };
        let signer =
            Arc::new(RingKey::new(self.0.clone(), found.version, algorithm, found.public_key, subject));
        let digests = algorithm.signature_algorithm().digest();
        let prehashed = digests.map(|_| signer.clone() as Arc<dyn SignPrehashed>);
        Key { signer, custody: Arc::new(custody), gated: None, prehashed }
    }

    fn key_name(&self, uri: &KeyUri) -> Result<(String, Option<String>), Error> {
        let KeyUri::GcpKms(GcpKmsUri { key: Some(key), version, .. }) = uri else {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("{uri} names no key of a Google key ring; add key=… to it"),
            ));
        };
        Ok((format!("{}/cryptoKeys/{key}", self.0.name), version.clone()))
    }
}

/// A version found in a ring.
struct Found {
    version: String,
    public_key: PublicKey,
}

#[async_trait]
impl KeyManager for Ring {
    async fn create(&self, uri: &KeyUri, algorithm: KeyAlgorithm) -> Result<Key, Error> {
        let subject = uri.to_string();
        let (name, version) = self.key_name(uri)?;
        if version.is_some_and(|version| version != "1") {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("{subject} cannot be made: the first version of a key is 1; leave version away"),
            ));
        }
        let (parent, id) = (self.0.name.clone(), name.rsplit('/').next().unwrap_or_default().to_owned());
        let doing = Doing {
            what: format!("cannot make {subject}"),
            needs: ("cloudkms.cryptoKeys.create", "roles/cloudkms.admin"),
            repeatable: false,
        };
        let template = CryptoKeyVersionTemplate::new()
            .set_protection_level(ProtectionLevel::Hsm)
            .set_algorithm(version::to_google(algorithm));
        let key =
            CryptoKey::new().set_purpose(CryptoKeyPurpose::AsymmetricSign).set_version_template(template);
        self.0
            .call(doing, move |client| {
                let request = client.create_crypto_key().set_parent(&parent).set_crypto_key_id(&id);
                request.set_crypto_key(key.clone()).send()
            })
            .await?;
        let version = self.0.generated(format!("{name}/cryptoKeyVersions/1"), &subject).await?;
        version::must_sign(&version, algorithm, &subject)?;
        if version.protection_level != ProtectionLevel::Hsm {
            return Err(Error::new(
                ErrorKind::Fault,
                format!(
                    "{subject} was to be made in an HSM, and Google says {}; it is left as it is, disable it",
                    version.protection_level.name().unwrap_or("nothing")
                ),
            ));
        }
        let public_key = self.0.public_key(&version.name, algorithm, &subject).await?;
        let key = self.key(Found { version: version.name, public_key }, algorithm, subject);
        // Its first signature is verified; after that the key is known to work.
        key.signer.sign(b"undercroft: a new key signs for the first time").await?;
        Ok(key)
    }

    async fn open(&self, uri: &KeyUri, algorithm: KeyAlgorithm) -> Result<Key, Error> {
        let subject = uri.to_string();
        let (name, version) = self.key_name(uri)?;
        let version = match version {
            Some(number) => self.0.version(format!("{name}/cryptoKeyVersions/{number}"), &subject).await?,
            None => version::only_usable(self.0.versions(name, &subject).await?, &subject)?,
        };
        version::must_sign(&version, algorithm, &subject)?;
        let public_key = self.0.public_key(&version.name, algorithm, &subject).await?;
        Ok(self.key(Found { version: version.name, public_key }, algorithm, subject))
    }

    async fn list(&self) -> Result<Vec<StoredKey>, Error> {
        let parent = self.0.name.clone();
        let doing = Doing {
            what: format!("cannot list the keys of {}", self.0.name),
            needs: ("cloudkms.cryptoKeys.list", "roles/cloudkms.viewer"),
            repeatable: true,
        };
        let keys = self
            .0
            .call(doing, move |client| {
                let mut items = client.list_crypto_keys().set_parent(&parent).by_item();
                async move {
                    let mut keys = Vec::new();
                    while let Some(key) = items.next().await {
                        keys.push(key?);
                    }
                    Ok(keys)
                }
            })
            .await?;
        let mut stored = Vec::new();
        for key in keys.into_iter().filter(|key| key.purpose == CryptoKeyPurpose::AsymmetricSign) {
            let id = key.name.rsplit('/').next().unwrap_or_default().to_owned();
            for version in self.0.versions(key.name, &id).await? {
                if version.state != CryptoKeyVersionState::Enabled {
                    continue;
                }
                let algorithm = KeyAlgorithm::ALL
                    .into_iter()
                    .find(|known| version::to_google(*known) == version.algorithm);
                let public_key = match algorithm {
                    Some(algorithm) => Some(self.0.public_key(&version.name, algorithm, &id).await?),
                    None => None,
                };
                let uri = GcpKmsUri {
                    key: Some(id.clone()),
                    version: Some(version::number(&version.name).to_owned()),
                    ..self.0.uri.clone()
                };
                stored.push(StoredKey { uri: KeyUri::GcpKms(uri), public_key });
            }
        }
        Ok(stored)
    }

    async fn throwaway(&self, _algorithm: KeyAlgorithm) -> Result<Arc<dyn SigningKey>, Error> {
        Err(Error::new(
            ErrorKind::Unsupported,
            "Google Cloud KMS keeps every key that it has ever made, so that there are no throwaway keys in it",
        ))
    }
}

impl RingInner {
    /// Calls Google: `request` makes the call, once or again.
    pub(super) async fn call<T, F>(
        &self,
        doing: Doing,
        request: impl Fn(KeyManagementService) -> F + Send + 'static,
    ) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Future<Output = GoogleResult<T>> + Send,
    {
        let client = self.client.clone();
        self.calls
            .run(move || {
                let (answer, doing) = (request(client.clone()), doing.clone());
                async move { answer.await.map_err(|error| doing.failed(error)) }
            })
            .await
    }

    /// A version, with everything that Google says of it.
    pub(super) async fn version(&self, name: String, subject: &str) -> Result<CryptoKeyVersion, Error> {
        let doing = Doing { what: format!("cannot look at {subject}"), needs: GET, repeatable: true };
        self.call(doing, move |client| client.get_crypto_key_version().set_name(&name).send()).await
    }

    /// A version that has just been made, as soon as the HSM has made its key.
    async fn generated(&self, name: String, subject: &str) -> Result<CryptoKeyVersion, Error> {
        let doing = Doing { what: format!("cannot look at {subject}"), needs: GET, repeatable: true };
        let (client, subject) = (self.client.clone(), subject.to_owned());
        self.calls
            .run(move || {
                let answer = client.get_crypto_key_version().set_name(&name).send();
                let (doing, subject) = (doing.clone(), subject.clone());
                async move {
                    let version = answer.await.map_err(|error| doing.failed(error))?;
                    match version.state {
                        CryptoKeyVersionState::PendingGeneration => Err(Failed::NotDone(Error::new(
                            ErrorKind::Unavailable,
                            format!("{subject} is made but not ready yet (PENDING_GENERATION); open it in a moment"),
                        ))),
                        _ => Ok(version),
                    }
                }
            })
            .await
    }

    async fn versions(&self, key: String, subject: &str) -> Result<Vec<CryptoKeyVersion>, Error> {
        let doing = Doing {
            what: format!("cannot list the versions of {subject}"),
            needs: ("cloudkms.cryptoKeyVersions.list", "roles/cloudkms.viewer"),
            repeatable: true,
        };
        self.call(doing, move |client| {
            let mut items = client.list_crypto_key_versions().set_parent(&key).by_item();
            async move {
                let mut versions = Vec::new();
                while let Some(version) = items.next().await {
                    versions.push(version?);
                }
                Ok(versions)
            }
        })
        .await
    }

    /// The public half of a version, whole and of the expected kind.
    async fn public_key(
        &self,
        version: &str,
        algorithm: KeyAlgorithm,
        subject: &str,
    ) -> Result<PublicKey, Error> {
        let doing = Doing {
            what: format!("cannot read the public key of {subject}"),
            needs: ("cloudkms.cryptoKeyVersions.viewPublicKey", "roles/cloudkms.publicKeyViewer"),
            repeatable: true,
        };
        let name = version.to_owned();
        let answer = self.call(doing, move |client| client.get_public_key().set_name(&name).send()).await?;
        let fault = |what: &str| Error::new(ErrorKind::Fault, format!("the public key of {subject} {what}"));
        if answer.name != version {
            return Err(fault(&format!("came as that of {}", answer.name)));
        }
        if answer.pem_crc32c != Some(i64::from(CRC32C.checksum(answer.pem.as_bytes()))) {
            return Err(fault("does not have its checksum: it was changed on its way"));
        }
        let lines = answer.pem.lines().filter(|line| !line.starts_with("-----"));
        let der = Base64::decode_vec(&lines.collect::<String>()).map_err(|_| fault("is no PEM"))?;
        let key = PublicKey::from_spki(&der).map_err(|error| {
            Error::with_source(ErrorKind::Fault, format!("the public key of {subject}"), error)
        })?;
        match key.key_type() == algorithm.key_type() {
            true => Ok(key),
            false => {
                Err(fault(&format!("is of the kind {}, which is not that of {algorithm}", key.key_type())))
            }
        }
    }
}
