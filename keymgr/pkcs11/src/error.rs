//! PKCS#11 return values, sorted by who must act.

use cryptoki::error::{Error as Pkcs11Error, RvError};
use undercroft_keymgr::{Error, ErrorKind};

/// Tells a failed call: what was being done, and with which key or device.
pub(crate) fn failed(doing: impl Into<String>) -> impl FnOnce(Pkcs11Error) -> Error {
    move |error| Error::with_source(kind(&error), doing, error)
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
        | RvError::CryptokiNotInitialized
        | RvError::KeyHandleInvalid
        | RvError::ObjectHandleInvalid
        | RvError::OperationActive
        | RvError::FunctionFailed
        | RvError::GeneralError => ErrorKind::Unavailable,
        RvError::MechanismInvalid
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
