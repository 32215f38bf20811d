//! Digests for people: hexadecimal in groups to be compared by eye, and words to be read aloud.
//!
//! Both are read back, too: what somebody has heard becomes bytes again, or an error that names the first wrong word.

mod words;

use words::{EVEN, ODD};

/// How alike a word must be to one of the list to be offered instead.
const SIMILAR: f64 = 0.8;

/// Hexadecimal in groups of four, as it stands on paper.
pub fn groups(bytes: &[u8]) -> String {
    let hex = bytes.chunks(2).map(hex::encode);
    hex.collect::<Vec<_>>().join(" ")
}

/// The words of the bytes, of the PGP word list: two syllables at even places and three at odd ones.
pub fn words(bytes: &[u8]) -> Vec<&'static str> {
    let word = |(place, byte): (usize, &u8)| list(place)[usize::from(*byte)];
    bytes.iter().enumerate().map(word).collect()
}

/// Whether what somebody has heard is `bytes`: their words or their hexadecimal, in any case and spacing.
///
/// # Errors
/// The first word that is not that of `bytes`, and what is wrong with it.
pub fn compare(heard: &str, bytes: &[u8]) -> Result<(), HeardError> {
    let heard = parse(heard)?;
    let places = heard.iter().zip(bytes).enumerate();
    if let Some((place, (heard, byte))) = places.into_iter().find(|(_, (heard, byte))| heard != byte) {
        let word = |byte: u8| list(place)[usize::from(byte)];
        return Err(HeardError::Other { place: place + 1, heard: word(*heard), expected: word(*byte) });
    }
    match heard.len() == bytes.len() {
        true => Ok(()),
        false => Err(HeardError::Length { heard: heard.len(), expected: bytes.len() }),
    }
}

/// The bytes of what somebody has heard: words or hexadecimal, in any case and spacing.
///
/// # Errors
/// The first word that is none, or stands where it cannot.
pub fn parse(heard: &str) -> Result<Vec<u8>, HeardError> {
    let is_between = |c: char| c.is_whitespace() || matches!(c, ',' | '.' | ':' | ';');
    let heard: Vec<&str> = heard.split(is_between).filter(|word| !word.is_empty()).collect();
    // No word of the lists is hexadecimal throughout.
    let hexadecimal = heard.concat();
    if !heard.is_empty() && hexadecimal.chars().all(|c| c.is_ascii_hexdigit()) {
        return hex::decode(&hexadecimal).map_err(|_| HeardError::HalfByte(hexadecimal.len()));
    }
    heard.iter().enumerate().map(|(place, word)| byte(place, word)).collect()
}

fn byte(place: usize, word: &str) -> Result<u8, HeardError> {
    let find = |list: &[&str; 256]| list.iter().position(|known| known.eq_ignore_ascii_case(word));
    if let Some(byte) = find(list(place)).and_then(|byte| u8::try_from(byte).ok()) {
        return Ok(byte);
    }
    let (number, heard) = (place + 1, word.chars().take(30).collect());
    Err(match find(list(place + 1)) {
        Some(_) => HeardError::Place { place: number, heard },
        None => HeardError::Unknown { place: number, nearest: nearest(list(place), &heard), heard },
    })
}

fn list(place: usize) -> &'static [&'static str; 256] {
    if place.is_multiple_of(2) { &EVEN } else { &ODD }
}

fn nearest(list: &[&'static str; 256], heard: &str) -> Option<&'static str> {
    let heard = heard.to_lowercase();
    list.iter()
        .map(|word| (strsim::jaro_winkler(&word.to_lowercase(), &heard), *word))
        .filter(|(similarity, _)| *similarity >= SIMILAR)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, word)| word)
}

/// What is wrong with what somebody has heard. Places count from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeardError {
    /// A word of neither list.
    #[error("word {place}, `{heard}`, is none of the list{}", nearest.map(|word| format!("; was it `{word}`?")).unwrap_or_default())]
    Unknown {
        /// Which word.
        place: usize,
        /// What was heard.
        heard: String,
        /// What it may have been.
        nearest: Option<&'static str>,
    },
    /// A word of two syllables where one of three stands, or the other way round.
    #[error(
        "word {place}, `{heard}`, cannot stand there: a word before it was lost or said twice, or it was swapped with its neighbour"
    )]
    Place {
        /// Which word.
        place: usize,
        /// What was heard.
        heard: String,
    },
    /// A word, or two digits, of something else.
    #[error("word {place} is `{heard}`, and `{expected}` is the one that belongs there")]
    Other {
        /// Which word, or pair of digits.
        place: usize,
        /// The word that was heard.
        heard: &'static str,
        /// The word of the digest.
        expected: &'static str,
    },
    /// Too few or too many.
    #[error("{heard} words were heard of {expected}")]
    Length {
        /// How many words, or pairs of digits.
        heard: usize,
        /// How many there are.
        expected: usize,
    },
    /// An odd number of digits.
    #[error("{0} hexadecimal digits are no whole number of bytes: one was lost or said twice")]
    HalfByte(usize),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The example with which the list is published: the fingerprint of a PGP key.
    const FINGERPRINT: &str = "E582 94F2 E9A2 2748 6E8B 061B 31CC 528F D7FA 3F19";
    const READ_ALOUD: &str = "topmost Istanbul Pluto vagabond treadmill Pacific brackish dictator goldfish Medusa \
        afflict bravado chatter revolver Dupont midsummer stopwatch whimsical cowbell bottomless";

    fn fingerprint() -> Vec<u8> {
        hex::decode(FINGERPRINT.replace(' ', "")).unwrap()
    }

    #[test]
    fn the_published_example_is_read_both_ways() {
        assert_eq!(words(&fingerprint()).join(" "), READ_ALOUD);
        assert_eq!(groups(&fingerprint()), FINGERPRINT.to_lowercase());
        for heard in [READ_ALOUD, &READ_ALOUD.to_uppercase(), &READ_ALOUD.replace(' ', ", "), FINGERPRINT] {
            assert_eq!(parse(heard), Ok(fingerprint()), "{heard}");
            assert_eq!(compare(heard, &fingerprint()), Ok(()));
        }
    }

    /// Of the lists: 256 different words each, none in both, in the order of the alphabet (but for one pair, which
    /// stands so in the published list).
    #[test]
    fn the_lists_are_whole() {
        let lower = |list: &[&str; 256]| list.map(str::to_lowercase);
        let (even, odd) = (lower(&EVEN), lower(&ODD));
        let all: std::collections::BTreeSet<_> = even.iter().chain(&odd).collect();
        assert_eq!(all.len(), 512);
        assert!(all.iter().all(|word| word.chars().all(|c| c.is_ascii_lowercase())));
        assert!(!all.iter().any(|word| word.chars().all(|c| c.is_ascii_hexdigit())));
        let unsorted = |list: &[String; 256]| {
            list.windows(2).filter(|pair| pair[0] > pair[1]).map(<[_]>::concat).collect::<Vec<_>>()
        };
        assert_eq!(unsorted(&even), Vec::<String>::new());
        assert_eq!(unsorted(&odd), ["applicantapollo"]);
    }

    #[test]
    fn the_first_wrong_word_is_named() {
        let all: Vec<&str> = READ_ALOUD.split_whitespace().collect();
        let edited = |edit: &dyn Fn(&mut Vec<&str>)| {
            let mut words = all.clone();
            edit(&mut words);
            compare(&words.join(" "), &fingerprint()).unwrap_err().to_string()
        };
        for (error, part) in [
            (
                edited(&|words| words[4] = "treadmil"),
                "word 5, `treadmil`, is none of the list; was it `treadmill`?",
            ),
            (edited(&|words| words[4] = "xyzzy"), "word 5, `xyzzy`, is none of the list"),
            (edited(&|words| words[4] = "trauma"), "word 5 is `trauma`, and `treadmill`"),
            (edited(&|words| words.swap(6, 7)), "word 7, `dictator`, cannot stand there"),
            (
                edited(&|words| words.retain(|word| *word != "Medusa")),
                "word 10, `afflict`, cannot stand there",
            ),
            (edited(&|words| words.insert(9, "goldfish")), "word 10, `goldfish`, cannot stand there"),
            // Two words are lost together: the places fit, and the words do not.
            (
                edited(&|words| words.retain(|word| !matches!(*word, "Pluto" | "vagabond"))),
                "word 3 is `treadmill`, and `Pluto`",
            ),
            (edited(&|words| words.truncate(19)), "19 words were heard of 20"),
            (edited(&|words| words.push("aardvark")), "21 words were heard of 20"),
            (edited(&|words| words.clear()), "0 words were heard of 20"),
        ] {
            assert!(error.contains(part), "{error}");
        }
        let short = compare(&FINGERPRINT[..FINGERPRINT.len() - 1], &fingerprint()).unwrap_err();
        assert_eq!(short, HeardError::HalfByte(39));
    }

    proptest! {
        #[test]
        fn what_is_read_aloud_is_heard(bytes in proptest::collection::vec(any::<u8>(), 1..70)) {
            prop_assert_eq!(parse(&words(&bytes).join(" ")), Ok(bytes.clone()));
            prop_assert_eq!(compare(&groups(&bytes), &bytes), Ok(()));
        }

        #[test]
        fn one_wrong_byte_is_named(bytes in proptest::collection::vec(any::<u8>(), 1..40), at: usize, other: u8) {
            let at = at % bytes.len();
            prop_assume!(bytes[at] != other);
            let mut heard = bytes.clone();
            heard[at] = other;
            let said = words(&heard).join(" ");
            let named = matches!(compare(&said, &bytes), Err(HeardError::Other { place, .. }) if place == at + 1);
            prop_assert!(named);
        }

        #[test]
        fn a_lost_word_is_noticed(bytes in proptest::collection::vec(any::<u8>(), 2..40), at: usize) {
            let mut said = words(&bytes);
            said.remove(at % bytes.len());
            prop_assert!(compare(&said.join(" "), &bytes).is_err());
        }

        #[test]
        fn arbitrary_text_never_panics(text in "\\PC{0,200}") {
            let _ = parse(&text);
        }
    }
}
