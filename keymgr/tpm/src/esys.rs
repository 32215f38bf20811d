//! One ESYS context, and every TPM command that Undercroft uses. The only unsafe code of the workspace.
//!
//! Rules that make it sound, and that a reviewer can check file-locally:
//! - `Esys` owns the context and its TCTI from [`Esys::connect`] to `drop`; both pointers are non-null in between,
//!   and neither is ever handed out.
//! - The SAPI context beside it lives in memory that `Esys` owns, on the same connection, and is finalised before that.
//! - Every method takes `&mut self`: a context is used by one thread at a time. It may move between threads.
//! - What ESYS allocates is held in an [`Allocated`], which frees it with `Esys_Free` and with nothing else.
//! - Unions are read only through the TSS's own marshalling, which looks at their selectors.
#![allow(unsafe_code, reason = "FFI to tpm2-tss; see the rules above")]

use std::collections::HashMap;
use std::ffi::CString;
use std::ptr::{self, NonNull};

use tss_esapi::constants::tss::{
    TPM2_ALG_NULL, TPM2_ALG_SHA256, TPM2_CAP_AUDIT_COMMANDS, TPM2_CAP_HANDLES, TPM2_CAP_TPM_PROPERTIES,
    TPM2_RH_NULL, TPM2_RH_OWNER, TPM2_SE_POLICY, TPM2_ST_HASHCHECK,
};
use tss_esapi::structures::{Public, SignatureScheme};
use tss_esapi::tss2_esys::{
    ESYS_CONTEXT, ESYS_TR, ESYS_TR_NONE, ESYS_TR_PASSWORD, ESYS_TR_RH_ENDORSEMENT, ESYS_TR_RH_NULL,
    ESYS_TR_RH_OWNER, Esys_ActivateCredential, Esys_Certify, Esys_Create, Esys_CreatePrimary,
    Esys_EvictControl, Esys_Finalize, Esys_FlushContext, Esys_Free, Esys_GetCapability,
    Esys_GetCommandAuditDigest, Esys_Initialize, Esys_Load, Esys_LoadExternal, Esys_NV_Certify,
    Esys_NV_DefineSpace, Esys_NV_Increment, Esys_NV_Read, Esys_NV_ReadPublic, Esys_PCR_Read, Esys_PolicyOR,
    Esys_PolicySecret, Esys_PolicySigned, Esys_Quote, Esys_ReadClock, Esys_ReadPublic,
    Esys_SetCommandCodeAuditStatus, Esys_Sign, Esys_StartAuthSession, Esys_TR_FromTPMPublic,
    Esys_TR_GetTpmHandle, Esys_TR_SetAuth, Esys_TRSess_GetNonceTPM, TPM2_CAP, TPM2B_ATTEST, TPM2B_AUTH,
    TPM2B_CREATION_DATA, TPM2B_DATA, TPM2B_DIGEST, TPM2B_ENCRYPTED_SECRET, TPM2B_ID_OBJECT,
    TPM2B_MAX_NV_BUFFER, TPM2B_NAME, TPM2B_NONCE, TPM2B_NV_PUBLIC, TPM2B_PRIVATE, TPM2B_PUBLIC,
    TPM2B_SENSITIVE_CREATE, TPM2B_TIMEOUT, TPML_CC, TPML_DIGEST, TPML_PCR_SELECTION, TPMS_CAPABILITY_DATA,
    TPMS_NV_PUBLIC, TPMS_TIME_INFO, TPMT_PUBLIC, TPMT_SIG_SCHEME, TPMT_SIGNATURE, TPMT_SYM_DEF, TPMT_TK_AUTH,
    TPMT_TK_CREATION, TPMT_TK_HASHCHECK, TSS2_ABI_VERSION, TSS2_TCTI_CONTEXT, TSS2L_SYS_AUTH_COMMAND,
    TSS2L_SYS_AUTH_RESPONSE, Tss2_MU_TPML_PCR_SELECTION_Unmarshal, Tss2_MU_TPMT_PUBLIC_Marshal,
    Tss2_MU_TPMT_PUBLIC_Unmarshal, Tss2_MU_TPMT_SIGNATURE_Marshal, Tss2_MU_TPMT_SIGNATURE_Unmarshal,
    Tss2_Sys_Finalize, Tss2_Sys_GetContextSize, Tss2_Sys_Initialize, Tss2_Sys_Sign, Tss2_TctiLdr_Finalize,
    Tss2_TctiLdr_Initialize,
};
use undercroft_keymgr::{Error, ErrorKind};

use crate::error::ResponseCode;

/// The first handles of transient objects and of loaded sessions (Part 2, section 7.2), by which they are listed.
const TRANSIENT_FIRST: u32 = 0x8000_0000;
const LOADED_SESSION_FIRST: u32 = 0x0200_0000;

/// How many bytes of an index are read at once; every TPM gives that many (PTP section 4.6.1).
const NV_CHUNK: usize = 512;

/// How many entries of a capability list are asked for at once; TPMs send fewer if they like.
const CAPABILITY_BATCH: u32 = 64;

/// How long a TPM has been up (Part 2, sections 10.11.1 and 10.11.6).
#[derive(Clone, Copy, Debug)]
pub(crate) struct TpmClock {
    /// Milliseconds since it was last powered, by which its sessions expire.
    pub(crate) time: u64,
    resets: u32,
    restarts: u32,
}

impl TpmClock {
    /// Whether this is the same TPM as `before`, up ever since.
    pub(crate) fn continues(self, before: Self) -> bool {
        (self.resets, self.restarts) == (before.resets, before.restarts) && self.time >= before.time
    }
}

/// A connection to a TPM.
pub(crate) struct Esys {
    context: NonNull<ESYS_CONTEXT>,
    tcti: *mut TSS2_TCTI_CONTEXT,
    /// The memory of a SAPI context on the same connection, for the one command that ESYS is slow at.
    sys: Box<[u64]>,
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
    /// The endorsement hierarchy: lasts until the manufacturer's seed is changed.
    Endorsement,
}

/// An object that is known to the context. It stays in the TPM until it is flushed (if transient) or evicted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Object(ESYS_TR);

/// A policy session. It lasts until it is ended, or its connection is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PolicySession {
    esys: ESYS_TR,
    handle: u32,
}

/// TPMA_SESSION continueSession (Part 2, section 8.4).
const CONTINUE_SESSION: u8 = 1;

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
            Ok(context) => {
                let own = Self { context, tcti: connection, sys: sys_memory(), persistent: HashMap::new() };
                own.with_sys(doing)
            }
            Err(code) => {
                // SAFETY: no context took the connection over, so it is ours to finalise, once.
                unsafe { Tss2_TctiLdr_Finalize(&mut connection) };
                Err(code.failed(doing()))
            }
        }
    }

    /// Makes the SAPI context. It is used by the one thread that uses the other, and never while that is in a command.
    fn with_sys(mut self, doing: impl Fn() -> String) -> Result<Self, Error> {
        let mut abi = TSS2_ABI_VERSION { tssCreator: 1, tssFamily: 2, tssLevel: 1, tssVersion: 108 };
        let size = size_of_val(&*self.sys) as u64;
        // SAFETY: the memory is aligned, as long as it is said to be, and lives as long as `self`; the connection is open.
        let code = unsafe { Tss2_Sys_Initialize(self.sys.as_mut_ptr().cast(), size, self.tcti, &mut abi) };
        check(code).map_err(|code| code.failed(doing()))?;
        Ok(self)
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
            Hierarchy::Endorsement => ESYS_TR_RH_ENDORSEMENT,
        };
        self.primary(parent, &to_tpm2b(template)?)
    }

    /// TPM2_CreatePrimary in the endorsement hierarchy, by a template that is a TPMT_PUBLIC.
    pub(crate) fn create_endorsement(&mut self, template: &[u8]) -> Result<Object, ResponseOrError> {
        self.primary(ESYS_TR_RH_ENDORSEMENT, &unmarshal(template)?)
    }

    fn primary(&mut self, parent: ESYS_TR, template: &TPM2B_PUBLIC) -> Result<Object, ResponseOrError> {
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
                template,
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
        self.load_parts(parent, created.private.get(), created.public.get())
    }

    /// The same of a key whose parts were kept: its TPMT_PUBLIC, and the content of its TPM2B_PRIVATE.
    pub(crate) fn load_kept(
        &mut self,
        parent: Object,
        public: &[u8],
        private: &[u8],
    ) -> Result<Object, ResponseOrError> {
        let mut wrapped = TPM2B_PRIVATE::default();
        let too_long = || Error::new(ErrorKind::Denied, "the private part is longer than any of a TPM");
        wrapped.buffer.get_mut(..private.len()).ok_or_else(too_long)?.copy_from_slice(private);
        wrapped.size = private.len() as u16;
        self.load_parts(parent, &wrapped, &unmarshal(public)?)
    }

    fn load_parts(
        &mut self,
        parent: Object,
        private: &TPM2B_PRIVATE,
        public: &TPM2B_PUBLIC,
    ) -> Result<Object, ResponseOrError> {
        let mut object = ESYS_TR_NONE;
        // SAFETY: both structures are borrowed, and live across the call.
        let code = unsafe {
            Esys_Load(
                self.context.as_ptr(),
                parent.0,
                ESYS_TR_PASSWORD,
                ESYS_TR_NONE,
                ESYS_TR_NONE,
                private,
                public,
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

    /// The persistent object or NV index at `handle`, or nothing.
    pub(crate) fn persistent(&mut self, handle: u32) -> Result<Option<Object>, ResponseOrError> {
        if let Some(object) = self.persistent.get(&handle) {
            return Ok(Some(*object));
        }
        // Asked first, since the TSS prints an error of its own when a handle is absent.
        if !self.handles(handle)?.contains(&handle) {
            return Ok(None);
        }
        let object = self.object(handle)?;
        self.persistent.insert(handle, object);
        Ok(Some(object))
    }

    /// What is at a handle.
    fn object(&mut self, handle: u32) -> Result<Object, ResponseCode> {
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
        Ok(Object(object))
    }

    /// Gives back the slots that a process left behind when it was killed. Where a resource manager stands in between,
    /// there are none; where none does, a TPM has one user at a time, and that is us.
    pub(crate) fn clear_slots(&mut self) -> Result<(), ResponseOrError> {
        for first in [TRANSIENT_FIRST, LOADED_SESSION_FIRST] {
            for handle in self.handles(first)? {
                let object = self.object(handle)?;
                self.flush(object)?;
            }
        }
        Ok(())
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
        let public = given(public, "a public area")?;
        Ok(marshal(&public.get().publicArea)?)
    }

    /// TPM2_Sign over a digest by an unrestricted key, authorised by its authValue. Gives the TPMT_SIGNATURE, as bytes.
    pub(crate) fn sign(
        &mut self,
        object: Object,
        digest: &[u8],
        scheme: SignatureScheme,
    ) -> Result<Vec<u8>, ResponseOrError> {
        let digest = to_digest(digest)?;
        let ticket = no_ticket();
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
        marshal_signature(given(signature, "a signature")?.get())
    }

    /// TPM2_Sign by the persistent key at `handle`, authorised by a policy session. Gives the TPMT_SIGNATURE, as bytes, and
    /// the session's next nonce.
    ///
    /// By SAPI, with no nonceCaller: ESYS draws one for each use of a session, and tpm2-tss 3.2 loads OpenSSL anew to do so,
    /// which takes four milliseconds. Without a session key it serves nothing (Part 1, section 19.6.3).
    pub(crate) fn sign_by_policy(
        &mut self,
        handle: u32,
        session: PolicySession,
        digest: &[u8],
        scheme: SignatureScheme,
    ) -> Result<(Vec<u8>, Vec<u8>), ResponseOrError> {
        let digest = to_digest(digest)?;
        let mut auths = TSS2L_SYS_AUTH_COMMAND { count: 1, ..TSS2L_SYS_AUTH_COMMAND::default() };
        auths.auths[0].sessionHandle = session.handle;
        auths.auths[0].sessionAttributes = CONTINUE_SESSION;
        let mut answers = TSS2L_SYS_AUTH_RESPONSE { count: 1, ..TSS2L_SYS_AUTH_RESPONSE::default() };
        let mut signature = TPMT_SIGNATURE::default();
        // SAFETY: the context was initialised by `connect`; inputs live across the call; outputs are our own variables.
        let code = unsafe {
            Tss2_Sys_Sign(
                self.sys.as_mut_ptr().cast(),
                handle,
                &auths,
                &digest,
                &scheme.into(),
                &no_ticket(),
                &mut signature,
                &mut answers,
            )
        };
        check(code)?;
        let nonce = &answers.auths[0].nonce;
        let nonce = nonce.buffer.iter().take(nonce.size.into()).copied().collect();
        Ok((marshal_signature(&signature)?, nonce))
    }

    /// TPM2_StartAuthSession: a policy session, and its nonceTPM.
    pub(crate) fn start_policy_session(&mut self) -> Result<(PolicySession, Vec<u8>), ResponseOrError> {
        let symmetric = TPMT_SYM_DEF { algorithm: TPM2_ALG_NULL, ..TPMT_SYM_DEF::default() };
        let mut session = ESYS_TR_NONE;
        // SAFETY: inputs live across the call; a null nonceCaller lets the TSS choose one.
        let code = unsafe {
            Esys_StartAuthSession(
                self.context.as_ptr(),
                ESYS_TR_NONE,
                ESYS_TR_NONE,
                ESYS_TR_NONE,
                ESYS_TR_NONE,
                ESYS_TR_NONE,
                ptr::null(),
                TPM2_SE_POLICY,
                &symmetric,
                TPM2_ALG_SHA256,
                &mut session,
            )
        };
        check(code)?;
        let mut handle = 0;
        // SAFETY: a plain value, and a pointer to our own variable.
        check(unsafe { Esys_TR_GetTpmHandle(self.context.as_ptr(), session, &mut handle) })?;
        let mut nonce: *mut TPM2B_NONCE = ptr::null_mut();
        // SAFETY: a plain value, and a pointer to our own variable.
        check(unsafe { Esys_TRSess_GetNonceTPM(self.context.as_ptr(), session, &mut nonce) })?;
        let nonce = given(Allocated::new(nonce), "a nonce")?;
        let nonce = nonce.get();
        let nonce = nonce.buffer.iter().take(nonce.size.into()).copied().collect();
        Ok((PolicySession { esys: session, handle }, nonce))
    }

    /// TPM2_LoadExternal: a public key, into a transient slot.
    pub(crate) fn load_external(&mut self, public: &[u8]) -> Result<Object, ResponseOrError> {
        let area = unmarshal(public)?;
        let mut object = ESYS_TR_NONE;
        // SAFETY: the input lives across the call; no private part is given.
        let code = unsafe {
            Esys_LoadExternal(
                self.context.as_ptr(),
                ESYS_TR_NONE,
                ESYS_TR_NONE,
                ESYS_TR_NONE,
                ptr::null(),
                &area,
                TPM2_RH_OWNER,
                &mut object,
            )
        };
        check(code)?;
        Ok(Object(object))
    }

    /// TPM2_PolicySigned with an empty policyRef: the session is good for the one command with `cp_hash`, if
    /// `signature` (a TPMT_SIGNATURE) by `signer` says so. The signature is over the session's nonce, too.
    pub(crate) fn policy_signed(
        &mut self,
        session: PolicySession,
        nonce: &[u8],
        signer: Object,
        cp_hash: &[u8],
        expiration: i32,
        signature: &[u8],
    ) -> Result<(), ResponseOrError> {
        let nonce = to_digest(nonce)?;
        let cp_hash = to_digest(cp_hash)?;
        let mut auth = TPMT_SIGNATURE::default();
        let mut offset = 0;
        // SAFETY: the buffer is as long as it is said to be; the output is our own variable.
        let code = unsafe {
            Tss2_MU_TPMT_SIGNATURE_Unmarshal(
                signature.as_ptr(),
                signature.len() as u64,
                &mut offset,
                &mut auth,
            )
        };
        check(code)?;
        let mut timeout: *mut TPM2B_TIMEOUT = ptr::null_mut();
        let mut ticket: *mut TPMT_TK_AUTH = ptr::null_mut();
        // SAFETY: inputs live across the call; outputs are pointers to our own variables, taken over below.
        let code = unsafe {
            Esys_PolicySigned(
                self.context.as_ptr(),
                signer.0,
                session.esys,
                ESYS_TR_NONE,
                ESYS_TR_NONE,
                ESYS_TR_NONE,
                &nonce,
                &cp_hash,
                &TPM2B_NONCE::default(),
                expiration,
                &auth,
                &mut timeout,
                &mut ticket,
            )
        };
        drop((Allocated::new(timeout), Allocated::new(ticket)));
        Ok(check(code)?)
    }

    /// TPM2_PolicyOR: the session's policy, which must be one of `branches`, becomes that of any of them.
    pub(crate) fn policy_or(
        &mut self,
        session: PolicySession,
        branches: &[[u8; 32]],
    ) -> Result<(), ResponseOrError> {
        let mut list = TPML_DIGEST::default();
        for (place, branch) in list.digests.iter_mut().zip(branches) {
            *place = to_digest(branch)?;
            list.count += 1;
        }
        // SAFETY: the input lives across the call.
        let code = unsafe {
            Esys_PolicyOR(
                self.context.as_ptr(),
                session.esys,
                ESYS_TR_NONE,
                ESYS_TR_NONE,
                ESYS_TR_NONE,
                &list,
            )
        };
        Ok(check(code)?)
    }

    /// TPM2_ReadClock.
    pub(crate) fn clock(&mut self) -> Result<TpmClock, ResponseOrError> {
        let mut time: *mut TPMS_TIME_INFO = ptr::null_mut();
        // SAFETY: plain values and a pointer to our own variable.
        let code = unsafe {
            Esys_ReadClock(self.context.as_ptr(), ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, &mut time)
        };
        let time = Allocated::new(time);
        check(code)?;
        let time = given(time, "its time")?;
        let TPMS_TIME_INFO { time, clockInfo } = time.get();
        Ok(TpmClock { time: *time, resets: clockInfo.resetCount, restarts: clockInfo.restartCount })
    }

    /// TPM2_FlushContext of a session.
    pub(crate) fn end_session(&mut self, session: PolicySession) -> Result<(), ResponseCode> {
        self.flush(Object(session.esys))
    }

    /// TPM2_SetCommandCodeAuditStatus: audits `codes` besides what is audited already, with SHA-256.
    ///
    /// The algorithm and the list cannot be set by one command (Part 3, section 21.2.1).
    pub(crate) fn audit(&mut self, codes: &[u32]) -> Result<(), ResponseOrError> {
        let mut list = TPML_CC::default();
        for (place, code) in list.commandCodes.iter_mut().zip(codes) {
            *place = *code;
            list.count += 1;
        }
        let none = TPML_CC::default();
        for (algorithm, set) in [(TPM2_ALG_SHA256, &none), (TPM2_ALG_NULL, &list)] {
            // SAFETY: inputs live across the call.
            let code = unsafe {
                Esys_SetCommandCodeAuditStatus(
                    self.context.as_ptr(),
                    ESYS_TR_RH_OWNER,
                    ESYS_TR_PASSWORD,
                    ESYS_TR_NONE,
                    ESYS_TR_NONE,
                    algorithm,
                    set,
                    &none,
                )
            };
            check(code)?;
        }
        Ok(())
    }

    /// TPM2_GetCapability(audit commands): the codes of the commands that are audited.
    pub(crate) fn audited(&mut self) -> Result<Vec<u32>, ResponseOrError> {
        let data = self.capability(TPM2_CAP_AUDIT_COMMANDS, 0)?;
        // SAFETY: `capability` made sure that the selector is that of audit commands.
        let list = unsafe { &data.get().data.auditCommands };
        Ok(list.commandCodes.iter().take(list.count as usize).copied().collect())
    }

    /// TPM2_GetCommandAuditDigest, signed by `signer` as it is fixed to: TPMS_ATTEST and TPMT_SIGNATURE, as bytes.
    pub(crate) fn command_audit_digest(
        &mut self,
        signer: Object,
        qualifying: &[u8],
    ) -> Result<(Vec<u8>, Vec<u8>), ResponseOrError> {
        let qualifying = to_data(qualifying)?;
        let (mut attest, mut signature) = (ptr::null_mut(), ptr::null_mut());
        // SAFETY: inputs live across the call; outputs are pointers to our own variables, taken over below.
        let code = unsafe {
            Esys_GetCommandAuditDigest(
                self.context.as_ptr(),
                ESYS_TR_RH_ENDORSEMENT,
                signer.0,
                ESYS_TR_PASSWORD,
                ESYS_TR_PASSWORD,
                ESYS_TR_NONE,
                &qualifying,
                &as_fixed(),
                &mut attest,
                &mut signature,
            )
        };
        attested(code, attest, signature)
    }

    /// TPM2_NV_DefineSpace: a counter with these attributes, used by an empty authValue of its own.
    pub(crate) fn define_counter(&mut self, index: u32, attributes: u32) -> Result<(), ResponseOrError> {
        let public = TPM2B_NV_PUBLIC {
            size: 0,
            nvPublic: TPMS_NV_PUBLIC {
                nvIndex: index,
                nameAlg: TPM2_ALG_SHA256,
                attributes,
                authPolicy: TPM2B_DIGEST::default(),
                dataSize: 8,
            },
        };
        let mut object = ESYS_TR_NONE;
        // SAFETY: inputs live across the call; the output is a pointer to our own variable.
        let code = unsafe {
            Esys_NV_DefineSpace(
                self.context.as_ptr(),
                ESYS_TR_RH_OWNER,
                ESYS_TR_PASSWORD,
                ESYS_TR_NONE,
                ESYS_TR_NONE,
                &TPM2B_AUTH::default(),
                &public,
                &mut object,
            )
        };
        check(code)?;
        self.persistent.insert(index, Object(object));
        Ok(())
    }

    /// TPM2_NV_ReadPublic: the Name of an index.
    pub(crate) fn counter_name(&mut self, counter: Object) -> Result<Vec<u8>, ResponseOrError> {
        let mut public: *mut TPM2B_NV_PUBLIC = ptr::null_mut();
        let mut name: *mut TPM2B_NAME = ptr::null_mut();
        // SAFETY: plain values and pointers to our own variables.
        let code = unsafe {
            Esys_NV_ReadPublic(
                self.context.as_ptr(),
                counter.0,
                ESYS_TR_NONE,
                ESYS_TR_NONE,
                ESYS_TR_NONE,
                &mut public,
                &mut name,
            )
        };
        let name = Allocated::new(name);
        drop(Allocated::new(public));
        check(code)?;
        let name = given(name, "a Name")?;
        let name = name.get();
        Ok(name.name.iter().take(name.size.into()).copied().collect())
    }

    /// TPM2_NV_Increment.
    pub(crate) fn increment(&mut self, counter: Object) -> Result<(), ResponseOrError> {
        // SAFETY: plain values.
        let code = unsafe {
            Esys_NV_Increment(
                self.context.as_ptr(),
                counter.0,
                counter.0,
                ESYS_TR_PASSWORD,
                ESYS_TR_NONE,
                ESYS_TR_NONE,
            )
        };
        Ok(check(code)?)
    }

    /// TPM2_NV_Read of a counter.
    pub(crate) fn read_counter(&mut self, counter: Object) -> Result<u64, ResponseOrError> {
        let mut data: *mut TPM2B_MAX_NV_BUFFER = ptr::null_mut();
        // SAFETY: plain values and a pointer to our own variable.
        let code = unsafe {
            Esys_NV_Read(
                self.context.as_ptr(),
                counter.0,
                counter.0,
                ESYS_TR_PASSWORD,
                ESYS_TR_NONE,
                ESYS_TR_NONE,
                8,
                0,
                &mut data,
            )
        };
        let data = Allocated::new(data);
        check(code)?;
        let data = given(data, "a counter")?;
        Ok(data.get().buffer.iter().take(8).fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    /// TPM2_NV_Certify of a whole counter: TPMS_ATTEST and TPMT_SIGNATURE, as bytes.
    pub(crate) fn certify_counter(
        &mut self,
        signer: Object,
        counter: Object,
        qualifying: &[u8],
    ) -> Result<(Vec<u8>, Vec<u8>), ResponseOrError> {
        let qualifying = to_data(qualifying)?;
        let (mut attest, mut signature) = (ptr::null_mut(), ptr::null_mut());
        // SAFETY: inputs live across the call; outputs are pointers to our own variables, taken over below.
        let code = unsafe {
            Esys_NV_Certify(
                self.context.as_ptr(),
                signer.0,
                counter.0,
                counter.0,
                ESYS_TR_PASSWORD,
                ESYS_TR_PASSWORD,
                ESYS_TR_NONE,
                &qualifying,
                &as_fixed(),
                8,
                0,
                &mut attest,
                &mut signature,
            )
        };
        attested(code, attest, signature)
    }

    /// TPM2_Certify of a loaded object, signed by `signer` as it is fixed to: TPMS_ATTEST and TPMT_SIGNATURE, as bytes.
    pub(crate) fn certify(
        &mut self,
        object: Object,
        signer: Object,
        qualifying: &[u8],
    ) -> Result<(Vec<u8>, Vec<u8>), ResponseOrError> {
        let qualifying = to_data(qualifying)?;
        let (mut attest, mut signature) = (ptr::null_mut(), ptr::null_mut());
        // SAFETY: inputs live across the call; outputs are pointers to our own variables, taken over below.
        let code = unsafe {
            Esys_Certify(
                self.context.as_ptr(),
                object.0,
                signer.0,
                ESYS_TR_PASSWORD,
                ESYS_TR_PASSWORD,
                ESYS_TR_NONE,
                &qualifying,
                &as_fixed(),
                &mut attest,
                &mut signature,
            )
        };
        attested(code, attest, signature)
    }

    /// TPM2_PCR_Read: the values of as many of the PCRs that `selection` (a TPML_PCR_SELECTION) names as the TPM gives at once,
    /// eight at the most. A bank or PCR that it does not have is left out.
    pub(crate) fn read_pcrs(&mut self, selection: &[u8]) -> Result<Vec<Vec<u8>>, ResponseOrError> {
        let selection = unmarshal_selection(selection)?;
        let mut counter = 0;
        let mut read: *mut TPML_PCR_SELECTION = ptr::null_mut();
        let mut values: *mut TPML_DIGEST = ptr::null_mut();
        // SAFETY: the input lives across the call; outputs are pointers to our own variables, taken over below.
        let code = unsafe {
            Esys_PCR_Read(
                self.context.as_ptr(),
                ESYS_TR_NONE,
                ESYS_TR_NONE,
                ESYS_TR_NONE,
                &selection,
                &mut counter,
                &mut read,
                &mut values,
            )
        };
        let values = Allocated::new(values);
        drop(Allocated::new(read));
        check(code)?;
        let values = given(values, "values of PCRs")?;
        let values = values.get();
        let value = |digest: &TPM2B_DIGEST| digest.buffer.iter().take(digest.size.into()).copied().collect();
        Ok(values.digests.iter().take(values.count as usize).map(value).collect())
    }

    /// TPM2_Quote of the PCRs that `selection` (a TPML_PCR_SELECTION) names, signed by `signer` as it is fixed to: TPMS_ATTEST
    /// and TPMT_SIGNATURE, as bytes.
    pub(crate) fn quote(
        &mut self,
        signer: Object,
        qualifying: &[u8],
        selection: &[u8],
    ) -> Result<(Vec<u8>, Vec<u8>), ResponseOrError> {
        let (qualifying, selection) = (to_data(qualifying)?, unmarshal_selection(selection)?);
        let (mut attest, mut signature) = (ptr::null_mut(), ptr::null_mut());
        // SAFETY: inputs live across the call; outputs are pointers to our own variables, taken over below.
        let code = unsafe {
            Esys_Quote(
                self.context.as_ptr(),
                signer.0,
                ESYS_TR_PASSWORD,
                ESYS_TR_NONE,
                ESYS_TR_NONE,
                &qualifying,
                &as_fixed(),
                &selection,
                &mut attest,
                &mut signature,
            )
        };
        attested(code, attest, signature)
    }

    /// TPM2_PolicySecret of the endorsement hierarchy, whose password is empty: the session may use endorsement keys.
    pub(crate) fn policy_endorsement(&mut self, session: PolicySession) -> Result<(), ResponseOrError> {
        let none = TPM2B_NONCE::default();
        let mut timeout: *mut TPM2B_TIMEOUT = ptr::null_mut();
        let mut ticket: *mut TPMT_TK_AUTH = ptr::null_mut();
        // SAFETY: inputs live across the call; outputs are pointers to our own variables, taken over below.
        let code = unsafe {
            Esys_PolicySecret(
                self.context.as_ptr(),
                ESYS_TR_RH_ENDORSEMENT,
                session.esys,
                ESYS_TR_PASSWORD,
                ESYS_TR_NONE,
                ESYS_TR_NONE,
                &none,
                &TPM2B_DIGEST::default(),
                &none,
                0,
                &mut timeout,
                &mut ticket,
            )
        };
        drop((Allocated::new(timeout), Allocated::new(ticket)));
        Ok(check(code)?)
    }

    /// TPM2_ActivateCredential: the secret in a credential for `object`, opened by `endorsement`, which a session authorises
    /// or, without one, its empty password. `credential` is the content of TPM2B_ID_OBJECT, `secret` of
    /// TPM2B_ENCRYPTED_SECRET.
    pub(crate) fn activate(
        &mut self,
        object: Object,
        endorsement: Object,
        session: Option<PolicySession>,
        credential: &[u8],
        secret: &[u8],
    ) -> Result<Vec<u8>, ResponseOrError> {
        let too_long = || Error::new(ErrorKind::Denied, "the credential is longer than a TPM takes");
        let mut blob = TPM2B_ID_OBJECT::default();
        blob.credential.get_mut(..credential.len()).ok_or_else(too_long)?.copy_from_slice(credential);
        blob.size = credential.len() as u16;
        let mut encrypted = TPM2B_ENCRYPTED_SECRET::default();
        encrypted.secret.get_mut(..secret.len()).ok_or_else(too_long)?.copy_from_slice(secret);
        encrypted.size = secret.len() as u16;
        let mut opened: *mut TPM2B_DIGEST = ptr::null_mut();
        // SAFETY: inputs live across the call; the output is a pointer to our own variable, taken over below.
        let code = unsafe {
            Esys_ActivateCredential(
                self.context.as_ptr(),
                object.0,
                endorsement.0,
                ESYS_TR_PASSWORD,
                session.map_or(ESYS_TR_PASSWORD, |session| session.esys),
                ESYS_TR_NONE,
                &blob,
                &encrypted,
                &mut opened,
            )
        };
        let opened = Allocated::new(opened);
        check(code)?;
        let opened = given(opened, "a secret")?;
        let opened = opened.get();
        Ok(opened.buffer.iter().take(opened.size.into()).copied().collect())
    }

    /// TPM2_NV_ReadPublic and TPM2_NV_Read: all that an index holds, read by its own empty authValue.
    pub(crate) fn read_index(&mut self, index: Object) -> Result<Vec<u8>, ResponseOrError> {
        let mut public: *mut TPM2B_NV_PUBLIC = ptr::null_mut();
        let mut name: *mut TPM2B_NAME = ptr::null_mut();
        // SAFETY: plain values and pointers to our own variables.
        let code = unsafe {
            Esys_NV_ReadPublic(
                self.context.as_ptr(),
                index.0,
                ESYS_TR_NONE,
                ESYS_TR_NONE,
                ESYS_TR_NONE,
                &mut public,
                &mut name,
            )
        };
        let public = Allocated::new(public);
        drop(Allocated::new(name));
        check(code)?;
        let length = usize::from(given(public, "the public area of an index")?.get().nvPublic.dataSize);
        let mut read = Vec::with_capacity(length);
        while read.len() < length {
            let more = (length - read.len()).min(NV_CHUNK);
            let mut data: *mut TPM2B_MAX_NV_BUFFER = ptr::null_mut();
            // SAFETY: plain values and a pointer to our own variable.
            let code = unsafe {
                Esys_NV_Read(
                    self.context.as_ptr(),
                    index.0,
                    index.0,
                    ESYS_TR_PASSWORD,
                    ESYS_TR_NONE,
                    ESYS_TR_NONE,
                    more as u16,
                    read.len() as u16,
                    &mut data,
                )
            };
            let data = Allocated::new(data);
            check(code)?;
            let data = given(data, "the content of an index")?;
            let before = read.len();
            read.extend(data.get().buffer.iter().take(data.get().size.into()));
            if read.len() == before {
                return Err(Error::new(ErrorKind::Fault, "the TPM gave nothing of an index back").into());
            }
        }
        Ok(read)
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
        // SAFETY: all were initialised by `connect` (a SAPI context that was not is ignored) and are finalised once, the
        // contexts before their connection.
        unsafe {
            Tss2_Sys_Finalize(self.sys.as_mut_ptr().cast());
            Esys_Finalize(&mut context);
            Tss2_TctiLdr_Finalize(&mut self.tcti);
        }
    }
}

impl Created {
    /// Its TPMT_PUBLIC, and the content of its TPM2B_PRIVATE, which the TPM has wrapped.
    pub(crate) fn parts(&self) -> Result<(Vec<u8>, Vec<u8>), Error> {
        let private = self.private.get();
        let wrapped = private.buffer.iter().take(private.size.into()).copied().collect();
        Ok((marshal(&self.public.get().publicArea)?, wrapped))
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

fn to_data(bytes: &[u8]) -> Result<TPM2B_DATA, Error> {
    let digest = to_digest(bytes)?;
    Ok(TPM2B_DATA { size: digest.size, buffer: digest.buffer })
}

/// TPM_ALG_NULL: the scheme that the key is fixed to.
fn as_fixed() -> TPMT_SIG_SCHEME {
    TPMT_SIG_SCHEME { scheme: TPM2_ALG_NULL, ..TPMT_SIG_SCHEME::default() }
}

/// Takes over what a command that attests gave back.
fn attested(
    code: u32,
    attest: *mut TPM2B_ATTEST,
    signature: *mut TPMT_SIGNATURE,
) -> Result<(Vec<u8>, Vec<u8>), ResponseOrError> {
    let (attest, signature) = (Allocated::new(attest), Allocated::new(signature));
    check(code)?;
    let attest = given(attest, "an attestation")?;
    let attest = attest.get();
    let bytes = attest.attestationData.iter().take(attest.size.into()).copied().collect();
    Ok((bytes, marshal_signature(given(signature, "a signature")?.get())?))
}

/// Zeroed memory for a SAPI context that takes the longest commands and responses.
fn sys_memory() -> Box<[u64]> {
    // SAFETY: a plain value; 0 asks for the longest.
    let bytes = unsafe { Tss2_Sys_GetContextSize(0) } as usize;
    vec![0; bytes.div_ceil(size_of::<u64>())].into_boxed_slice()
}

/// An unrestricted key needs no proof that the TPM hashed the digest itself (Part 3, section 20.2.1).
fn no_ticket() -> TPMT_TK_HASHCHECK {
    TPMT_TK_HASHCHECK { tag: TPM2_ST_HASHCHECK, hierarchy: TPM2_RH_NULL, digest: TPM2B_DIGEST::default() }
}

fn given<T>(allocated: Option<Allocated<T>>, what: &str) -> Result<Allocated<T>, Error> {
    allocated.ok_or_else(|| Error::new(ErrorKind::Fault, format!("the TSS did not give {what} back")))
}

/// The TPM2B of a TPMT_PUBLIC.
fn unmarshal(public: &[u8]) -> Result<TPM2B_PUBLIC, ResponseCode> {
    let mut area = TPM2B_PUBLIC::default();
    let mut offset = 0;
    // SAFETY: the buffer is as long as it is said to be; the output is our own variable.
    let code = unsafe {
        Tss2_MU_TPMT_PUBLIC_Unmarshal(public.as_ptr(), public.len() as u64, &mut offset, &mut area.publicArea)
    };
    check(code)?;
    Ok(area)
}

/// A TPML_PCR_SELECTION.
fn unmarshal_selection(bytes: &[u8]) -> Result<TPML_PCR_SELECTION, ResponseCode> {
    let mut selection = TPML_PCR_SELECTION::default();
    let mut offset = 0;
    // SAFETY: the buffer is as long as it is said to be; the output is our own variable.
    let code = unsafe {
        Tss2_MU_TPML_PCR_SELECTION_Unmarshal(bytes.as_ptr(), bytes.len() as u64, &mut offset, &mut selection)
    };
    check(code)?;
    Ok(selection)
}

fn marshal_signature(signature: &TPMT_SIGNATURE) -> Result<Vec<u8>, ResponseOrError> {
    let mut bytes = vec![0; size_of::<TPMT_SIGNATURE>()];
    let mut length = 0;
    // SAFETY: the buffer is as long as it is said to be, and longer than any marshalled TPMT_SIGNATURE.
    let code = unsafe {
        Tss2_MU_TPMT_SIGNATURE_Marshal(signature, bytes.as_mut_ptr(), bytes.len() as u64, &mut length)
    };
    check(code).map_err(|code| code.failed("a signature cannot be marshalled"))?;
    bytes.truncate(length as usize);
    Ok(bytes)
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
