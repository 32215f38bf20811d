//! What others demand of key ceremonies, and which of our checks show it.
//!
//! Clauses are named by their subject, since letters and numbers within them differ between editions. What no program can
//! show is for people to sign.

use super::verdict::Subject;

/// A demand of a standard.
#[derive(Clone, Copy, Debug)]
pub struct Clause {
    /// Where it stands.
    pub source: Source,
    /// What it demands, in a few words.
    pub demand: &'static str,
    /// The checks that show it; none if only people can.
    pub shown_by: &'static [Subject],
    /// What is left to people.
    pub people: &'static str,
}

/// A document that auditors audit by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// WebTrust Principles and Criteria for Certification Authorities, criterion 4.1.
    WebTrust,
    /// CA/Browser Forum Baseline Requirements.
    BaselineRequirements(&'static str),
    /// ETSI EN 319 411-1, clause 6.5.1.
    Etsi,
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::WebTrust => f.write_str("WebTrust 4.1"),
            Self::BaselineRequirements(section) => write!(f, "BR {section}"),
            Self::Etsi => f.write_str("EN 319 411-1 6.5.1"),
        }
    }
}

/// Every demand that we know of.
pub const CLAUSES: &[Clause] = &[
    Clause {
        source: Source::WebTrust,
        demand: "roles and responsibilities",
        shown_by: &[Subject::Approvals],
        people: "who held which role in the room",
    },
    Clause {
        source: Source::WebTrust,
        demand: "approval for the conduct of the ceremony",
        shown_by: &[Subject::Plan, Subject::Approvals],
        people: "",
    },
    Clause {
        source: Source::WebTrust,
        demand: "hardware and activation materials",
        shown_by: &[Subject::Devices, Subject::Custody],
        people: "who held PINs and cards",
    },
    Clause {
        source: Source::WebTrust,
        demand: "the specific steps performed",
        shown_by: &[
            Subject::Order,
            Subject::ToBeSigned,
            Subject::Signatures,
            Subject::Statements,
            Subject::Outputs,
        ],
        people: "steps that people do, with their initials",
    },
    Clause {
        source: Source::WebTrust,
        demand: "physical security of the place",
        shown_by: &[],
        people: "that the place was secured",
    },
    Clause {
        source: Source::WebTrust,
        demand: "secure storage of materials afterwards",
        shown_by: &[],
        people: "what was sealed, and where it is",
    },
    Clause {
        source: Source::WebTrust,
        demand: "sign-off by participants and witnesses that it was performed as the script says",
        shown_by: &[Subject::Approvals],
        people: "signatures on the last page",
    },
    Clause {
        source: Source::WebTrust,
        demand: "notation of deviations from the script",
        shown_by: &[Subject::Deviations],
        people: "what the program could not see",
    },
    Clause {
        source: Source::BaselineRequirements("6.1.1.1 (1)"),
        demand: "a key generation script is prepared and followed",
        shown_by: &[Subject::Plan, Subject::Rehearsal, Subject::Order, Subject::ToBeSigned],
        people: "",
    },
    Clause {
        source: Source::BaselineRequirements("6.1.1.1 (2)"),
        demand: "a qualified auditor witnesses it, or a video of all of it",
        shown_by: &[],
        people: "who witnessed, or where the video is",
    },
    Clause {
        source: Source::BaselineRequirements("6.1.1.1 (3)"),
        demand: "a report that the CA followed its ceremony and its controls",
        shown_by: &[],
        people: "the auditor's own report; this one supports it",
    },
    Clause {
        source: Source::BaselineRequirements("6.1.1.1"),
        demand: "trusted roles, with control by several persons and split knowledge",
        shown_by: &[Subject::Approvals, Subject::Statements],
        people: "split knowledge of PINs and cards",
    },
    Clause {
        source: Source::BaselineRequirements("6.1.1.1"),
        demand: "a cryptographic module as the CP or CPS says",
        shown_by: &[Subject::Devices, Subject::Custody],
        people: "certificates of evaluation of the module",
    },
    Clause {
        source: Source::BaselineRequirements("6.1.1.1"),
        demand: "key generation is logged",
        shown_by: &[Subject::Transcript, Subject::Custody],
        people: "",
    },
    Clause {
        source: Source::BaselineRequirements("6.1.1.1"),
        demand: "a physically secured place",
        shown_by: &[],
        people: "that the place was secured",
    },
    Clause {
        source: Source::BaselineRequirements("4.3.1.2"),
        demand: "to-be-signed certificates are linted before they are signed",
        shown_by: &[Subject::Lint, Subject::ToBeSigned],
        people: "",
    },
    Clause {
        source: Source::BaselineRequirements("5.4.1"),
        demand: "events of the keys' life are recorded with time, person and description",
        shown_by: &[Subject::Transcript, Subject::Time, Subject::Order],
        people: "persons who acted but signed nothing",
    },
    Clause {
        source: Source::Etsi,
        demand: "a documented procedure",
        shown_by: &[Subject::Plan, Subject::Order],
        people: "",
    },
    Clause {
        source: Source::Etsi,
        demand: "roles, functions in each phase, responsibilities during and after",
        shown_by: &[Subject::Approvals],
        people: "who did what, and who keeps what",
    },
    Clause {
        source: Source::Etsi,
        demand: "evidence collected, date, inventory of keys, details of devices",
        shown_by: &[Subject::Time, Subject::Custody, Subject::Devices, Subject::Evidence, Subject::Outputs],
        people: "",
    },
    Clause {
        source: Source::Etsi,
        demand: "integrity and confidentiality of the key pair are shown",
        shown_by: &[Subject::Custody, Subject::Signatures],
        people: "confidentiality, as far as custody is `declared` and not `proven`",
    },
];

/// The clauses that a check serves, in few words.
pub fn of(subject: Subject) -> Vec<String> {
    let mut clauses: Vec<String> = Vec::new();
    for clause in CLAUSES.iter().filter(|clause| clause.shown_by.contains(&subject)) {
        let source = clause.source.to_string();
        if !clauses.contains(&source) {
            clauses.push(source);
        }
    }
    clauses
}
