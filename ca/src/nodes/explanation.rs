//! Why a node was taken or refused, and what changed since it was taken before, in words.

use jiff::Timestamp;
use serde::Serialize;
use undercroft_attestors::tpm::event_log::changes;
use undercroft_log::leaf::Digest;

use super::appraisal::{Appraised, Refused};
use super::claims::{Claims, since};

/// What a judgement came to, in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Explanation {
    /// SHA-256 of the SubjectPublicKeyInfo of the endorsement key, if a maker vouches for it.
    pub endorsement: Option<Digest>,
    /// Who it is, if it was taken.
    pub spiffe_id: Option<String>,
    /// The rule of the policy that takes it.
    pub rule: Option<String>,
    /// The rule that it broke.
    pub code: Option<&'static str>,
    /// Why, in words.
    pub reason: Option<String>,
    /// What to do.
    pub way_out: Option<&'static str>,
    /// What was found to be in order.
    pub in_order: Vec<&'static str>,
    /// What happened since the attestation before: `first`, `running`, `resumed`, `rebooted`.
    pub since: Option<&'static str>,
    /// How often the TPM was reset since the evidence that it is compared with.
    pub resets: Option<u32>,
    /// When that evidence was taken.
    pub compared_with: Option<Timestamp>,
    /// What differs in the event log, PCR by PCR.
    pub changes: Vec<String>,
}

/// What is judged, in order, with how the codes begin of what is wrong with it.
const STAGES: [(&str, &[&str]); 5] = [
    (
        "the endorsement key is of a TPM whose maker policy believes",
        &["exchange-malformed", "csr", "ek-", "crl-", "ak-m", "ak-at", "ak-s", "ak-k", "ak-p"],
    ),
    ("the attestation key is in that TPM, and answered this exchange", &["exchange-", "ak-"]),
    (
        "the quote is of the PCRs that were asked for, and its clock did not go back",
        &["attest-", "quote-", "clock-", "firmware-weak"],
    ),
    ("the event log replays to the quoted PCRs", &["log-missing", "event-log-", "secure-boot-"]),
    ("the key of the request lives in that TPM", &["key-", "creation-"]),
];

impl Explanation {
    /// Of a judgement; `before` is evidence of the same TPM that was taken, with its time.
    pub fn of(judged: &Result<Appraised, Refused>, before: Option<(Timestamp, &Claims)>) -> Self {
        let claims = match judged {
            Ok(appraised) => Some(&appraised.claims),
            Err(refused) => refused.claims.as_deref(),
        };
        let compared = before.zip(claims);
        let mut own = Self {
            endorsement: claims.map(Claims::endorsement),
            spiffe_id: None,
            rule: None,
            code: None,
            reason: None,
            way_out: None,
            in_order: Vec::new(),
            since: claims.map(|claims| since(claims.attested.since())),
            resets: compared.map(|((_, old), new)| {
                new.attested.clock().resets.saturating_sub(old.attested.clock().resets)
            }),
            compared_with: compared.map(|((at, _), _)| at),
            changes: compared.map_or(Vec::new(), |((_, old), new)| differences(old, new)),
        };
        let mut passed = STAGES.len();
        match judged {
            Ok(appraised) => {
                own.spiffe_id = Some(appraised.admitted.spiffe_id.to_string());
                own.rule = Some(appraised.admitted.rule.clone());
            }
            Err(refused) => {
                own.endorsement = own.endorsement.or(refused.endorsement);
                own.code = Some(refused.code);
                own.reason = Some(refused.reason.clone());
                own.way_out = Some(way_out(refused.code));
                // A rule of policy says the same codes as the event log does.
                if claims.is_none() {
                    let is_of = |(_, begin): &(&str, &[&str])| {
                        begin.iter().any(|begin| refused.code.starts_with(begin))
                    };
                    passed = STAGES.iter().position(is_of).unwrap_or(0);
                }
            }
        }
        own.in_order = STAGES.iter().take(passed).map(|(words, _)| *words).collect();
        own
    }
}

fn differences(old: &Claims, new: &Claims) -> Vec<String> {
    match (&old.boot, &new.boot) {
        (Some(old), Some(new)) => changes(&old.log, &new.log).iter().map(ToString::to_string).collect(),
        _ => vec!["without an event log of both, nothing says what changed".to_owned()],
    }
}

/// What to do about a refusal.
fn way_out(code: &str) -> &'static str {
    match code {
        "ek-chain" | "ek-maker" => "if the maker is to be believed, add its certificate to [[tpm.maker]]",
        "ek-not-allowed" => "if the TPM is yours, add its hash to `tpm.allow`",
        "ek-denied" => "the TPM was denied on purpose; find out why before `tpm.deny` is changed",
        "crl-stale" | "crl-missing" => "bring the maker's CRLs up to date",
        "firmware-weak" | "node-firmware" => "update the TPM's firmware, and make its keys anew",
        "ak-activation" | "ak-binding" => {
            "let the node attest again; if it stays so, somebody answers for another TPM"
        }
        "clock-back" => {
            "a TPM that went back was restored from a copy or cleared: find out, then `undercroft node release`"
        }
        "clock-unsafe" => {
            "the machine lost its power without a shutdown; it is over once the clock has gone on"
        }
        "quote-selection" => {
            "the node was asked for other PCRs than this policy wants: a new exchange asks for these"
        }
        "event-log-pcr-mismatch" => {
            "something was measured that the log does not have: look at the machine, then reboot it"
        }
        "log-missing" => {
            "give undercroft-node access to the event log (/sys/kernel/security/tpm0/binary_bios_measurements)"
        }
        "secure-boot-off" => "turn Secure Boot on in the firmware",
        "secure-boot-dbx-lacks" => "update dbx on the machine (fwupdmgr)",
        "secure-boot-sbat-too-low" => "update shim",
        "node-reference" => {
            "if the change was meant, learn the new values and try them with `undercroft attest simulate`; if not, look at the machine"
        }
        "node-selector" | "node-no-rule" | "node-attestor" => {
            "no rule is for such a node: add one, or let it ask for another domain"
        }
        "node-unnamed" => "give the TPM a name in the rule's `names`",
        "node-assurance" => "the rule wants better evidence than such a TPM can give",
        "node-rego" => "see the reasons of the rule's Rego",
        "exchange-unanswered" => "see why the node stopped in the middle",
        _ => "docs/attestation.md and docs/event-log.md say what the code means",
    }
}
