//! Why a log is refused.

use std::fmt;

/// A rule that a log broke. Its code is stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// The log ends inside a field, or a field is longer than what is left.
    Truncated,
    /// The log, an event's data, or the number of events is above our limit.
    TooLarge,
    /// It is a log of SHA-1 digests alone (TCG_PCR_EVENT), which no quote of ours can bear out.
    LegacyFormat,
    /// The Spec ID event is not as PFP section 10.4.5.1 says.
    SpecId,
    /// There is a second Spec ID event.
    SpecIdTwice,
    /// The Spec ID event names an algorithm that we do not know, or names one twice.
    Algorithm,
    /// An algorithm's digests have another size than the log says.
    DigestSize,
    /// An event has not one digest for each algorithm of the log.
    Digests,
    /// An event extends a PCR that there is not.
    PcrIndex,
    /// An event extends a PCR that can be reset without a reboot, or such a value is to be accounted for.
    PcrResettable,
    /// StartupLocality is not as PFP section 10.4.5.3 says.
    StartupLocality,
    /// The quote is of a bank that the log has no digests for.
    BankNotInLog,
    /// There are no PCR values to compare with.
    NoPcr,
    /// A PCR value has not the size of its bank.
    ValueSize,
    /// The log does not replay to the quoted value.
    PcrMismatch,
    /// A digest is zero: nothing was measured into this bank.
    ZeroDigest,
    /// The type of an event is not defined, or has no business in its PCR.
    EventType,
    /// The digest is not that of the data, where the type says that it is.
    DigestOfData,
    /// One of PCRs 0 to 7 has not exactly one separator.
    Separator,
    /// A separator says something else than that the firmware went on without error.
    SeparatorValue,
    /// An event has the digest of a separator and another type.
    DisguisedSeparator,
    /// An EFI variable cannot be read.
    Variable,
    /// A signature database cannot be read.
    SignatureDatabase,
    /// The GUID partition table cannot be read.
    Gpt,
    /// A PCR that facts are wanted of is not among the quoted ones.
    PcrNotQuoted,
    /// A variable of Secure Boot is missing.
    VariableMissing,
    /// A variable of Secure Boot is there twice.
    VariableTwice,
    /// A variable of Secure Boot comes after the separator.
    VariableAfterSeparator,
    /// A variable of Secure Boot has the GUID of another vendor, or stands where it has no business.
    VariableName,
    /// The variable SecureBoot, or one of the modes, is not one byte of 0 or 1.
    SecureBootValue,
    /// The platform was in setup or audit mode, where nothing is enforced.
    SetupMode,
    /// Secure Boot was on without a PK, KEK or db.
    EmptyDatabase,
    /// Secure Boot was on, and nothing says whose signature was accepted.
    NoAuthority,
    /// What is said to have vouched for an image is not in the measured db.
    AuthorityNotInDb,
    /// What is said to have vouched cannot be read.
    AuthorityForm,
    /// A firmware debugger was attached.
    DebugMode,
    /// An action in PCR 7 that PFP does not know.
    Action,
    /// SbatLevel cannot be read, or is there twice.
    Sbat,
    /// Something was extended after the firmware had been left.
    AfterExit,
    /// Requirement: Secure Boot was off.
    SecureBootOff,
    /// Requirement: a hash is missing in the measured dbx.
    DbxLacks,
    /// Requirement: db holds what is not allowed.
    DbNotAllowed,
    /// Requirement: something else than what is allowed has vouched.
    AuthorityNotAllowed,
    /// Requirement: the SBAT level is missing or too low.
    SbatTooLow,
    /// Requirement: DMA protection was disabled.
    DmaProtection,
    /// Requirement: the log does not show that the firmware was left.
    NoExit,
}

impl Rule {
    /// Every rule.
    pub const ALL: [Self; 46] = [
        Self::Truncated,
        Self::TooLarge,
        Self::LegacyFormat,
        Self::SpecId,
        Self::SpecIdTwice,
        Self::Algorithm,
        Self::DigestSize,
        Self::Digests,
        Self::PcrIndex,
        Self::PcrResettable,
        Self::StartupLocality,
        Self::BankNotInLog,
        Self::NoPcr,
        Self::ValueSize,
        Self::PcrMismatch,
        Self::ZeroDigest,
        Self::EventType,
        Self::DigestOfData,
        Self::Separator,
        Self::SeparatorValue,
        Self::DisguisedSeparator,
        Self::Variable,
        Self::SignatureDatabase,
        Self::Gpt,
        Self::PcrNotQuoted,
        Self::VariableMissing,
        Self::VariableTwice,
        Self::VariableAfterSeparator,
        Self::VariableName,
        Self::SecureBootValue,
        Self::SetupMode,
        Self::EmptyDatabase,
        Self::NoAuthority,
        Self::AuthorityNotInDb,
        Self::AuthorityForm,
        Self::DebugMode,
        Self::Action,
        Self::Sbat,
        Self::AfterExit,
        Self::SecureBootOff,
        Self::DbxLacks,
        Self::DbNotAllowed,
        Self::AuthorityNotAllowed,
        Self::SbatTooLow,
        Self::DmaProtection,
        Self::NoExit,
    ];

    /// The code that programs may depend on.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Truncated => "event-log-truncated",
            Self::TooLarge => "event-log-too-large",
            Self::LegacyFormat => "event-log-legacy-format",
            Self::SpecId => "event-log-spec-id",
            Self::SpecIdTwice => "event-log-spec-id-twice",
            Self::Algorithm => "event-log-algorithm",
            Self::DigestSize => "event-log-digest-size",
            Self::Digests => "event-log-digests",
            Self::PcrIndex => "event-log-pcr-index",
            Self::PcrResettable => "event-log-pcr-resettable",
            Self::StartupLocality => "event-log-startup-locality",
            Self::BankNotInLog => "event-log-bank-not-in-log",
            Self::NoPcr => "event-log-no-pcr",
            Self::ValueSize => "event-log-value-size",
            Self::PcrMismatch => "event-log-pcr-mismatch",
            Self::ZeroDigest => "event-log-zero-digest",
            Self::EventType => "event-log-event-type",
            Self::DigestOfData => "event-log-digest-of-data",
            Self::Separator => "event-log-separator",
            Self::SeparatorValue => "event-log-separator-value",
            Self::DisguisedSeparator => "event-log-disguised-separator",
            Self::Variable => "event-log-variable",
            Self::SignatureDatabase => "event-log-signature-database",
            Self::Gpt => "event-log-gpt",
            Self::PcrNotQuoted => "event-log-pcr-not-quoted",
            Self::VariableMissing => "secure-boot-variable-missing",
            Self::VariableTwice => "secure-boot-variable-twice",
            Self::VariableAfterSeparator => "secure-boot-variable-after-separator",
            Self::VariableName => "secure-boot-variable-name",
            Self::SecureBootValue => "secure-boot-value",
            Self::SetupMode => "secure-boot-setup-mode",
            Self::EmptyDatabase => "secure-boot-empty-database",
            Self::NoAuthority => "secure-boot-no-authority",
            Self::AuthorityNotInDb => "secure-boot-authority-not-in-db",
            Self::AuthorityForm => "secure-boot-authority-form",
            Self::DebugMode => "secure-boot-debug-mode",
            Self::Action => "secure-boot-action",
            Self::Sbat => "secure-boot-sbat",
            Self::AfterExit => "event-log-after-exit",
            Self::SecureBootOff => "secure-boot-off",
            Self::DbxLacks => "secure-boot-dbx-lacks",
            Self::DbNotAllowed => "secure-boot-db-not-allowed",
            Self::AuthorityNotAllowed => "secure-boot-authority-not-allowed",
            Self::SbatTooLow => "secure-boot-sbat-too-low",
            Self::DmaProtection => "secure-boot-dma-protection",
            Self::NoExit => "event-log-no-exit",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// A log, or the boot that it tells of, is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventLogError {
    /// The rule that is broken.
    pub rule: Rule,
    /// The number of the event where it was noticed; the header is number 0.
    pub event: Option<usize>,
    /// What is wrong, in words.
    pub what: String,
}

impl EventLogError {
    pub(super) fn new(rule: Rule, what: impl Into<String>) -> Self {
        Self { rule, event: None, what: what.into() }
    }

    pub(super) fn at(rule: Rule, event: usize, what: impl Into<String>) -> Self {
        Self { rule, event: Some(event), what: what.into() }
    }

    /// The same, if nothing has said yet where.
    pub(super) fn in_event(mut self, event: usize) -> Self {
        self.event.get_or_insert(event);
        self
    }
}

impl fmt::Display for EventLogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the event log is refused ({})", self.rule)?;
        if let Some(event) = self.event {
            write!(f, " at event {event}")?;
        }
        write!(f, ": {}", self.what)
    }
}

impl std::error::Error for EventLogError {}
