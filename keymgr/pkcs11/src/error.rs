//! PKCS#11 return values, sorted by who must act.

use cryptoki::context::Function;
use cryptoki::error::{Error as Pkcs11Error, RvError};
use undercroft_keymgr::{Error, ErrorKind};

/// Tells a failed call: what was being done, and with which key or device.
pub(crate) fn failed(doing: impl Into<String>) -> impl FnOnce(Pkcs11Error) -> Error {
    move |error| {
        let undone = is_undone(&error);
        let told = Error::with_source(kind(&error), doing, error);
        if undone { told.undone() } else { told }
    }
}

/// Whether the token did nothing for certain: the call does not change or sign anything, or the session was refused
/// before it was looked at (PKCS #11 3.1 section 5.1.6).
fn is_undone(error: &Pkcs11Error) -> bool {
    let Pkcs11Error::Pkcs11(code, function) = error else { return false };
    let acts = matches!(
        function,
        Function::Sign
            | Function::GenerateKeyPair
            | Function::CreateObject
            | Function::DestroyObject
            | Function::Finalize
    );
    kind(error) == ErrorKind::Unavailable
        && (!acts
            || matches!(
                code,
                RvError::SessionHandleInvalid
                    | RvError::UserNotLoggedIn
                    | RvError::CryptokiNotInitialized
                    | RvError::OperationNotInitialized
            ))
}

pub(crate) fn kind(error: &Pkcs11Error) -> ErrorKind {
    let Pkcs11Error::Pkcs11(code, _) = error else {
        return match error {
            Pkcs11Error::NotSupported | Pkcs11Error::NullFunctionPointer | Pkcs11Error::MissingSymbol(_) => {
                ErrorKind::Unsupported
            }
            Pkcs11Error::LibraryLoading(_) => ErrorKind::NotFound,
            _ => ErrorKind::Fault,
        };
    };
    match code {
        RvError::PinIncorrect
        | RvError::PinInvalid
        | RvError::PinLenRange
        | RvError::PinExpired
        | RvError::PinLocked
        | RvError::ActionProhibited
        | RvError::KeyFunctionNotPermitted
        | RvError::KeyUnextractable
        | RvError::TokenWriteProtected
        | RvError::UserPinNotInitialized => ErrorKind::Denied,
        // The session, its login or its handles are gone; a new session may do better.
        RvError::SessionHandleInvalid
        | RvError::SessionClosed
        | RvError::SessionCount
        | RvError::DeviceRemoved
        | RvError::DeviceError
        | RvError::DeviceMemory
        | RvError::HostMemory
        | RvError::TokenNotPresent
        | RvError::TokenNotRecognized
        | RvError::SlotIdInvalid
        | RvError::UserNotLoggedIn
        | RvError::OperationNotInitialized
        | RvError::CryptokiNotInitialized
        | RvError::KeyHandleInvalid
        | RvError::ObjectHandleInvalid
        | RvError::OperationActive
        | RvError::FunctionFailed
        | RvError::GeneralError => ErrorKind::Unavailable,
        // A module that makes no session objects in sessions that cannot write.
        RvError::SessionReadOnly
        | RvError::MechanismInvalid
        | RvError::MechanismParamInvalid
        | RvError::CurveNotSupported
        | RvError::DomainParamsInvalid
        | RvError::KeySizeRange
        | RvError::FunctionNotSupported
        | RvError::AttributeTypeInvalid
        | RvError::AttributeValueInvalid
        | RvError::TemplateInconsistent
        | RvError::TemplateIncomplete => ErrorKind::Unsupported,
        _ => ErrorKind::Fault,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_have_signed_is_never_called_undone() {
        let error = |code, function| failed("x")(Pkcs11Error::Pkcs11(code, function));
        for (code, function, undone) in [
            (RvError::SessionHandleInvalid, Function::SignInit, true),
            (RvError::SessionHandleInvalid, Function::Sign, true),
            (RvError::UserNotLoggedIn, Function::Sign, true),
            (RvError::DeviceRemoved, Function::SignInit, true),
            (RvError::DeviceRemoved, Function::Sign, false),
            (RvError::DeviceError, Function::Sign, false),
            (RvError::GeneralError, Function::Sign, false),
            (RvError::FunctionFailed, Function::Sign, false),
            (RvError::SessionClosed, Function::Sign, false),
            (RvError::KeyHandleInvalid, Function::SignInit, true),
            (RvError::DeviceRemoved, Function::GenerateKeyPair, false),
            (RvError::DeviceMemory, Function::CreateObject, false),
            (RvError::DeviceRemoved, Function::FindObjects, true),
            (RvError::DeviceRemoved, Function::OpenSession, true),
            // Not even a call that does nothing is repeated where the token has refused.
            (RvError::PinIncorrect, Function::Login, false),
            (RvError::MechanismInvalid, Function::SignInit, false),
        ] {
            assert_eq!(error(code, function).is_undone(), undone, "{code:?} from {function:?}");
        }
    }
}
