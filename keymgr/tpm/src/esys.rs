//! One ESYS context, and every TPM command that Undercroft uses. The only unsafe code of the workspace.
//!
//! Rules that make it sound, and that a reviewer can check file-locally:
//! - `Esys` owns the context and its TCTI from [`Esys::connect`] to `drop`; both pointers are non-null in between,
//!   and neither is ever handed out.
//! - Every method takes `&mut self`: a context is used by one thread at a time. It may move between threads.
//! - What ESYS allocates is held in an [`Allocated`], which frees it with `Esys_Free` and with nothing else.
//! - Unions are read only through the TSS's own marshalling, which looks at their selectors.
#![allow(unsafe_code, reason = "FFI to tpm2-tss; see the rules above")]

use std::collections::HashMap;
use std::ffi::CString;
use std::ptr::{self, NonNull};

use tss_esapi::constants::tss::{TPM2_CAP_HANDLES, TPM2_CAP_TPM_PROPERTIES, TPM2_RH_NULL, TPM2_ST_HASHCHECK};
use tss_esapi::structures::{Public, Signature, SignatureScheme};
use tss_esapi::tss2_esys::{
    ESYS_CONTEXT, ESYS_TR, ESYS_TR_NONE, ESYS_TR_PASSWORD, ESYS_TR_RH_NULL, ESYS_TR_RH_OWNER, Esys_Create,
    Esys_CreatePrimary, Esys_EvictControl, Esys_Finalize, Esys_FlushContext, Esys_Free, Esys_GetCapability,
    Esys_Initialize, Esys_Load, Esys_ReadPublic, Esys_Sign, Esys_TR_FromTPMPublic, Esys_TR_SetAuth, TPM2_CAP,
    TPM2B_AUTH, TPM2B_CREATION_DATA, TPM2B_DATA, TPM2B_DIGEST, TPM2B_NAME, TPM2B_PRIVATE, TPM2B_PUBLIC,
    TPM2B_SENSITIVE_CREATE, TPML_PCR_SELECTION, TPMS_CAPABILITY_DATA, TPMT_PUBLIC, TPMT_SIGNATURE,
    TPMT_TK_CREATION, TPMT_TK_HASHCHECK, TSS2_TCTI_CONTEXT, Tss2_MU_TPMT_PUBLIC_Marshal,
    Tss2_TctiLdr_Finalize, Tss2_TctiLdr_Initialize,
};
use undercroft_keymgr::{Error, ErrorKind};

use crate::error::ResponseCode;

/// How many entries of a capability list are asked for at once; TPMs send fewer if they like.
const CAPABILITY_BATCH: u32 = 64;

/// A connection to a TPM.
pub(crate) struct Esys {
    context: NonNull<ESYS_CONTEXT>,
    tcti: *mut TSS2_TCTI_CONTEXT,
    /// Persistent objects by handle. ESYS gives one object the same number each time it is asked for it, and
    /// forgets it for all when one of them is closed; so each is asked for once and kept.
    persistent: HashMap<u32, Object>,
}

// SAFETY: an ESYS context has no thread affinity; it must not be used concurrently, which `&mut self` ensures.
unsafe impl Send for Esys {}

/// A hierarchy whose seed makes primary keys.
#[derive(Clone, Copy)]
pub(crate) enum Hierarchy {
    /// The owner's: lasts until the TPM is cleared.
    Owner,
    /// The null hierarchy: its keys are gone at the next reset.
    Null,
}

/// An object that is known to the context. It stays in the TPM until it is flushed (if transient) or evicted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Object(ESYS_TR);

/// A key that was created and not yet loaded.
pub(crate) struct Created {
    private: Allocated<TPM2B_PRIVATE>,
    public: Allocated<TPM2B_PUBLIC>,
}

impl Esys {
    /// Connects to the TPM that a TCTI configuration names (`device:/dev/tpmrm0`, `swtpm:path=…`).
    pub(crate) fn connect(tcti: &str) -> Result<Self, Error> {
        let doing = || format!("cannot reach a TPM by `{tcti}`");
        let configuration =
            CString::new(tcti).map_err(|error| Error::with_source(ErrorKind::NotFound, doing(), error))?;
        let mut connection = ptr::null_mut();
        // SAFETY: a NUL-terminated string that lives across the call, and a pointer to our own variable.
        let code = unsafe { Tss2_TctiLdr_Initialize(configuration.as_ptr(), &mut connection) };
        check(code).map_err(|code| code.failed(doing()))?;
        let mut context = ptr::null_mut();
        // SAFETY: `connection` was just initialised; a null ABI version means the library's own.
        let code = unsafe { Esys_Initialize(&mut context, connection, ptr::null_mut()) };
        let made = check(code).and_then(|()| NonNull::new(context).ok_or(ResponseCode::new(code)));
        match made {
            Ok(context) => Ok(Self { context, tcti: connection, persistent: HashMap::new() }),
            Err(code) => {
                // SAFETY: no context took the connection over, so it is ours to finalise, once.
                unsafe { Tss2_TctiLdr_Finalize(&mut connection) };
                Err(code.failed(doing()))
            }
        }
    }

    /// TPM2_CreatePrimary: the key that `hierarchy`'s seed and `template` determine, loaded.
    pub(crate) fn create_primary(
        &mut self,
        hierarchy: Hierarchy,
        template: &Public,
    ) -> Result<Object, ResponseOrError> {
        let parent = match hierarchy {
            Hierarchy::Owner => ESYS_TR_RH_OWNER,
            Hierarchy::Null => ESYS_TR_RH_NULL,
        };
        let template = to_tpm2b(template)?;
        let sensitive = TPM2B_SENSITIVE_CREATE::default();
        let mut object = ESYS_TR_NONE;
        let mut outputs = CreationOutputs::default();
        // SAFETY: inputs live across the call; outputs are pointers to our own variables, taken over below.
        let code = unsafe {
            Esys_CreatePrimary(
                self.context.as_ptr(),
                parent,
                ESYS_TR_PASSWORD,
                ESYS_TR_NONE,
                ESYS_TR_NONE,
                &sensitive,
                &template,
                &TPM2B_DATA::default(),
                &TPML_PCR_SELECTION::default(),
                &mut object,
                &mut outputs.public,
                &mut outputs.data,
                &mut outputs.hash,
                &mut outputs.ticket,
            )
        };
        drop(outputs.take());
        check(code)?;
        Ok(Object(object))
    }

    /// TPM2_Create: a child of `parent` with `auth` as its authValue.
    pub(crate) fn create(
        &mut self,
        parent: Object,
        template: &Public,
        auth: &[u8],
    ) -> Result<Created, ResponseOrError> {
        let template = to_tpm2b(template)?;
        let mut sensitive = TPM2B_SENSITIVE_CREATE::default();
        sensitive.sensitive.userAuth = to_auth(auth)?;
        let mut private = ptr::null_mut();
        let mut outputs = CreationOutputs::default();
        // SAFETY: as for CreatePrimary.
        let code = unsafe {
            Esys_Create(
                self.context.as_ptr(),
                parent.0,
                ESYS_TR_PASSWORD,
                ESYS_TR_NONE,
                ESYS_TR_NONE,
                &sensitive,
                &template,
                &TPM2B_DATA::default(),
                &TPML_PCR_SELECTION::default(),
                &mut private,
                &mut outputs.public,
                &mut outputs.data,
                &mut outputs.hash,
                &mut outputs.ticket,
            )
        };
        let private = Allocated::new(private);
        let public = outputs.take();
        check(code)?;
        match (private, public) {
            (Some(private), Some(public)) => Ok(Created { private, public }),
            _ => Err(ResponseOrError::Error(Error::new(ErrorKind::Fault, "the TSS gave no key back"))),
        }
    }

    /// TPM2_Load: a created key, into a transient slot.
    pub(crate) fn load(&mut self, parent: Object, created: &Created) -> Result<Object, ResponseOrError> {
        let mut object = ESYS_TR_NONE;
        // SAFETY: both structures are owned by `created`, which outlives the call.
        let code = unsafe {
            Esys_Load(
                self.context.as_ptr(),
                parent.0,
                ESYS_TR_PASSWORD,
                ESYS_TR_NONE,
                ESYS_TR_NONE,
                created.private.as_ptr(),
                created.public.as_ptr(),
                &mut object,
            )
        };
        check(code)?;
        Ok(Object(object))
    }

    /// TPM2_EvictControl: makes a transient object persistent at `handle`.
    pub(crate) fn persist(&mut self, object: Object, handle: u32) -> Result<(), ResponseOrError> {
        let mut persistent = ESYS_TR_NONE;
        // SAFETY: plain values and a pointer to our own variable.
        let code = unsafe {
            Esys_EvictControl(
                self.context.as_ptr(),
                ESYS_TR_RH_OWNER,
                object.0,
                ESYS_TR_PASSWORD,
                ESYS_TR_NONE,
                ESYS_TR_NONE,
                handle,
                &mut persistent,
            )
        };
        check(code)?;
        self.persistent.insert(handle, Object(persistent));
        Ok(())
    }

    /// The persistent object at `handle`, or nothing.
    pub(crate) fn persistent(&mut self, handle: u32) -> Result<Option<Object>, ResponseOrError> {
        if let Some(object) = self.persistent.get(&handle) {
            return Ok(Some(*object));
        }
        // Asked first, since the TSS prints an error of its own when a handle is absent.
        if !self.handles(handle)?.contains(&handle) {
            return Ok(None);
        }
        let mut object = ESYS_TR_NONE;
        // SAFETY: plain values and a pointer to our own variable.
        let code = unsafe {
            Esys_TR_FromTPMPublic(
                self.context.as_ptr(),
                handle,
                ESYS_TR_NONE,
                ESYS_TR_NONE,
                ESYS_TR_NONE,
                &mut object,
            )
        };
        check(code)?;
        self.persistent.insert(handle, Object(object));
        Ok(Some(Object(object)))
    }

    /// Sets the authValue that the context presents when `object` is used.
    pub(crate) fn set_auth(&mut self, object: Object, auth: &[u8]) -> Result<(), ResponseOrError> {
        let auth = to_auth(auth)?;
        // SAFETY: the value lives across the call, which copies it.
        check(unsafe { Esys_TR_SetAuth(self.context.as_ptr(), object.0, &auth) })?;
        Ok(())
    }

    /// TPM2_ReadPublic: the TPMT_PUBLIC of an object, as bytes.
    pub(crate) fn read_public(&mut self, object: Object) -> Result<Vec<u8>, ResponseOrError> {
        let mut public = ptr::null_mut();
        let mut name: *mut TPM2B_NAME = ptr::null_mut();
        let mut qualified_name: *mut TPM2B_NAME = ptr::null_mut();
        // SAFETY: plain values and pointers to our own variables.
        let code = unsafe {
            Esys_ReadPublic(
                self.context.as_ptr(),
                object.0,
                ESYS_TR_NONE,
                ESYS_TR_NONE,
                ESYS_TR_NONE,
                &mut public,
                &mut name,
                &mut qualified_name,
            )
        };
        let public = Allocated::new(public);
        drop((Allocated::new(name), Allocated::new(qualified_name)));
        check(code)?;
        let public =
            public.ok_or_else(|| Error::new(ErrorKind::Fault, "the TSS gave no public area back"))?;
        Ok(marshal(&public.get().publicArea)?)
    }

    /// TPM2_Sign over a digest by an unrestricted key.
    pub(crate) fn sign(
        &mut self,
        object: Object,
        digest: &[u8],
        scheme: SignatureScheme,
    ) -> Result<Signature, ResponseOrError> {
        let digest = to_digest(digest)?;
        // An unrestricted key needs no proof that the TPM hashed the digest itself (Part 3, section 20.2.1).
        let ticket = TPMT_TK_HASHCHECK {
            tag: TPM2_ST_HASHCHECK,
            hierarchy: TPM2_RH_NULL,
            digest: TPM2B_DIGEST::default(),
        };
        let mut signature: *mut TPMT_SIGNATURE = ptr::null_mut();
        // SAFETY: inputs live across the call; the output is a pointer to our own variable.
        let code = unsafe {
            Esys_Sign(
                self.context.as_ptr(),
                object.0,
                ESYS_TR_PASSWORD,
                ESYS_TR_NONE,
                ESYS_TR_NONE,
                &digest,
                &scheme.into(),
                &ticket,
                &mut signature,
            )
        };
        let signature = Allocated::new(signature);
        check(code)?;
        let signature =
            signature.ok_or_else(|| Error::new(ErrorKind::Fault, "the TSS gave no signature back"))?;
        Signature::try_from(*signature.get()).map_err(|error| {
            Error::with_source(ErrorKind::Fault, "the TPM gave a malformed signature", error).into()
        })
    }

    /// TPM2_FlushContext: gives a transient slot back.
    pub(crate) fn flush(&mut self, object: Object) -> Result<(), ResponseCode> {
        // SAFETY: plain values; the context forgets the object.
        check(unsafe { Esys_FlushContext(self.context.as_ptr(), object.0) })
    }

    /// TPM2_GetCapability(handles): those from `first` on, of `first`'s type.
    pub(crate) fn handles(&mut self, first: u32) -> Result<Vec<u32>, ResponseOrError> {
        let data = self.capability(TPM2_CAP_HANDLES, first)?;
        // SAFETY: `capability` made sure that the selector is that of handles.
        let list = unsafe { &data.get().data.handles };
        Ok(list.handle.iter().take(list.count as usize).copied().collect())
    }

    /// TPM2_GetCapability(TPM properties): pairs of property and value from `first` on.
    pub(crate) fn properties(&mut self, first: u32) -> Result<Vec<(u32, u32)>, ResponseOrError> {
        let data = self.capability(TPM2_CAP_TPM_PROPERTIES, first)?;
        // SAFETY: `capability` made sure that the selector is that of properties.
        let list = unsafe { &data.get().data.tpmProperties };
        Ok(list
            .tpmProperty
            .iter()
            .take(list.count as usize)
            .map(|tagged| (tagged.property, tagged.value))
            .collect())
    }

    fn capability(
        &mut self,
        capability: TPM2_CAP,
        first: u32,
    ) -> Result<Allocated<TPMS_CAPABILITY_DATA>, ResponseOrError> {
        let mut more = 0;
        let mut data = ptr::null_mut();
        // SAFETY: plain values and pointers to our own variables.
        let code = unsafe {
            Esys_GetCapability(
                self.context.as_ptr(),
                ESYS_TR_NONE,
                ESYS_TR_NONE,
                ESYS_TR_NONE,
                capability,
                first,
                CAPABILITY_BATCH,
                &mut more,
                &mut data,
            )
        };
        let data = Allocated::new(data);
        check(code)?;
        match data {
            Some(data) if data.get().capability == capability => Ok(data),
            _ => Err(Error::new(ErrorKind::Fault, "the TPM answered with another capability").into()),
        }
    }
}

impl Drop for Esys {
    fn drop(&mut self) {
        let mut context = self.context.as_ptr();
        // SAFETY: both were initialised by `connect` and are finalised once, the context before its connection.
        unsafe {
            Esys_Finalize(&mut context);
            Tss2_TctiLdr_Finalize(&mut self.tcti);
        }
    }
}

/// What CreatePrimary and Create give back besides the key.
struct CreationOutputs {
    public: *mut TPM2B_PUBLIC,
    data: *mut TPM2B_CREATION_DATA,
    hash: *mut TPM2B_DIGEST,
    ticket: *mut TPMT_TK_CREATION,
}

impl Default for CreationOutputs {
    fn default() -> Self {
        Self {
            public: ptr::null_mut(),
            data: ptr::null_mut(),
            hash: ptr::null_mut(),
            ticket: ptr::null_mut(),
        }
    }
}

impl CreationOutputs {
    /// Takes everything over, and keeps the public area.
    fn take(self) -> Option<Allocated<TPM2B_PUBLIC>> {
        drop((Allocated::new(self.data), Allocated::new(self.hash), Allocated::new(self.ticket)));
        Allocated::new(self.public)
    }
}

/// Something that ESYS allocated for us.
struct Allocated<T>(NonNull<T>);

impl<T> Allocated<T> {
    fn new(pointer: *mut T) -> Option<Self> {
        NonNull::new(pointer).map(Self)
    }

    fn get(&self) -> &T {
        // SAFETY: ESYS initialised it, and it is freed only when `self` is dropped.
        unsafe { self.0.as_ref() }
    }

    fn as_ptr(&self) -> *const T {
        self.0.as_ptr()
    }
}

impl<T> Drop for Allocated<T> {
    fn drop(&mut self) {
        // SAFETY: it came from ESYS, and is freed here alone.
        unsafe { Esys_Free(self.0.as_ptr().cast()) };
    }
}

/// A command failed, or what goes in or came out of it is malformed.
#[derive(Debug)]
pub(crate) enum ResponseOrError {
    Response(ResponseCode),
    Error(Error),
}

impl ResponseOrError {
    /// Tells the failure, with what was being done.
    pub(crate) fn failed(self, doing: impl std::fmt::Display) -> Error {
        match self {
            Self::Response(code) => code.failed(doing),
            Self::Error(error) => Error::with_source(error.kind(), doing.to_string(), error),
        }
    }
}

impl From<ResponseCode> for ResponseOrError {
    fn from(code: ResponseCode) -> Self {
        Self::Response(code)
    }
}

impl From<Error> for ResponseOrError {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

fn check(code: u32) -> Result<(), ResponseCode> {
    if code == 0 { Ok(()) } else { Err(ResponseCode::new(code)) }
}

fn to_tpm2b(template: &Public) -> Result<TPM2B_PUBLIC, Error> {
    TPM2B_PUBLIC::try_from(template.clone())
        .map_err(|error| Error::with_source(ErrorKind::Fault, "a key template cannot be marshalled", error))
}

fn to_auth(auth: &[u8]) -> Result<TPM2B_AUTH, Error> {
    to_digest(auth).map_err(|_| Error::new(ErrorKind::Denied, "an authorisation value has 64 bytes at most"))
}

fn to_digest(bytes: &[u8]) -> Result<TPM2B_DIGEST, Error> {
    let mut digest = TPM2B_DIGEST::default();
    let buffer = digest
        .buffer
        .get_mut(..bytes.len())
        .ok_or_else(|| Error::new(ErrorKind::Fault, format!("a digest of {} bytes", bytes.len())))?;
    buffer.copy_from_slice(bytes);
    digest.size = bytes.len() as u16;
    Ok(digest)
}

fn marshal(public: &TPMT_PUBLIC) -> Result<Vec<u8>, Error> {
    let mut bytes = vec![0; size_of::<TPMT_PUBLIC>()];
    let mut length = 0;
    // SAFETY: the buffer is as long as it is said to be, and longer than any marshalled TPMT_PUBLIC.
    let code =
        unsafe { Tss2_MU_TPMT_PUBLIC_Marshal(public, bytes.as_mut_ptr(), bytes.len() as u64, &mut length) };
    check(code).map_err(|code| code.failed("a public area cannot be marshalled"))?;
    bytes.truncate(length as usize);
    Ok(bytes)
}
