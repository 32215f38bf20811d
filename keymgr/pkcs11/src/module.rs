//! PKCS#11 modules: loaded once a process, whatever asks for them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard, TryLockError};
use std::time::Duration;

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error as Pkcs11Error, RvError};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::{Slot, TokenInfo};
use cryptoki::types::AuthPin;
use undercroft_keymgr::{Error, ErrorKind, Pace, Pin, Pkcs11Uri};

use crate::error::failed;

/// How often a module may be initialised anew: often enough that a token that is back serves within two seconds.
const NEW_LIFE_EVERY: Duration = Duration::from_secs(1);

/// A loaded module, and what this process knows of its tokens' PINs.
pub(crate) struct Module {
    pkcs11: Pkcs11,
    /// Serials of tokens that refused our PIN, with the refusal. They are not asked again: a second wrong PIN
    /// brings the token nearer to its lock.
    refused: Mutex<HashMap<String, String>>,
    /// How often it was initialised anew. Held by everybody who calls it, so that it is not meanwhile.
    life: RwLock<u64>,
    /// Whether it was initialised by us, so that it is ours to finalise.
    ours: bool,
    pace: Pace,
    /// The devices that use it.
    devices: Mutex<Vec<Arc<TokenDescription>>>,
}

/// Which token of a module a device is.
pub(crate) struct TokenDescription {
    /// The device's name.
    pub(crate) name: String,
    pub(crate) uri: Pkcs11Uri,
}

impl TokenDescription {
    /// Tokens pad their strings with blanks (PKCS #11 3.1 section 3.2).
    fn matches(&self, slot: Slot, info: &TokenInfo) -> bool {
        let uri = &self.uri;
        let agrees = |wanted: &Option<String>, has: &str| {
            wanted.as_ref().is_none_or(|wanted| wanted == has.trim_end())
        };
        agrees(&uri.token, info.label())
            && agrees(&uri.serial, info.serial_number())
            && agrees(&uri.manufacturer, info.manufacturer_id())
            && agrees(&uri.model, info.model())
            && uri.slot_id.is_none_or(|wanted| wanted == slot.id())
    }
}

impl Module {
    /// The module at `path`, loaded and initialised now if it is not yet.
    pub(crate) fn load(path: &Path) -> Result<Arc<Self>, Error> {
        static LOADED: OnceLock<Mutex<HashMap<PathBuf, Arc<Module>>>> = OnceLock::new();
        let canonical = path.canonicalize().map_err(|error| {
            Error::with_source(
                ErrorKind::NotFound,
                format!("no PKCS#11 module at {}; install it or correct module-path", path.display()),
                error,
            )
        })?;
        let mut loaded = LOADED.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(module) = loaded.get(&canonical) {
            return Ok(module.clone());
        }
        let doing = || format!("cannot load the PKCS#11 module {}", path.display());
        let pkcs11 = Pkcs11::new(&canonical).map_err(failed(doing()))?;
        let ours = match initialize(&pkcs11) {
            Ok(()) => true,
            // Another user of the module in this process was first.
            Err(Pkcs11Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => false,
            Err(error) => return Err(failed(doing())(error)),
        };
        let module = Arc::new(Self {
            pkcs11,
            refused: Mutex::default(),
            life: RwLock::new(0),
            ours,
            pace: Pace::new(NEW_LIFE_EVERY),
            devices: Mutex::default(),
        });
        loaded.insert(canonical, module.clone());
        Ok(module)
    }

    pub(crate) fn pkcs11(&self) -> &Pkcs11 {
        &self.pkcs11
    }

    /// What the module says of its tokens.
    pub(crate) fn token_infos(&self) -> Result<Vec<TokenInfo>, Error> {
        let _life = self.hold();
        let slots = self.pkcs11.get_slots_with_token().map_err(failed("cannot list its tokens"))?;
        // A token that goes away while we look is not there.
        Ok(slots.into_iter().filter_map(|slot| self.pkcs11.get_token_info(slot).ok()).collect())
    }

    /// Keeps the module in the life that it has, whose number it gives, for as long as the guard is.
    pub(crate) fn hold(&self) -> RwLockReadGuard<'_, u64> {
        self.life.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a device uses this module.
    pub(crate) fn serves(&self, device: &Arc<TokenDescription>) {
        let mut devices = self.devices.lock().unwrap_or_else(PoisonError::into_inner);
        devices.retain(|other| other.name != device.name);
        devices.push(device.clone());
    }

    /// Finalises the module and initialises it anew, and says whether it did: some come back from a lost connection in no
    /// other way (yubihsm-shell#541). It is done to no module that somebody else initialised, that a call is under way in,
    /// or in which the token of another device works; and not too often.
    pub(crate) fn begin_new_life(&self, device: &TokenDescription) -> bool {
        if !self.ours || self.others_work(device) || !self.pace.allows() {
            return false;
        }
        let mut life = match self.life.try_write() {
            Ok(life) => life,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return false,
        };
        *life += 1;
        // One that is dead need not be able to say so; whether it lives is seen by who opens the next session.
        let _ = self.pkcs11.clone().finalize();
        initialize(&self.pkcs11).is_ok()
    }

    /// Whether the token of another device opens a session.
    fn others_work(&self, device: &TokenDescription) -> bool {
        let devices = self.devices.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let _life = self.hold();
        devices.iter().filter(|other| other.name != device.name).any(|other| {
            let slot = self.find_token(other).map(|(slot, _)| slot);
            slot.is_ok_and(|slot| self.pkcs11.open_ro_session(slot).is_ok())
        })
    }

    /// The one token of a device, and its slot.
    pub(crate) fn find_token(&self, device: &TokenDescription) -> Result<(Slot, TokenInfo), Error> {
        let name = &device.name;
        let doing = || format!("cannot list the tokens for device `{name}`");
        let mut found = None;
        let mut seen = Vec::new();
        for slot in self.pkcs11.get_slots_with_token().map_err(failed(doing()))? {
            // A token that goes away while we look is simply not found.
            let Ok(info) = self.pkcs11.get_token_info(slot) else { continue };
            if !info.token_initialized() {
                continue;
            }
            seen.push(format!("`{}` (serial {})", info.label().trim_end(), info.serial_number().trim_end()));
            if device.matches(slot, &info) && found.replace((slot, info)).is_some() {
                return Err(Error::new(
                    ErrorKind::NotFound,
                    format!(
                        "device `{name}` matches several tokens; add `serial` to its URI: {}",
                        seen.join(", ")
                    ),
                ));
            }
        }
        found.ok_or_else(|| {
            let seen = if seen.is_empty() { "none".to_owned() } else { seen.join(", ") };
            Error::new(
                ErrorKind::Unavailable,
                format!("the token of device `{name}` is not there; plug it in or correct its URI (tokens seen: {seen})"),
            )
            .undone()
        })
    }

    /// Logs a session in, trying a PIN at most once a process and token.
    pub(crate) fn login(
        &self,
        name: &str,
        session: &Session,
        slot: Slot,
        serial: &str,
        pin: Option<&Pin>,
    ) -> Result<(), Error> {
        // Held during the attempt: threads that open sessions at the same time wait for its outcome.
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(refusal) = refused.get(serial) {
            return Err(Error::new(ErrorKind::Denied, refusal.clone()));
        }
        let Some(pin) = pin else {
            return Err(Error::new(
                ErrorKind::Denied,
                format!(
                    "device `{name}` needs a PIN; give it a pin-file, pin-credential, pin-prompt or pin-environment"
                ),
            ));
        };
        if self.pkcs11.get_token_info(slot).is_ok_and(|info| info.user_pin_locked()) {
            return Err(Error::new(
                ErrorKind::Denied,
                format!(
                    "device `{name}`: its token has locked the PIN after too many wrong tries, and was not asked; unlock it with the SO PIN"
                ),
            ));
        }
        let pin = AuthPin::from(pin.read()?.expose().to_owned());
        match session.login(UserType::User, Some(&pin)) {
            Ok(()) | Err(Pkcs11Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(()),
            Err(
                error @ Pkcs11Error::Pkcs11(
                    RvError::PinIncorrect | RvError::PinLocked | RvError::PinLenRange,
                    _,
                ),
            ) => {
                let state = match self.pkcs11.get_token_info(slot) {
                    Ok(info) if info.user_pin_locked() => "the PIN is locked now; unlock it with the SO PIN",
                    Ok(info) if info.user_pin_final_try() => "one try is left before the token locks",
                    Ok(info) if info.user_pin_count_low() => "the token counts wrong tries and will lock",
                    _ => "the token does not say how many tries are left",
                };
                let refusal = format!(
                    "device `{name}` refused its PIN ({error}); {state}. It was tried once and is not tried again by this process: correct the PIN, then start again"
                );
                refused.insert(serial.to_owned(), refusal.clone());
                Err(Error::new(ErrorKind::Denied, refusal))
            }
            Err(error) => Err(failed(format!("cannot log in to device `{name}`"))(error)),
        }
    }
}

fn initialize(pkcs11: &Pkcs11) -> Result<(), Pkcs11Error> {
    pkcs11.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))
}
