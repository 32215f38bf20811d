//! What every backend must do, whatever its token: one suite, run by each of them.
//!
//! A backend lists what its token cannot do as data ([`Backend::unsupported`]). The list must be exact: the suite
//! fails when an exception has become untrue, so that a table made from it never lags behind the token.
#![allow(clippy::panic, clippy::expect_used, reason = "a conformance suite fails by panicking, as tests do")]

pub mod table;

use std::sync::Arc;

use futures::executor::block_on;
use futures::future::join_all;
use undercroft_keymgr::{ErrorKind, Key, KeyManager, KeyUri};
use undercroft_keys::{DigestAlgorithm, KeyAlgorithm, MessageDigest};

/// A backend under test.
pub struct Subject<'a> {
    /// Opens the token anew, as after a restart of the program.
    pub open: &'a dyn Fn() -> Arc<dyn KeyManager>,
    /// A URI for the key number `n`, not used before.
    pub uri: &'a dyn Fn(u32) -> KeyUri,
    /// Algorithms that the token cannot make, each with the reason.
    pub unsupported: &'a [(KeyAlgorithm, &'static str)],
    /// Why the token has no keys that are forgotten at once, where that is so.
    pub no_throwaway: Option<&'static str>,
    /// The format of its custody evidence.
    pub custody_format: &'static str,
}

/// Runs the suite and returns the algorithms that worked.
///
/// # Panics
/// When the backend does not conform, with what it did.
pub fn run(subject: &Subject<'_>) -> Vec<KeyAlgorithm> {
    suite(subject, &[], usize::MAX)
}

/// The same, without algorithms with which a module breaks its own promises, as its test shows.
///
/// # Panics
/// As [`run`].
pub fn run_without(subject: &Subject<'_>, broken: &[KeyAlgorithm]) -> Vec<KeyAlgorithm> {
    suite(subject, broken, usize::MAX)
}

/// The same for a token to which a message goes whole where it is not hashed before (Ed25519), and which takes so many
/// bytes of one and not a byte more.
///
/// # Panics
/// As [`run`].
pub fn run_with_messages_up_to(longest: usize, subject: &Subject<'_>) -> Vec<KeyAlgorithm> {
    suite(subject, &[], longest)
}

fn suite(subject: &Subject<'_>, broken: &[KeyAlgorithm], longest: usize) -> Vec<KeyAlgorithm> {
    let manager = (subject.open)();
    let mut worked = Vec::new();
    let algorithms = KeyAlgorithm::ALL.into_iter().filter(|algorithm| !broken.contains(algorithm));
    for (number, algorithm) in (1..).zip(algorithms) {
        let uri = (subject.uri)(number);
        match subject.unsupported.iter().find(|(unsupported, _)| *unsupported == algorithm) {
            Some((_, reason)) => refuses(&*manager, &uri, algorithm, reason),
            None => {
                makes_and_uses(subject, longest, &*manager, &uri, algorithm);
                worked.push(algorithm);
            }
        }
    }
    finds_nothing_where_nothing_is(&*manager, &(subject.uri)(900));
    let shared = (subject.uri)(901);
    signs_for_many_at_once(&*manager, &shared);
    match subject.no_throwaway {
        None => forgets_throwaway_keys(&*manager),
        Some(reason) => refuses_throwaway_keys(&*manager, reason),
    }
    worked
}

fn refuses(manager: &dyn KeyManager, uri: &KeyUri, algorithm: KeyAlgorithm, reason: &str) {
    match block_on(manager.create(uri, algorithm)) {
        Err(error) => assert_eq!(error.kind(), ErrorKind::Unsupported, "{algorithm}: {error}"),
        Ok(_) => panic!("{algorithm} works now; drop the exception that says: {reason}"),
    }
    let left = block_on(manager.open(uri, algorithm)).map(|_| ());
    assert_eq!(
        left.map_err(|error| error.kind()),
        Err(ErrorKind::NotFound),
        "{algorithm}: a refused key left something behind"
    );
}

fn makes_and_uses(
    subject: &Subject<'_>,
    longest: usize,
    manager: &dyn KeyManager,
    uri: &KeyUri,
    algorithm: KeyAlgorithm,
) {
    let made =
        block_on(manager.create(uri, algorithm)).unwrap_or_else(|error| panic!("{algorithm}: {error}"));
    assert_eq!(made.signer.algorithm(), algorithm);
    assert_eq!(made.signer.public_key().key_type(), algorithm.key_type());
    signs(&made, algorithm, longest);

    // Made once, and never overwritten.
    let again = block_on(manager.create(uri, algorithm)).map(|_| ()).map_err(|error| error.kind());
    assert_eq!(again, Err(ErrorKind::Exists), "{algorithm}: a second create of one name");

    // The same key after a restart.
    let manager = (subject.open)();
    let opened =
        block_on(manager.open(uri, algorithm)).unwrap_or_else(|error| panic!("{algorithm}: {error}"));
    assert_eq!(
        opened.signer.public_key(),
        made.signer.public_key(),
        "{algorithm}: another key after opening"
    );
    signs(&opened, algorithm, longest);
    signs_digests(&opened, algorithm);

    // Never as something that it is not.
    for other in KeyAlgorithm::ALL.into_iter().filter(|other| other.key_type() != algorithm.key_type()) {
        let wrong = block_on(manager.open(uri, other)).map(|_| ()).map_err(|error| error.kind());
        assert_eq!(wrong, Err(ErrorKind::Unsupported), "{algorithm} opened as {other}");
    }

    let listed = block_on(manager.list()).expect("list");
    let own = listed.iter().find(|key| key.public_key.as_ref() == Some(made.signer.public_key()));
    let own = own.unwrap_or_else(|| panic!("{algorithm}: the key is not in the list"));
    let by_listed_uri = block_on(manager.open(&own.uri, algorithm)).expect("the listed URI names the key");
    assert_eq!(by_listed_uri.signer.public_key(), made.signer.public_key());

    let evidence = block_on(opened.custody.custody_evidence()).expect("custody evidence");
    assert_eq!(evidence.format, subject.custody_format);
    assert!(!evidence.bytes.is_empty());
}

fn signs(key: &Key, algorithm: KeyAlgorithm, longest: usize) {
    let whole = algorithm.signature_algorithm().digest().is_none();
    let long = vec![0x5a; 70_000];
    let (long, too_long) = if whole { long.split_at(longest.min(long.len())) } else { (&long[..], &[][..]) };
    if !too_long.is_empty() {
        let refused = block_on(key.signer.sign(&vec![0x5a; longest + 1])).map_err(|error| error.kind());
        assert_eq!(refused, Err(ErrorKind::Unsupported), "{algorithm}, {} bytes", longest + 1);
    }
    for message in [&b""[..], b"a message", long] {
        let signature = block_on(key.signer.sign(message))
            .unwrap_or_else(|error| panic!("{algorithm}, {} bytes: {error}", message.len()));
        key.signer
            .public_key()
            .verify(algorithm.signature_algorithm(), message, &signature)
            .unwrap_or_else(|_| panic!("{algorithm}, {} bytes: the signature is wrong", message.len()));
    }
}

/// The one kind of digest that the algorithm hashes with, and no other. A digest of another length does not exist
/// ([`MessageDigest::new`]).
fn signs_digests(key: &Key, algorithm: KeyAlgorithm) {
    let Some(wanted) = algorithm.signature_algorithm().digest() else {
        assert!(key.prehashed.is_none(), "{algorithm} signs whole messages, and no digests");
        return;
    };
    let prehashed = key.prehashed.as_ref();
    let prehashed = prehashed.unwrap_or_else(|| panic!("{algorithm}: it signs no digests"));
    assert_eq!((prehashed.algorithm(), prehashed.public_key()), (algorithm, key.signer.public_key()));
    let message = b"hashed elsewhere";
    for kind in DigestAlgorithm::ALL {
        let digest = MessageDigest::of(kind, message);
        for length in [0, 1, 20, 31, 33, 47, 49, 63, 65].into_iter().filter(|length| *length != kind.length())
        {
            let bytes = vec![0x5a; length];
            let refused = MessageDigest::new(kind, &bytes).map(|_| ());
            assert!(refused.is_err(), "{algorithm}: a {kind} digest of {length} bytes");
        }
        match (block_on(prehashed.sign_digest(&digest)), kind == wanted) {
            (Ok(signature), true) => key
                .signer
                .public_key()
                .verify(algorithm.signature_algorithm(), message, &signature)
                .unwrap_or_else(|_| panic!("{algorithm}: the signature over a digest is wrong")),
            (Err(error), false) => {
                assert_eq!(error.kind(), ErrorKind::Unsupported, "{algorithm}, {kind}: {error}");
                assert!(error.to_string().contains(&wanted.to_string()), "{error}");
            }
            (Ok(_), false) => panic!("{algorithm}: it signed a {kind} digest"),
            (Err(error), true) => panic!("{algorithm}: {error}"),
        }
    }
}

fn finds_nothing_where_nothing_is(manager: &dyn KeyManager, uri: &KeyUri) {
    let absent = block_on(manager.open(uri, KeyAlgorithm::EcdsaP256)).map(|_| ());
    assert_eq!(absent.map_err(|error| error.kind()), Err(ErrorKind::NotFound));
}

fn signs_for_many_at_once(manager: &dyn KeyManager, uri: &KeyUri) {
    let algorithm = KeyAlgorithm::EcdsaP256;
    let key = block_on(manager.create(uri, algorithm)).expect("create");
    let messages: Vec<_> = (0u8..64).map(|number| vec![number; 32]).collect();
    let signatures = block_on(join_all(messages.iter().map(|message| key.signer.sign(message))));
    for (message, signature) in messages.iter().zip(signatures) {
        let signature = signature.expect("sign");
        // Each caller gets the signature over its own message.
        key.signer
            .public_key()
            .verify(algorithm.signature_algorithm(), message, &signature)
            .expect("the signature of this caller's message");
    }
}

fn forgets_throwaway_keys(manager: &dyn KeyManager) {
    let algorithm = KeyAlgorithm::EcdsaP256;
    let before = block_on(manager.list()).expect("list").len();
    let first = block_on(manager.throwaway(algorithm)).expect("throwaway");
    let second = block_on(manager.throwaway(algorithm)).expect("throwaway");
    assert_ne!(first.public_key(), second.public_key());
    for key in [&first, &second] {
        let signature = block_on(key.sign(b"lint me")).expect("sign");
        key.public_key().verify(algorithm.signature_algorithm(), b"lint me", &signature).expect("verify");
    }
    drop((first, second));
    assert_eq!(block_on(manager.list()).expect("list").len(), before, "a throwaway key was left behind");
}

fn refuses_throwaway_keys(manager: &dyn KeyManager, reason: &str) {
    let before = block_on(manager.list()).expect("list").len();
    for algorithm in KeyAlgorithm::ALL {
        match block_on(manager.throwaway(algorithm)) {
            Err(error) => assert_eq!(error.kind(), ErrorKind::Unsupported, "{algorithm}: {error}"),
            Ok(_) => panic!("throwaway {algorithm} keys work now; drop the exception that says: {reason}"),
        }
    }
    assert_eq!(block_on(manager.list()).expect("list").len(), before, "a refused key left something behind");
}
