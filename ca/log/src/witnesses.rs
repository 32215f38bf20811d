//! Whose cosignatures a checkpoint needs: policy files (C2SP tlog-policy).
//!
//! ```text
//! log ca.example/audit/1+ad4048ac+AQOh… https://log.example/
//! witness w1 witness.example/w1+20324abe+BCms… https://witness.example/
//! witness w2 …
//! group both all w1 w2
//! quorum both
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use jiff::Timestamp;

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::cosignature::WitnessKey;
use crate::note::{Note, NoteError, VerifierKey};

/// The most bytes of a policy file: 32 logs and 32 witnesses with ML-DSA-44 keys fit.
const MAX_POLICY: usize = 256 * 1024;

/// The most logs, witnesses and groups together.
const MAX_LINES: usize = 1024;

/// A policy file, whole in itself.
#[derive(Clone, Debug, Default)]
pub struct WitnessPolicy {
    logs: Vec<(VerifierKey, Option<String>)>,
    witnesses: Vec<Witness>,
    /// Each names earlier members alone, so that there is no circle.
    groups: BTreeMap<String, Group>,
    quorum: Option<String>,
}

/// A witness of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness {
    /// How the policy calls it.
    pub name: String,
    /// Its key.
    pub key: WitnessKey,
    /// Where checkpoints are submitted to it.
    pub url: Option<String>,
}

#[derive(Clone, Debug)]
struct Group {
    needed: usize,
    members: Vec<String>,
}

impl WitnessPolicy {
    /// The logs, each with the URL that it is served at.
    pub fn logs(&self) -> &[(VerifierKey, Option<String>)] {
        &self.logs
    }

    /// The witnesses.
    pub fn witnesses(&self) -> &[Witness] {
        &self.witnesses
    }

    /// Whether anybody's cosignature is needed.
    pub fn needs_witnesses(&self) -> bool {
        self.quorum.is_some()
    }

    /// Whether the cosignatures of these witnesses, by the policy's names for them, are enough.
    pub fn is_met_by(&self, cosigned: &BTreeSet<&str>) -> bool {
        self.quorum.as_deref().is_none_or(|quorum| self.is_met(quorum, cosigned))
    }

    fn is_met(&self, member: &str, cosigned: &BTreeSet<&str>) -> bool {
        match self.groups.get(member) {
            None => cosigned.contains(member),
            Some(group) => {
                group.members.iter().filter(|member| self.is_met(member, cosigned)).count() >= group.needed
            }
        }
    }

    /// Verifies a checkpoint of one of the policy's logs, and that enough witnesses have cosigned it. Gives the
    /// checkpoint and the names of the witnesses that did.
    ///
    /// # Errors
    /// It is of no log of the policy, a line of a key that the policy knows does not verify, or too few witnesses have
    /// cosigned it.
    pub fn open(&self, note: &str) -> Result<(Checkpoint, BTreeSet<&str>), CheckpointError> {
        let parsed = Note::parse(note)?;
        let claimed = Checkpoint::parse(parsed.unverified_text())?;
        let (key, _) = self
            .logs
            .iter()
            .find(|(key, _)| *key.name() == claimed.origin)
            .ok_or_else(|| NoteError::NotSignedBy(claimed.origin.to_string()))?;
        let checkpoint = Checkpoint::open(note, key)?;
        Ok((checkpoint, self.cosigned(note)?.into_keys().collect()))
    }

    /// Verifies that enough witnesses have cosigned a checkpoint, whatever log it is of. Gives their names, and the
    /// times that they vouch for.
    ///
    /// # Errors
    /// A line of a witness that the policy knows does not verify, or too few have cosigned it.
    pub fn cosigned(&self, note: &str) -> Result<BTreeMap<&str, Timestamp>, CheckpointError> {
        let parsed = Note::parse(note)?;
        let mut cosigned = BTreeMap::new();
        for witness in &self.witnesses {
            match witness.key.verify(&parsed) {
                Ok(time) => drop(cosigned.insert(&*witness.name, time)),
                Err(CheckpointError::Note(NoteError::NotSignedBy(_))) => {}
                Err(error) => return Err(error),
            }
        }
        match self.is_met_by(&cosigned.keys().copied().collect()) {
            true => Ok(cosigned),
            false => Err(CheckpointError::TooFewWitnesses(cosigned.len())),
        }
    }
}

impl FromStr for WitnessPolicy {
    type Err = WitnessPolicyError;

    fn from_str(text: &str) -> Result<Self, WitnessPolicyError> {
        if text.len() > MAX_POLICY || text.lines().count() > MAX_LINES {
            return Err(WitnessPolicyError { line: 0, what: "it is too long".into() });
        }
        let mut reader = Reader::default();
        for (number, line) in text.lines().enumerate() {
            let words: Vec<_> = line.split('#').next().unwrap_or_default().split_whitespace().collect();
            reader.line(&words).map_err(|what| WitnessPolicyError { line: number + 1, what })?;
        }
        match reader.quorum {
            Some(quorum) => Ok(Self { quorum, ..reader.policy }),
            None => Err(WitnessPolicyError { line: 0, what: "it has no quorum line".into() }),
        }
    }
}

#[derive(Default)]
struct Reader {
    policy: WitnessPolicy,
    /// Names that stand in a group already: each may be in one at most.
    grouped: BTreeSet<String>,
    /// The quorum line, once it was read.
    quorum: Option<Option<String>>,
}

impl Reader {
    fn line(&mut self, words: &[&str]) -> Result<(), String> {
        match words {
            [] => Ok(()),
            _ if self.quorum.is_some() => Err("nothing comes after the quorum".into()),
            ["log", key] => self.log(key, None),
            ["log", key, url] => self.log(key, Some(url)),
            ["witness", name, key] => self.witness(name, key, None),
            ["witness", name, key, url] => self.witness(name, key, Some(url)),
            ["group", name, needed, members @ ..] => self.group(name, needed, members),
            ["quorum", "none"] => {
                self.quorum = Some(None);
                Ok(())
            }
            ["quorum", name] => {
                self.known(name)?;
                self.quorum = Some(Some((*name).to_owned()));
                Ok(())
            }
            [word, ..] => Err(format!(
                "`{word}` begins no line of a policy, or has other parts; there are log, witness, group and quorum"
            )),
        }
    }

    fn log(&mut self, key: &str, url: Option<&str>) -> Result<(), String> {
        let key: VerifierKey = key.parse().map_err(|error: NoteError| error.to_string())?;
        if self.policy.logs.iter().any(|(other, _)| other.name() == key.name()) {
            return Err(format!("the log `{}` stands twice", key.name()));
        }
        self.policy.logs.push((key, url.map(str::to_owned)));
        Ok(())
    }

    fn witness(&mut self, name: &str, key: &str, url: Option<&str>) -> Result<(), String> {
        self.unused(name)?;
        let key: WitnessKey = key.parse().map_err(|error: NoteError| error.to_string())?;
        // Two names for one key would count it twice.
        if let Some(other) = self.policy.witnesses.iter().find(|other| other.key.has_the_key_of(&key)) {
            return Err(format!("it has the key of the witness `{}`", other.name));
        }
        self.policy.witnesses.push(Witness { name: name.to_owned(), key, url: url.map(str::to_owned) });
        Ok(())
    }

    fn group(&mut self, name: &str, needed: &str, members: &[&str]) -> Result<(), String> {
        self.unused(name)?;
        if members.is_empty() {
            return Err(format!("the group `{name}` has no members"));
        }
        let needed = match needed {
            "all" => members.len(),
            "any" => 1,
            number => number
                .parse()
                .ok()
                .filter(|needed| (1..=members.len()).contains(needed) && needed.to_string() == number)
                .ok_or_else(|| {
                    format!("`{number}` is not all, any or a number from 1 to {}", members.len())
                })?,
        };
        for member in members {
            self.known(member)?;
            if !self.grouped.insert((*member).to_owned()) {
                return Err(format!("`{member}` is a member already, here or in another group"));
            }
        }
        let members = members.iter().map(|member| (*member).to_owned()).collect();
        self.policy.groups.insert(name.to_owned(), Group { needed, members });
        Ok(())
    }

    fn unused(&self, name: &str) -> Result<(), String> {
        if name == "none" {
            return Err("`none` is no name".into());
        }
        match self.is_known(name) {
            true => Err(format!("`{name}` stands twice")),
            false => Ok(()),
        }
    }

    fn known(&self, name: &str) -> Result<(), String> {
        match self.is_known(name) {
            true => Ok(()),
            false => Err(format!("`{name}` is no witness and no group of the lines before")),
        }
    }

    fn is_known(&self, name: &str) -> bool {
        self.policy.groups.contains_key(name)
            || self.policy.witnesses.iter().any(|witness| witness.name == name)
    }
}

/// What is wrong with a policy file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct WitnessPolicyError {
    /// The line, from 1; 0 for the file as a whole.
    pub line: usize,
    /// What is wrong with it.
    pub what: String,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LOG: &str = "ca.example/audit/1+ad4048ac+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4";
    const NOTE: &str = "ca.example/audit/1\n7\nkTlgHMHKirKnoMLBNMBIRfKxulSag9bIRc/NpDnMWF0=\n\n\u{2014} ca.example/audit/1 rUBIrC4eTHuW6wdyuiFAP6Eq6pBPo51cwJF1ULonnLjjbmM5FcOvVaFGY2kVW25W15kP80MTG8ZSlIK03TPOBpyeKwg=\n\u{2014} witness.example/w1 IDJKvgAAAABlU/EAKWO139Xp03BsJF9QP51hAdVSHg+erDnIp0EpEwk82iMUbYteqih+WsRG2Vr+Yv+95qbSiuUlTMs7byTY+8Z4Ag==\n";
    const W1: &str = "witness.example/w1+20324abe+BCmsuuFBvMrwsi4alNNNC8c2HlJtC/4SyJeUvJMilm3X";

    /// A witness's key that nobody holds.
    fn vkey(name: &str, seed: u8) -> String {
        use aws_lc_rs::signature::KeyPair as _;
        let pair = aws_lc_rs::signature::Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
        let key = undercroft_keys::PublicKey::from_ed25519(pair.public_key().as_ref()).unwrap();
        WitnessKey::ed25519(name.parse().unwrap(), key).unwrap().to_string()
    }

    fn policy(rest: &str) -> Result<WitnessPolicy, WitnessPolicyError> {
        let (w2, w3) = (vkey("w2.example", 2), vkey("w3.example", 3));
        format!("# ours\nlog {LOG} https://log.example/\nwitness w1 {W1} https://w1.example/\nwitness w2 {w2}\nwitness w3 {w3} # away\n{rest}\n").parse()
    }

    #[test]
    fn a_quorum_is_met_by_its_members_alone() {
        for (lines, cosigned, met) in [
            ("quorum none", &[][..], true),
            ("quorum w1", &[], false),
            ("quorum w1", &["w2", "w3"], false),
            ("quorum w1", &["w1"], true),
            ("group g any w1 w2\nquorum g", &["w3"], false),
            ("group g any w1 w2\nquorum g", &["w2"], true),
            ("group g all w1 w2\nquorum g", &["w2"], false),
            ("group g all w1 w2\nquorum g", &["w1", "w2"], true),
            ("group g 2 w1 w2 w3\nquorum g", &["w1"], false),
            ("group g 2 w1 w2 w3\nquorum g", &["w3", "w1"], true),
            ("group g any w1 w2\ngroup h all g w3\nquorum h", &["w1", "w2"], false),
            ("group g any w1 w2\ngroup h all g w3\nquorum h", &["w2", "w3"], true),
        ] {
            let policy = policy(lines).unwrap();
            assert_eq!(policy.is_met_by(&cosigned.iter().copied().collect()), met, "{lines}: {cosigned:?}");
        }
        let policy = policy("quorum w1").unwrap();
        assert_eq!(policy.logs()[0].1.as_deref(), Some("https://log.example/"));
        assert_eq!(policy.witnesses()[0].url.as_deref(), Some("https://w1.example/"));
        assert_eq!(policy.witnesses()[2].url, None);
    }

    #[test]
    fn a_checkpoint_opens_if_enough_have_cosigned_it() {
        let (checkpoint, cosigned) =
            policy("quorum w1").unwrap().open(NOTE).map(|(c, w)| (c, w.len())).unwrap();
        assert_eq!((checkpoint.size, cosigned), (7, 1));
        let short = policy("group g 2 w1 w2 w3\nquorum g").unwrap();
        assert_eq!(short.open(NOTE).unwrap_err(), CheckpointError::TooFewWitnesses(1));
        // A line of a witness that we know and that does not verify spoils the note, whatever the quorum says.
        let bad = NOTE.replace("IDJKvgAAAABlU/EA", "IDJKvgAAAABlU/EB");
        assert!(policy("quorum none").unwrap().open(&bad).is_err());
        assert!(policy("quorum none").unwrap().open(&NOTE.replace("audit/1", "audit/2")).is_err());
    }

    #[test]
    fn malformed_policies_are_refused_by_line() {
        let twice = format!("witness w4 {W1}\nquorum w1");
        let log_twice = format!("log {LOG}\nquorum w1");
        for (lines, line, what) in [
            ("", 0, "no quorum"),
            ("quorum w4", 6, "no witness and no group"),
            ("quorum w1\nquorum w2", 7, "nothing comes after"),
            ("quorum", 6, "has other parts"),
            ("witnes w5 x", 6, "begins no line"),
            ("group g 0 w1\nquorum g", 6, "number from 1 to 1"),
            ("group g 2 w1\nquorum g", 6, "number from 1 to 1"),
            ("group g 01 w1\nquorum g", 6, "number from 1 to 1"),
            ("group g any\nquorum g", 6, "no members"),
            ("group g any w1 w1\nquorum g", 6, "a member already"),
            ("group g any w1\ngroup h any w1\nquorum g", 7, "a member already"),
            ("group g any h\ngroup h any w1\nquorum g", 6, "of the lines before"),
            ("group g any g\nquorum g", 6, "of the lines before"),
            ("group w1 any w2\nquorum w1", 6, "stands twice"),
            ("group none any w2\nquorum none", 6, "no name"),
            (&twice, 6, "the key of the witness `w1`"),
            (&log_twice, 6, "stands twice"),
            ("log x\nquorum w1", 6, "verifier key"),
            ("witness w5 x\nquorum w1", 6, "verifier key"),
        ] {
            let refused = policy(lines).unwrap_err();
            assert!(refused.line == line && refused.what.contains(what), "{lines}: {refused}");
        }
        assert!("#\n".repeat(2000).parse::<WitnessPolicy>().is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "((log|witness|group|quorum|w1|any|2|\\PC{0,10})[ \n]){0,30}") {
            let _ = text.parse::<WitnessPolicy>();
            let _ = policy(&text);
        }
    }
}
