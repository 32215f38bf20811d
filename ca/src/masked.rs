//! What is signed in a rehearsal is what is signed in the ceremony, save the keys. Here is what "save the keys" means.
//!
//! In to-be-signed bytes a key shows as its SubjectPublicKeyInfo, and as the key identifier made of it (RFC 5280 section
//! 4.2.1.2, method 1: SHA-1 of the subjectPublicKey) in the subject and authority key identifiers. Both are replaced by as
//! many bytes that depend on the key's *name in the plan* alone. What is left must be equal to the byte: two keys that were
//! exchanged for each other have other names and so do not compare equal, and neither do keys of other lengths.
//!
//! A root that exists has two keys in a rehearsal: that of its certificate, whose identifier everything below it
//! carries, and the simulator's, which stands in for it and signs. Both have the root's name.

use undercroft_keys::PublicKey;
use undercroft_log::leaf::Digest;

use crate::plan::{Keys, Plan};

/// The keys of one transcript, by their names in the plan.
#[derive(Clone, Debug, Default)]
pub struct Masks(Vec<Mask>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Mask {
    key: Vec<u8>,
    filler: Vec<u8>,
}

impl Masks {
    /// The masks of a transcript's keys.
    pub fn new(plan: &Plan, keys: &Keys) -> Self {
        let mut masks = Self::default();
        for (name, key) in &keys.roots {
            masks.add(&format!("root {name}"), key);
        }
        for (name, (key, _)) in &keys.requests {
            masks.add(&format!("authority {name}"), key);
        }
        for (name, certificate) in
            plan.roots().iter().filter_map(|root| Some((root.name(), root.certificate()?)))
        {
            masks.add(&format!("root {name}"), certificate.public_key());
        }
        masks
    }

    /// Masks a key.
    pub fn add(&mut self, name: &str, key: &PublicKey) {
        for (part, bytes) in
            [("key", key.spki()), ("identifier", key.subject_key_identifier().as_bytes().as_slice())]
        {
            let mask = Mask { key: bytes.to_vec(), filler: filler(name, part, bytes.len()) };
            if !self.0.contains(&mask) {
                self.0.push(mask);
            }
        }
        // A SubjectPublicKeyInfo before an identifier: the longest match wins.
        self.0.sort_by_key(|mask| std::cmp::Reverse(mask.key.len()));
    }

    /// The bytes with every key in them masked.
    pub fn mask(&self, tbs: &[u8]) -> Vec<u8> {
        let mut masked = Vec::with_capacity(tbs.len());
        let mut rest = tbs;
        while let Some((first, behind)) = rest.split_first() {
            match self.0.iter().find(|mask| rest.starts_with(&mask.key)) {
                Some(mask) => {
                    masked.extend(&mask.filler);
                    rest = &rest[mask.key.len()..];
                }
                None => {
                    masked.push(*first);
                    rest = behind;
                }
            }
        }
        masked
    }
}

/// Bytes that a name decides and no key does: SHA-256 of it, over and over.
fn filler(name: &str, part: &str, length: usize) -> Vec<u8> {
    let Digest(digest) = Digest::of(format!("undercroft masked {part} of {name}").as_bytes());
    digest.iter().copied().cycle().take(length).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use undercroft_keys::KeyAlgorithm;

    use super::*;
    use crate::fixtures::key;
    use crate::plan::{Step, What};

    fn masks(named: &[(&str, &PublicKey)]) -> Masks {
        let mut masks = Masks::default();
        named.iter().for_each(|(name, key)| masks.add(name, key));
        masks
    }

    /// The plan in the documentation.
    fn plan() -> Plan {
        let page = include_str!("../../docs/ceremony.md");
        let text = page.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
        Plan::parse("docs/ceremony.md", text).unwrap()
    }

    /// Every object of a plan, for keys that are new each time.
    fn signed(plan: &Plan) -> (Vec<Vec<u8>>, Masks) {
        let mut keys = Keys::default();
        for root in plan.roots() {
            keys.roots.insert(root.name().to_owned(), key(root.key().algorithm));
        }
        for intermediate in plan.intermediates() {
            keys.requests.insert(intermediate.name().to_owned(), (key(intermediate.algorithm()), None));
        }
        let prepare = |step: &Step<'_>| step.prepare(plan, &keys, 1).unwrap();
        let tbs = plan.steps().iter().filter_map(prepare).map(|it| it.to_be_signed().to_vec()).collect();
        (tbs, Masks::new(plan, &keys))
    }

    #[test]
    fn two_runs_of_a_plan_differ_in_their_keys_alone() {
        let plan = plan();
        let ((ours, our_masks), (theirs, their_masks)) = (signed(&plan), signed(&plan));
        assert_eq!(ours.len(), plan.steps().len());
        for ((ours, theirs), step) in ours.iter().zip(&theirs).zip(plan.steps()) {
            assert_ne!(ours, theirs, "{}", step.name());
            assert_eq!(our_masks.mask(ours), their_masks.mask(theirs), "{}", step.name());
            // The other one's masks do not hide the difference.
            assert_ne!(our_masks.mask(ours), our_masks.mask(theirs), "{}", step.name());
        }
        assert!(plan.steps().iter().any(|step| matches!(step.what, What::Crl(_))));
    }

    #[test]
    fn another_attempt_has_another_serial_number_and_so_is_not_equal() {
        let plan = plan();
        let keys = Keys {
            roots: [("prod-root".to_owned(), key(KeyAlgorithm::EcdsaP384))].into(),
            ..Keys::default()
        };
        let root = plan.steps()[0];
        let of = |attempt| root.prepare(&plan, &keys, attempt).unwrap().unwrap().to_be_signed().to_vec();
        let masks = Masks::new(&plan, &keys);
        assert_eq!(masks.mask(&of(1)), masks.mask(&of(1)));
        assert_ne!(masks.mask(&of(1)), masks.mask(&of(2)));
    }

    #[test]
    fn keys_that_were_exchanged_do_not_compare_equal() {
        let (a, b) = (key(KeyAlgorithm::EcdsaP256), key(KeyAlgorithm::EcdsaP256));
        let tbs = [b"certificate of ".as_slice(), a.spki(), b" by ", b.subject_key_identifier().as_bytes()]
            .concat();
        let straight = masks(&[("a", &a), ("b", &b)]).mask(&tbs);
        let exchanged = masks(&[("b", &a), ("a", &b)]).mask(&tbs);
        assert_eq!(straight.len(), tbs.len());
        assert_ne!(straight, exchanged);
    }

    #[test]
    fn keys_of_other_kinds_do_not_compare_equal() {
        let (small, large) = (key(KeyAlgorithm::EcdsaP256), key(KeyAlgorithm::EcdsaP384));
        let mask = |key: &PublicKey| masks(&[("a", key)]).mask(key.spki());
        assert_ne!(mask(&small), mask(&large));
    }

    proptest! {
        #[test]
        fn nothing_but_keys_is_touched(before: Vec<u8>, behind: Vec<u8>) {
            let key = key(KeyAlgorithm::EcdsaP256);
            let masks = masks(&[("a", &key)]);
            prop_assert_eq!(&masks.mask(&before), &before);
            let tbs = [&before[..], key.spki(), &behind[..]].concat();
            let masked = masks.mask(&tbs);
            prop_assert_eq!(masked.len(), tbs.len());
            prop_assert_eq!(&masked[..before.len()], &before[..]);
            prop_assert_eq!(&masked[tbs.len() - behind.len()..], &behind[..]);
            prop_assert!(!masked.windows(key.spki().len()).any(|window| window == key.spki()));
        }
    }
}
