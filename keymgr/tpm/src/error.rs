//! TPM and TSS response codes, sorted by who must act.

use std::fmt;

use undercroft_keymgr::{Error, ErrorKind};

/// A response code of the TPM or of the layers between it and us (TSS2 Overview, section 3.11).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct ResponseCode(u32);

/// Where a code comes from: bits 16 to 23. Zero is the TPM itself.
const LAYER: u32 = 0x00ff_0000;
/// The TPM's codes, from the resource manager of the kernel or of tpm2-abrmd.
const RESOURCE_MANAGER: u32 = 0x000b_0000;
/// Format-one codes name a handle, parameter or session besides (Part 2, section 6.6.3); their number is left.
const FORMAT_ONE: u32 = 0x080;
const FORMAT_ONE_CODE: u32 = 0x0bf;
const FORMAT_ZERO_CODE: u32 = 0xfff;

const AUTH_FAIL: u32 = 0x08e;
const HANDLE: u32 = 0x08b;
const VALUE: u32 = 0x084;
const KEY_SIZE: u32 = 0x087;
const TYPE: u32 = 0x08a;
const SCHEME: u32 = 0x092;
const BAD_AUTH: u32 = 0x0a2;
const CURVE: u32 = 0x0a6;
const POLICY_FAIL: u32 = 0x09d;
const SIGNATURE: u32 = 0x09b;
const INTEGRITY: u32 = 0x09f;
const EXPIRED: u32 = 0x0a3;
const NV_RATE: u32 = 0x920;
const AUTH_UNAVAILABLE: u32 = 0x12f;
const NV_SPACE: u32 = 0x14b;
const NV_DEFINED: u32 = 0x14c;
const LOCKOUT: u32 = 0x921;
const OBJECT_MEMORY: u32 = 0x902;
const SESSION_MEMORY: u32 = 0x903;
const MEMORY: u32 = 0x904;
const SESSION_HANDLES: u32 = 0x905;
const OBJECT_HANDLES: u32 = 0x906;
const YIELDED: u32 = 0x908;
const CANCELED: u32 = 0x909;
const TESTING: u32 = 0x90a;
const RETRY: u32 = 0x922;

impl ResponseCode {
    pub(crate) fn new(code: u32) -> Self {
        Self(code)
    }

    fn is_of_the_tpm(self) -> bool {
        self.0 & LAYER == 0
    }

    fn number(self) -> u32 {
        match self.0 & FORMAT_ONE {
            0 => self.0 & FORMAT_ZERO_CODE,
            _ => self.0 & FORMAT_ONE_CODE,
        }
    }

    fn kind(self) -> ErrorKind {
        if !self.is_of_the_tpm() {
            // ESAPI, SAPI and TCTI: the connection to the TPM is gone or was never there.
            return ErrorKind::Unavailable;
        }
        match self.number() {
            AUTH_FAIL | BAD_AUTH | POLICY_FAIL | SIGNATURE | INTEGRITY | AUTH_UNAVAILABLE => {
                ErrorKind::Denied
            }
            // Whoever brought it about: it passes, and trying again is not what prolongs it.
            LOCKOUT | EXPIRED => ErrorKind::Unavailable,
            HANDLE => ErrorKind::NotFound,
            VALUE | KEY_SIZE | TYPE | SCHEME | CURVE => ErrorKind::Unsupported,
            NV_DEFINED => ErrorKind::Exists,
            // Warnings: out of slots, testing, yielded, retry (Part 2, table 17).
            number if number & 0xf00 == 0x900 => ErrorKind::Unavailable,
            _ => ErrorKind::Fault,
        }
    }

    fn name(self) -> &'static str {
        if !self.is_of_the_tpm() {
            return "the connection to the TPM failed";
        }
        match self.number() {
            AUTH_FAIL => "TPM_RC_AUTH_FAIL: the authorisation value is wrong, and the TPM counts it",
            BAD_AUTH => "TPM_RC_BAD_AUTH: the authorisation value is wrong",
            HANDLE => "TPM_RC_HANDLE: no such object",
            INTEGRITY => "TPM_RC_INTEGRITY: it was made for another key, or changed",
            VALUE => "TPM_RC_VALUE: a value that this TPM does not take",
            KEY_SIZE => "TPM_RC_KEY_SIZE: this TPM makes no keys of that size",
            TYPE => "TPM_RC_TYPE",
            SCHEME => "TPM_RC_SCHEME: this TPM does not have the signing scheme",
            CURVE => "TPM_RC_CURVE: this TPM does not have the curve",
            POLICY_FAIL => "TPM_RC_POLICY_FAIL: what was authorised is something else",
            SIGNATURE => "TPM_RC_SIGNATURE: it is not the gate's signature over this",
            EXPIRED => "TPM_RC_EXPIRED: the authorisation came too late",
            OBJECT_MEMORY | OBJECT_HANDLES => "out of slots for objects: somebody else fills them",
            SESSION_MEMORY | SESSION_HANDLES => "out of slots for sessions: somebody else fills them",
            MEMORY => "TPM_RC_MEMORY: out of memory",
            YIELDED | CANCELED | RETRY => "the TPM is busy with something else and has not begun",
            TESTING => "TPM_RC_TESTING: the TPM tests itself first",
            NV_RATE => "TPM_RC_NV_RATE: it does not write so often, to spare its flash",
            AUTH_UNAVAILABLE => "TPM_RC_AUTH_UNAVAILABLE: the key wants a policy, not a password",
            NV_SPACE => "TPM_RC_NV_SPACE: no room for another persistent key",
            NV_DEFINED => "TPM_RC_NV_DEFINED: the handle is taken",
            LOCKOUT => {
                "TPM_RC_LOCKOUT: the TPM is in dictionary-attack lockout; wait, or reset it with the lockout authorisation"
            }
            _ => "see TPM 2.0 Part 2, section 6.6.3",
        }
    }

    /// Whether the command was not carried out and may be sent again: the warnings that say so (Part 2, table 17). Those
    /// that ask for patience are none of them.
    fn is_undone(self) -> bool {
        let undone = [
            OBJECT_MEMORY,
            SESSION_MEMORY,
            MEMORY,
            SESSION_HANDLES,
            OBJECT_HANDLES,
            YIELDED,
            CANCELED,
            TESTING,
            RETRY,
        ];
        // The resource manager's answers are the TPM's, with a layer of its own (TSS2_RESMGR_TPM_RC_LAYER).
        let speaks_for_the_tpm = self.is_of_the_tpm() || self.0 & LAYER == RESOURCE_MANAGER;
        speaks_for_the_tpm && undone.contains(&(self.0 & FORMAT_ZERO_CODE))
    }

    /// Tells the failure of a command.
    pub(crate) fn failed(self, doing: impl fmt::Display) -> Error {
        let error = Error::new(self.kind(), format!("{doing}: {self}"));
        if self.is_undone() { error.undone() } else { error }
    }
}

impl fmt::Display for ResponseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:#05x})", self.name(), self.0)
    }
}

impl fmt::Debug for ResponseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ResponseCode({:#x})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Codes as tpm2-tools 5.4 and the reference page print them.
    #[test]
    fn codes_are_sorted_by_who_must_act() {
        for (code, kind) in [
            (0x98e, ErrorKind::Denied),            // AUTH_FAIL, session 1
            (0x99d, ErrorKind::Denied),            // POLICY_FAIL, session 1
            (0x12f, ErrorKind::Denied),            // AUTH_UNAVAILABLE
            (0x921, ErrorKind::Unavailable),       // LOCKOUT
            (0x18b, ErrorKind::NotFound),          // HANDLE, handle 1
            (0x2d2, ErrorKind::Unsupported),       // SCHEME, parameter 2
            (0x2c4, ErrorKind::Unsupported),       // VALUE, parameter 2
            (0x14c, ErrorKind::Exists),            // NV_DEFINED
            (0x902, ErrorKind::Unavailable),       // OBJECT_MEMORY
            (0x922, ErrorKind::Unavailable),       // RETRY
            (0x000a_000a, ErrorKind::Unavailable), // TCTI, IO_ERROR
            (0x101, ErrorKind::Fault),             // FAILURE
        ] {
            assert_eq!(ResponseCode::new(code).kind(), kind, "{code:#x}");
        }
    }

    #[test]
    fn only_what_the_tpm_says_that_it_has_not_begun_may_be_sent_again() {
        for code in [0x902, 0x903, 0x904, 0x905, 0x906, 0x908, 0x909, 0x90a, 0x922, 0x000b_0902] {
            let error = ResponseCode::new(code).failed("x");
            assert!(error.is_undone() && error.kind() == ErrorKind::Unavailable, "{error}");
        }
        // Lockout, NV_RATE, a lost connection, a failed TPM, a wrong value.
        for code in [0x921, 0x920, 0x923, 0x000a_000a, 0x0007_0902, 0x101, 0x98e, 0x2c4] {
            assert!(!ResponseCode::new(code).failed("x").is_undone(), "{code:#x}");
        }
    }
}
