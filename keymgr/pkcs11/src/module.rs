//! PKCS#11 modules: loaded once a process, whatever asks for them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error as Pkcs11Error, RvError};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::{Slot, TokenInfo};
use cryptoki::types::AuthPin;
use undercroft_keymgr::{Error, ErrorKind, Pin};

use crate::error::failed;

/// A loaded module, and what this process knows of its tokens' PINs.
pub(crate) struct Module {
    pkcs11: Pkcs11,
    /// Serials of tokens that refused our PIN, with the refusal. They are not asked again: a second wrong PIN
    /// brings the token nearer to its lock.
    refused: Mutex<HashMap<String, String>>,
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
        match pkcs11.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
            // Another user of the module in this process was first.
            Ok(()) | Err(Pkcs11Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
            Err(error) => return Err(failed(doing())(error)),
        }
        let module = Arc::new(Self { pkcs11, refused: Mutex::default() });
        loaded.insert(canonical, module.clone());
        Ok(module)
    }

    pub(crate) fn pkcs11(&self) -> &Pkcs11 {
        &self.pkcs11
    }

    /// What the module says of its tokens.
    pub(crate) fn token_infos(&self) -> Result<Vec<TokenInfo>, Error> {
        let slots = self.pkcs11.get_slots_with_token().map_err(failed("cannot list its tokens"))?;
        // A token that goes away while we look is not there.
        Ok(slots.into_iter().filter_map(|slot| self.pkcs11.get_token_info(slot).ok()).collect())
    }

    /// The one token that `wanted` accepts, and its slot. `name` is the device's, for errors.
    pub(crate) fn find_token(
        &self,
        name: &str,
        wanted: impl Fn(Slot, &TokenInfo) -> bool,
    ) -> Result<(Slot, TokenInfo), Error> {
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
            if wanted(slot, &info) && found.replace((slot, info)).is_some() {
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
