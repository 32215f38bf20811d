#![no_main]
//! What a node and Undercroft say to each other when the node attests.
use serde::Serialize;
use serde::de::DeserializeOwned;
use undercroft_attestors::exchange::{Answer, Challenge, Hello, Wanted, read};

fn again<T: DeserializeOwned + Serialize + PartialEq>(bytes: &[u8]) -> Option<T> {
    let message: T = read(bytes).ok()?;
    assert!(read::<T>(&serde_json::to_vec(&message).unwrap()).is_ok_and(|same| same == message));
    Some(message)
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = (again::<Hello>(bytes), again::<Answer>(bytes));
    let wanted: Option<Wanted> = again(bytes);
    if let Some(wanted) = again::<Challenge>(bytes).map(|challenge| challenge.tpm.wanted).or(wanted)
        && let Some(selection) = wanted.selection()
    {
        assert!(wanted.pcrs.iter().map(|bank| bank.pcrs.len()).sum::<usize>() >= selection.iter().count());
    }
});
