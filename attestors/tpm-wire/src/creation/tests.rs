use proptest::prelude::*;

use super::*;

fn hash() -> impl Strategy<Value = HashAlgorithm> {
    prop_oneof![Just(HashAlgorithm::Sha256), Just(HashAlgorithm::Sha384), Just(HashAlgorithm::Sha512)]
}

/// Some PCRs of one bank or of several, each once.
fn selection() -> impl Strategy<Value = PcrSelection> {
    let banks = vec![HashAlgorithm::Sha256, HashAlgorithm::Sha384, HashAlgorithm::Sha512];
    let banks = proptest::sample::subsequence(banks, 1..=3).prop_shuffle();
    let pcrs = proptest::collection::vec(proptest::collection::btree_set(0..24_u8, 1..24), 3);
    (banks, pcrs).prop_map(|(banks, pcrs)| {
        let each = banks.into_iter().zip(pcrs);
        PcrSelection::of_banks(each.map(|(bank, pcrs)| (bank, pcrs.into_iter().collect()))).unwrap()
    })
}

fn creation() -> impl Strategy<Value = CreationData> {
    let bytes = |longest: usize| proptest::collection::vec(any::<u8>(), 0..=longest);
    let none = PcrSelection::read(&mut Reader::new(&[0; 4])).unwrap();
    (
        prop_oneof![selection(), Just(none)],
        bytes(64),
        any::<u8>(),
        proptest::option::of(hash()),
        bytes(66),
        bytes(66),
        bytes(66),
    )
        .prop_map(
            |(selection, digest, locality, parent_algorithm, parent, parent_qualified, outside)| {
                CreationData {
                    selection,
                    digest,
                    locality,
                    parent_algorithm,
                    parent,
                    parent_qualified,
                    outside,
                }
            },
        )
}

/// Whatever is cut off, or follows, is refused; whatever is flipped is refused, or is another thing that is encoded so.
fn is_exact<T: PartialEq + std::fmt::Debug>(
    read: &T,
    whole: &[u8],
    parse: impl Fn(&[u8]) -> Result<T, WireError>,
    encode: impl Fn(&T) -> Vec<u8>,
) -> Result<(), TestCaseError> {
    prop_assert_eq!(&parse(whole), &Ok::<_, WireError>(parse(whole).unwrap()));
    prop_assert_eq!(&parse(whole).unwrap(), read);
    for end in 0..whole.len() {
        prop_assert!(parse(&whole[..end]).is_err(), "{} bytes of it", end);
        prop_assert!(end == 0 || parse(&whole[end..]).map_or(true, |other| encode(&other) == whole[end..]));
    }
    for more in [0, 1, 0xff] {
        prop_assert!(parse(&[whole, &[more]].concat()).is_err(), "{} behind it", more);
    }
    for bit in 0..whole.len() * 8 {
        let mut flipped = whole.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        if let Ok(other) = parse(&flipped) {
            prop_assert_eq!(encode(&other), flipped);
            prop_assert_ne!(&other, read, "bit {}", bit);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn creation_data_are_what_they_were_made_of(creation in creation()) {
        is_exact(&creation, &creation.encode(), CreationData::parse, CreationData::encode)?;
    }

    #[test]
    fn a_selection_is_what_it_was_made_of(selection in selection()) {
        is_exact(&selection, &selection.encode(), PcrSelection::parse, PcrSelection::encode)?;
    }
}

/// TPMS_CREATION_DATA of no PCRs: count, digest, locality, TPM_ALG_NULL, and three names.
#[test]
fn a_field_may_be_as_long_as_it_may_be_and_no_longer() {
    let data = |digest: usize, parent: usize, qualified: usize, outside: usize| {
        let sized = |length: usize| [&(length as u16).to_be_bytes()[..], &vec![7; length]].concat();
        let head = [&[0, 0, 0, 0][..], &sized(digest), &[1, 0, 0x10]].concat();
        CreationData::parse(&[head, sized(parent), sized(qualified), sized(outside)].concat())
    };
    let longest = data(64, 66, 66, 66).unwrap();
    assert_eq!((longest.locality, longest.parent_algorithm, longest.digest.len()), (1, None, 64));
    for longer in [data(65, 66, 66, 66), data(64, 67, 66, 66), data(64, 66, 67, 66), data(64, 66, 66, 67)] {
        assert!(longer.is_err());
    }
    assert!(data(0, 0, 0, 0).is_ok());
}
