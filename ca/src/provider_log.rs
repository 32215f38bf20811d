//! What a provider of keys has kept of their use, against what the log says of it.
//!
//! Whoever may use a cloud's key, and is not the CA, signs with it past the log; the provider's own log knows of it. It
//! has no digests, so that the two are compared by counts and times: an intent accounts for one signature, between when
//! it was stamped and when its outcome was. What no intent accounts for is named. Which one of several in a busy minute
//! is the one too many cannot be told; that there is one can.

pub mod azure;
pub mod cloudtrail;
pub mod google;
pub mod records;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use undercroft_attestors::custody::key_at_provider;
use undercroft_keys::KeyId;
use undercroft_log::leaf::{Body, Leaf, OutcomeResult};

/// A signature that the provider says it has made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Signed {
    /// When.
    pub time: Timestamp,
    /// The provider's name of the event.
    pub event: String,
    /// What the provider calls the key; none if it does not say.
    pub key: Option<String>,
    /// Who asked, as the provider knows callers.
    pub by: String,
}

/// Whose log it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Provider {
    /// AWS: CloudTrail.
    #[default]
    Aws,
    /// Google: Cloud Audit Logs.
    Google,
    /// Azure: diagnostic logs of Key Vault.
    Azure,
}

impl Provider {
    /// Who keeps evidence of this format.
    fn of_format(format: &str) -> Option<Self> {
        match format {
            "aws-kms-v1" => Some(Self::Aws),
            "google-kms-v1" => Some(Self::Google),
            "azure-key-v1" => Some(Self::Azure),
            _ => None,
        }
    }
}

/// What a provider's log holds.
#[derive(Clone, Debug, Default)]
pub struct ProviderLog {
    /// Whose it is. Keys that live elsewhere are not compared.
    pub provider: Provider,
    /// The signatures that were made.
    pub signed: Vec<Signed>,
    /// How many were asked for and refused.
    pub refused: u64,
    /// The times of the first and the last record of any kind: what lies between is covered.
    pub covers: Option<(Timestamp, Timestamp)>,
}

impl ProviderLog {
    /// There is a record of this time.
    fn cover(&mut self, time: Timestamp) {
        let (first, last) = self.covers.unwrap_or((time, time));
        self.covers = Some((first.min(time), last.max(time)));
    }
}

/// What a log says of the use of its keys, entry by entry.
#[derive(Clone, Debug, Default)]
pub struct Uses {
    /// Keys by what their providers call them.
    keys: HashMap<KeyName, KeyId>,
    /// The log's own keys, which sign heads: nothing says how many.
    of_the_log: HashSet<KeyName>,
    by_key: HashMap<KeyId, KeyUses>,
    /// The key of each intent, and where among its uses it stands.
    intents: HashMap<u64, (KeyId, usize)>,
}

#[derive(Clone, Debug, Default)]
struct KeyUses {
    names: Vec<(Provider, String)>,
    /// When the log first knew the key.
    since: Option<Timestamp>,
    uses: Vec<Use>,
}

/// The time in which an intent accounts for a signature.
#[derive(Clone, Debug)]
struct Use {
    intent: u64,
    from: Timestamp,
    to: Option<Timestamp>,
    signed: bool,
}

/// A key, however its provider's records write it.
type KeyName = (Provider, String);

fn key_name(provider: Provider, name: &str) -> Option<KeyName> {
    let name = match provider {
        // The account and the key's place in it: replicas of a multi-region key share them, and are one key.
        Provider::Aws => match name.splitn(6, ':').collect::<Vec<_>>()[..] {
            ["arn", _, "kms", _, account, key] => Some(format!("{account}:{key}")),
            _ => None,
        },
        // A version of a key, as a resource or with the service in front.
        Provider::Google => {
            let name = name.strip_prefix("//cloudkms.googleapis.com/").unwrap_or(name);
            (name.starts_with("projects/") && name.contains("/cryptoKeyVersions/")).then(|| name.to_owned())
        }
        // https://VAULT/keys/NAME/VERSION, with what a request has behind it. Vaults and names have no case.
        Provider::Azure => {
            let name = name.strip_prefix("https://")?.split('?').next()?.to_lowercase();
            match name.split('/').collect::<Vec<_>>()[..] {
                [vault, "keys", key, version] | [vault, "keys", key, version, "sign"] => {
                    let vault = vault.strip_suffix(":443").unwrap_or(vault);
                    Some(format!("{vault}/keys/{key}/{version}"))
                }
                _ => None,
            }
        }
    };
    Some((provider, name?))
}

impl Uses {
    /// Takes in the next entry of the log. `evidence` is what an entry about a key has with it or in a blob.
    pub fn enter(&mut self, leaf: &Leaf, evidence: Option<&[u8]>) {
        match &leaf.body {
            Body::Key(key) => {
                let Some(provider) = Provider::of_format(&key.format) else { return };
                let called = evidence.and_then(|evidence| key_at_provider(&key.format, evidence));
                let Some(called) = called else { return };
                let Some(name) = key_name(provider, &called) else { return };
                // As the daemon calls it when it logs its custody.
                if key.purpose == format!("log {}", leaf.origin) {
                    self.of_the_log.insert(name);
                    return;
                }
                self.keys.insert(name, key.key_id.0);
                let uses = self.by_key.entry(key.key_id.0).or_default();
                uses.since.get_or_insert(leaf.time);
                let called = (provider, called);
                if !uses.names.contains(&called) {
                    uses.names.push(called);
                }
            }
            Body::Intent(intent) => {
                let key = intent.key_id.0;
                let uses = self.by_key.entry(key).or_default();
                self.intents.insert(leaf.index, (key, uses.uses.len()));
                uses.uses.push(Use { intent: leaf.index, from: leaf.time, to: None, signed: false });
            }
            Body::Outcome(outcome) => {
                let Some((key, place)) = self.intents.get(&outcome.intent) else { return };
                let uses = self.by_key.get_mut(key);
                if let Some(of_intent) = uses.and_then(|uses| uses.uses.get_mut(*place)) {
                    of_intent.to = Some(leaf.time);
                    of_intent.signed = matches!(outcome.result, OutcomeResult::Signature(_));
                }
            }
            _ => {}
        }
    }

    /// Compares the two. `allowance` is how far the clocks of the CA and the provider may be apart.
    pub fn compare(&self, provider: &ProviderLog, allowance: SignedDuration) -> Comparison {
        let mut comparison = Comparison { refused: provider.refused, ..Comparison::default() };
        let mut of_keys: HashMap<KeyId, Vec<&Signed>> = HashMap::new();
        for signed in &provider.signed {
            match signed.key.as_deref().map(|name| key_name(provider.provider, name)) {
                None | Some(None) => comparison.unattributed.push(signed.clone()),
                Some(Some(name)) if self.of_the_log.contains(&name) => comparison.heads += 1,
                Some(Some(name)) => match self.keys.get(&name) {
                    Some(key) => of_keys.entry(*key).or_default().push(signed),
                    None => comparison.of_other_keys += 1,
                },
            }
        }
        for (key, uses) in &self.by_key {
            let names = uses.names.iter().filter(|(of, _)| *of == provider.provider);
            let names: Vec<String> = names.map(|(_, name)| name.clone()).collect();
            if names.is_empty() {
                continue;
            }
            let mut signed = of_keys.remove(key).unwrap_or_default();
            signed.sort_by_key(|signed| signed.time);
            comparison.keys.push(uses.compare(*key, names, &signed, provider.covers, allowance));
        }
        comparison.keys.sort_by_key(|key| key.key.clone());
        comparison
    }
}

impl KeyUses {
    /// Gives each signature to the intent that can wait least for another: so as many as possible are accounted for.
    fn compare(
        &self,
        key: KeyId,
        names: Vec<String>,
        signed: &[&Signed],
        covers: Option<(Timestamp, Timestamp)>,
        allowance: SignedDuration,
    ) -> KeyComparison {
        let mut found = KeyComparison {
            key: key.to_string(),
            names,
            signed: signed.len() as u64,
            accounted: 0,
            request: None,
            unaccounted: Vec::new(),
            unseen: Vec::new(),
        };
        // Saturating: times at the ends of what can be written are the ends.
        let later = |time: Timestamp| time.checked_add(allowance).unwrap_or(Timestamp::MAX);
        let earlier = |time: Timestamp| time.checked_sub(allowance).unwrap_or(Timestamp::MIN);
        let mut uses: Vec<_> = self.uses.iter().collect();
        uses.sort_by_key(|of_intent| of_intent.from);
        let mut coming = uses.into_iter().peekable();
        let mut waiting = BinaryHeap::new();
        let mut unused = Vec::new();
        for signed in signed {
            while let Some(of_intent) = coming.next_if(|of_intent| earlier(of_intent.from) <= signed.time) {
                let to = of_intent.to.map_or(Timestamp::MAX, later);
                waiting.push(Reverse((to, !of_intent.signed, of_intent.intent)));
            }
            while waiting.peek().is_some_and(|Reverse((to, ..))| *to < signed.time) {
                unused.extend(waiting.pop());
            }
            if waiting.pop().is_some() {
                found.accounted += 1;
            } else if found.request.is_none() && self.since.is_some_and(|since| signed.time < since) {
                // A key signs the request for its certificate before any log knows it.
                found.request = Some((*signed).clone());
            } else {
                found.unaccounted.push((*signed).clone());
            }
        }
        let unused: Vec<u64> =
            unused.into_iter().chain(waiting).map(|Reverse((_, _, intent))| intent).collect();
        let unused = unused.into_iter().chain(coming.map(|of_intent| of_intent.intent));
        let by_intent: HashMap<u64, &Use> = self.uses.iter().map(|of| (of.intent, of)).collect();
        let is_covered = |of_intent: &Use| match (covers, of_intent.to) {
            (Some((first, last)), Some(to)) => earlier(of_intent.from) >= first && later(to) <= last,
            _ => false,
        };
        found.unseen = unused
            .filter(|intent| by_intent.get(intent).is_some_and(|of| of.signed && is_covered(of)))
            .collect();
        found.unseen.sort_unstable();
        found
    }
}

/// What came of a comparison.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Comparison {
    /// Key by key, those that the log knows by the provider's name.
    pub keys: Vec<KeyComparison>,
    /// Signatures of which the provider does not say by which key: each may be one of the log's.
    pub unattributed: Vec<Signed>,
    /// How many signatures are by the log's own key, which signs heads: those are not compared.
    pub heads: u64,
    /// How many signatures are by keys that are none of this log's.
    pub of_other_keys: u64,
    /// How many were asked for and refused.
    pub refused: u64,
}

impl Comparison {
    /// How many things somebody must look at: signatures that no intent accounts for, and signatures of the log that the
    /// provider does not know of.
    pub fn alarms(&self) -> usize {
        let of_keys = self.keys.iter().map(|key| key.unaccounted.len() + key.unseen.len());
        of_keys.sum::<usize>() + self.unattributed.len()
    }
}

/// What came of it for one key.
#[derive(Clone, Debug, Serialize)]
pub struct KeyComparison {
    /// The key.
    pub key: String,
    /// What the provider calls it.
    pub names: Vec<String>,
    /// How many signatures the provider has made with it.
    pub signed: u64,
    /// How many of them intents account for.
    pub accounted: u64,
    /// One that is older than what the log knows of the key: the request for its certificate.
    pub request: Option<Signed>,
    /// Those that no intent accounts for: the key was used past the log.
    pub unaccounted: Vec<Signed>,
    /// Intents whose signature the log has and the provider does not know of, although its log covers their time.
    pub unseen: Vec<u64>,
}

#[cfg(test)]
mod tests;
