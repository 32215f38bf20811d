//! The one place where a key URI meets the backend that opens it.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use undercroft_keys::KeyAlgorithm;

use crate::{Device, Error, ErrorKind, Key, KeyManager, KeyUri, Scheme, Sighting};

/// Opens devices of one scheme. Binaries register the backends that they were built with.
pub trait Backend: Send + Sync {
    /// The scheme that it serves.
    fn scheme(&self) -> Scheme;

    /// Opens a device. Called once a device and process; the PIN is tried once at most.
    ///
    /// # Errors
    /// As [`KeyManager`]'s methods.
    fn open(&self, device: &Device) -> Result<Arc<dyn KeyManager>, Error>;

    /// Looks for what this machine has of its kind, where distributions and vendors put it. Nothing is changed, no PIN is
    /// tried.
    fn survey(&self) -> Vec<Sighting>;
}

/// The devices of an installation, opened when first used.
pub struct Tokens {
    devices: Vec<Device>,
    backends: Vec<Box<dyn Backend>>,
    opened: Mutex<HashMap<String, Arc<dyn KeyManager>>>,
}

impl Tokens {
    /// The devices that configuration gives and the backends that this program was built with.
    ///
    /// # Errors
    /// Two devices have one name.
    pub fn new(devices: Vec<Device>, backends: Vec<Box<dyn Backend>>) -> Result<Self, Error> {
        let mut names: Vec<_> = devices.iter().map(|device| device.name.as_str()).collect();
        names.sort_unstable();
        if let Some(name) = names.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0]) {
            return Err(Error::new(
                ErrorKind::Exists,
                format!("two devices are called `{name}`; give each its own name"),
            ));
        }
        Ok(Self { devices, backends, opened: Mutex::default() })
    }

    /// The device of that name.
    ///
    /// # Errors
    /// `NotFound`, with the names that there are.
    pub fn device(&self, name: &str) -> Result<&Device, Error> {
        self.devices.iter().find(|device| device.name == name).ok_or_else(|| {
            Error::new(
                ErrorKind::NotFound,
                format!("no device is called `{name}`; known are {}", self.names()),
            )
        })
    }

    /// All devices, in the order of the configuration.
    pub fn devices(&self) -> &[Device] {
        &self.devices
    }

    /// The key manager of a device, which is opened if it is not yet.
    ///
    /// # Errors
    /// Those of the backend; `Unsupported` if this program was built without it, with the feature to build with.
    pub fn manager(&self, device: &Device) -> Result<Arc<dyn KeyManager>, Error> {
        // Held while opening, so that one device is opened once and its PIN tried once.
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(manager) = opened.get(&device.name) {
            return Ok(manager.clone());
        }
        let scheme = device.uri.scheme();
        let backend = self.backends.iter().find(|backend| backend.scheme() == scheme).ok_or_else(|| {
            Error::new(
                ErrorKind::Unsupported,
                format!(
                    "device `{}` needs the {scheme} backend, which this program was built without; rebuild it with --features {scheme}",
                    device.name
                ),
            )
        })?;
        let manager = backend.open(device)?;
        opened.insert(device.name.clone(), manager.clone());
        Ok(manager)
    }

    /// The device that holds the key of `uri`, and the URI completed by the device's.
    ///
    /// # Errors
    /// `NotFound` if no device agrees with the URI or several do.
    pub fn locate(&self, uri: &KeyUri) -> Result<(&Device, KeyUri), Error> {
        let mut matches =
            self.devices.iter().filter_map(|device| Some((device, uri.completed_by(&device.uri).ok()?)));
        match (matches.next(), matches.next()) {
            (Some(found), None) => Ok(found),
            (None, _) => Err(Error::new(
                ErrorKind::NotFound,
                format!("no device holds {uri}; known are {}; add a [[device]] for it", self.names()),
            )),
            (Some((first, _)), Some((second, _))) => Err(Error::new(
                ErrorKind::NotFound,
                format!(
                    "{uri} may be in device `{}` or in `{}`; name the token in the URI",
                    first.name, second.name
                ),
            )),
        }
    }

    /// Opens the key that `uri` names.
    ///
    /// # Errors
    /// As [`Tokens::locate`], [`Tokens::manager`] and [`KeyManager::open`].
    pub async fn open(&self, uri: &KeyUri, algorithm: KeyAlgorithm) -> Result<Key, Error> {
        let (device, uri) = self.locate(uri)?;
        self.manager(device)?.open(&uri, algorithm).await
    }

    /// Makes the key that `uri` names.
    ///
    /// # Errors
    /// As [`Tokens::locate`], [`Tokens::manager`] and [`KeyManager::create`].
    pub async fn create(&self, uri: &KeyUri, algorithm: KeyAlgorithm) -> Result<Key, Error> {
        let (device, uri) = self.locate(uri)?;
        self.manager(device)?.create(&uri, algorithm).await
    }

    fn names(&self) -> String {
        match self.devices.is_empty() {
            true => "none".to_owned(),
            false => self.devices.iter().map(|d| format!("`{}`", d.name)).collect::<Vec<_>>().join(", "),
        }
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tokens({})", self.names())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(name: &str, uri: &str) -> Device {
        Device { name: name.into(), uri: uri.parse().unwrap(), pin: None, sessions: None, attestation: None }
    }

    fn tokens() -> Tokens {
        let devices = vec![
            device("roots", "pkcs11:token=roots?module-path=/lib/hsm.so"),
            device("prod", "pkcs11:token=prod?module-path=/lib/hsm.so"),
            device("edge", "tpm:tcti=device:/dev/tpmrm0"),
        ];
        Tokens::new(devices, Vec::new()).unwrap()
    }

    #[test]
    fn a_key_is_located_by_what_its_uri_says() {
        let tokens = tokens();
        let (device, uri) = tokens.locate(&"pkcs11:token=prod;object=ca".parse().unwrap()).unwrap();
        assert_eq!(device.name, "prod");
        assert_eq!(uri.to_string(), "pkcs11:token=prod;object=ca?module-path=/lib/hsm.so");
        assert_eq!(tokens.locate(&"tpm:handle=0x81010001".parse().unwrap()).unwrap().0.name, "edge");
    }

    #[test]
    fn none_and_several_are_refused_by_name() {
        let tokens = tokens();
        let refusal = |uri: &str| tokens.locate(&uri.parse().unwrap()).unwrap_err().to_string();
        assert!(refusal("pkcs11:token=test;object=ca").contains("known are `roots`, `prod`, `edge`"));
        assert!(refusal("pkcs11:object=ca").contains("device `roots` or in `prod`"));
        assert!(tokens.device("prud").unwrap_err().to_string().contains("`prod`"));
    }

    #[test]
    fn a_missing_backend_says_what_to_rebuild_with() {
        let tokens = tokens();
        let error = tokens.manager(tokens.device("edge").unwrap()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("--features tpm"), "{error}");
    }

    #[test]
    fn two_devices_of_one_name_are_refused() {
        let twice = vec![device("a", "tpm:"), device("a", "pkcs11:token=x")];
        assert!(Tokens::new(twice, Vec::new()).unwrap_err().to_string().contains("`a`"));
    }
}
