use super::*;

#[test]
fn a_transcript_is_of_one_exchange_alone() {
    let connection = [7; EXPORTED];
    let whole = transcript(b"hello", Some(b"challenge"), &connection);
    for (other, why) in [
        (transcript(b"hellO", Some(b"challenge"), &connection), "another hello"),
        (transcript(b"hello", Some(b"challengE"), &connection), "another challenge"),
        (transcript(b"hello", Some(b"challenge"), &[8; EXPORTED]), "another connection"),
        (transcript(b"hellochallenge", Some(b""), &connection), "bytes moved from one message to the other"),
        (transcript(b"hello", None, &connection), "no challenge"),
        (transcript(b"hellochallenge", None, &connection), "no challenge, and its bytes in hello"),
        (transcript(b"hello", Some(b""), &connection), "an empty challenge"),
    ] {
        assert_ne!(whole, other, "{why}");
    }
    assert_ne!(transcript(b"hello", None, &connection), transcript(b"hello", Some(b""), &connection));
}

/// By hand: `docs/attestation.md` gives the formula, and Python's hashlib the value.
#[test]
fn a_transcript_is_what_the_page_says() {
    let python = "3628804725e9";
    assert_eq!(hex::encode(transcript(b"hello", Some(b"challenge"), &[7; 32]))[..12], *python);
    let python = "66bd3a38e09c";
    assert_eq!(hex::encode(transcript(b"hello", None, &[7; 32]))[..12], *python);
}

#[test]
fn messages_are_read_strictly() {
    let wanted = br#"{"pcrs":[{"bank":"sha256","pcrs":[0,7]}],"event-log":true}"#;
    assert_eq!(read::<Wanted>(wanted).unwrap().selection().unwrap().iter().count(), 2);
    for (message, what) in [
        (&br#"{"pcrs":[],"event-log":true,"more":1}"#[..], "unknown field `more`"),
        (br#"{"pcrs":[],"pcrs":[],"event-log":true}"#, "duplicate field `pcrs`"),
        (br#"{"pcrs":[]}"#, "missing field `event-log`"),
        (br#"{"pcrs":[{"bank":"sha1","pcrs":[0]}],"event-log":true}"#, "unknown variant `sha1`"),
        (br#"{"pcrs":[{"bank":"sha256","pcrs":[256]}],"event-log":true}"#, "invalid value: integer `256`"),
        (br#"{"pcrs":[],"event-log":true} "x""#, "trailing characters"),
        (b"", "EOF"),
    ] {
        let error = read::<Wanted>(message).unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
    }
    let long = vec![b' '; MAX_MESSAGE + 1];
    assert!(matches!(read::<Wanted>(&long), Err(MessageError::Long(length)) if length == long.len()));
    assert!(matches!(read::<Wanted>(&long[1..]), Err(MessageError::Json(_))));
}

#[test]
fn what_no_tpm_can_quote_is_no_selection() {
    let wanted = |pcrs: &[(BankName, &[u8])]| Wanted {
        pcrs: pcrs.iter().map(|(bank, pcrs)| WantedBank { bank: *bank, pcrs: pcrs.to_vec() }).collect(),
        event_log: false,
    };
    use BankName::{Sha256, Sha384};
    assert!(wanted(&[(Sha256, &[0]), (Sha384, &[23])]).selection().is_some());
    for (none, why) in [
        (wanted(&[]), "nothing"),
        (wanted(&[(Sha256, &[])]), "a bank without a PCR"),
        (wanted(&[(Sha256, &[24])]), "a PCR that no PC has"),
        (wanted(&[(Sha256, &[0]), (Sha256, &[1])]), "a bank twice"),
    ] {
        assert!(none.selection().is_none(), "{why}");
    }
}
