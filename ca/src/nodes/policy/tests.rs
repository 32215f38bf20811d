use super::*;

fn policy(text: &str) -> Result<NodePolicy, NodePolicyError> {
    NodePolicy::parse("nodes.toml", text, |file| Err(format!("there is no {file} in this test")))
}

const WHOLE: &str = r#"
[tpm]
pcrs = { sha256 = [0, 7] }
event-log = true
maker = []

[[rule]]
name = "all"
domain = "prod.example"
profile = "node"
spiffe-id = "spiffe://prod.example/node/{ek}"
"#;

#[test]
fn a_policy_is_the_same_after_it_was_kept() {
    let read = policy(WHOLE).unwrap();
    let again = NodePolicy::from_bundle(read.bundle()).unwrap();
    assert_eq!((again.digest(), again.wanted()), (read.digest(), read.wanted()));
    assert_eq!(Digest::of(again.bundle()), read.digest());
}

#[test]
fn what_contradicts_itself_is_told_with_its_place() {
    for (from, to, told) in [
        ("[0, 7]", "[]", "tpm.pcrs: name at least one PCR"),
        ("[0, 7]", "[24]", "tpm.pcrs: name at least one PCR"),
        ("{ sha256 = [0, 7] }", "{}", "tpm.pcrs: name at least one PCR"),
        ("sha256", "sha1", "unknown variant `sha1`"),
        ("event-log", "eventlog", "did you mean `event-log`?"),
        ("maker = []", "", "missing field `maker`"),
        (
            "maker = []",
            "maker = [{file = \"a.pem\", class = \"discrete\"}]",
            "file `a.pem`: there is no a.pem",
        ),
        ("{ek}", "all", "every TPM would be the same node"),
        ("{ek}", "{ek}/{name}", "every TPM would be the same node"),
        ("/node/{ek}", "/undercroft/{ek}", "is reserved"),
        ("//prod.example/node", "//other.example/node", "is not of the domain"),
        ("/node/{ek}", "/node/{ek}/", "spiffe-id: "),
        ("/node/{ek}", "/spire/{ek}", "is reserved"),
        ("/node/{ek}", "/node/{ek}/{host}", "spiffe-id: "),
        ("/node/{ek}", "/node/../{ek}", "spiffe-id: "),
        ("/node/{ek}", "/node//{ek}", "spiffe-id: "),
        ("/node/{ek}", "/node/%2e/{ek}", "spiffe-id: "),
        ("/node/{ek}", "/node/{ek}?x", "spiffe-id: "),
        ("/node/{ek}", "/node/{ek}#x", "spiffe-id: "),
        ("spiffe://prod.example/node/{ek}", "https://prod.example/node/{ek}", "spiffe-id: "),
        ("spiffe://prod.example/node/{ek}", "spiffe://{ek}/node", "spiffe-id: "),
        ("spiffe://prod.example/node/{ek}", "", "every TPM would be the same node"),
        ("profile = \"node\"", "profile = \"node\"\nassurance = \"high\"", "unknown variant `high`"),
        ("{ek}\"", "{name}\"\nnames = { \"ab\" = \"n\" }", "`ab` is no SHA-256"),
    ] {
        assert!(WHOLE.contains(from), "{from}");
        let error = policy(&WHOLE.replacen(from, to, 1)).unwrap_err().to_string();
        assert!(error.contains(told), "{from} -> {to}: {error}");
    }
    let twice = format!(
        "{WHOLE}{}",
        WHOLE.split_once("[[rule]]").map(|(_, rule)| format!("[[rule]]{rule}")).unwrap()
    );
    assert!(policy(&twice).unwrap_err().to_string().contains("another rule has the same name"));
}

#[test]
fn a_name_is_one_segment_and_of_one_tpm() {
    let (one, other) = ("11".repeat(32), "22".repeat(32));
    let with = |names: &str| policy(&WHOLE.replace("{ek}\"", &format!("{{name}}\"\nnames = {{ {names} }}")));
    assert!(with(&format!("\"{one}\" = \"a\", \"{other}\" = \"b\"")).is_ok());
    for (names, told) in [
        (format!("\"{one}\" = \"a\", \"{other}\" = \"a\""), "two TPMs have the name `a`"),
        (format!("\"{one}\" = \"a/b\""), "more than one segment"),
        (format!("\"{one}\" = \"..\""), "spiffe-id: "),
        (format!("\"{one}\" = \".\""), "spiffe-id: "),
        (format!("\"{one}\" = \"a b\""), "spiffe-id: "),
        (format!("\"{one}\" = \"a\\u0000\""), "spiffe-id: "),
        (format!("\"{one}\" = \"a\\nb\""), "spiffe-id: "),
        (format!("\"{one}\" = \"{{ek}}\""), "spiffe-id: "),
        (format!("\"{one}\" = \"a@b\""), "spiffe-id: "),
        (format!("\"{one}\" = \"\""), "spiffe-id: "),
        (format!("\"{one}\" = \"%2f\""), "spiffe-id: "),
        (format!("\"{one}\" = \"ä\""), "spiffe-id: "),
        (format!("\"{one}\" = \"{}\"", "x".repeat(2048)), "spiffe-id: "),
        (format!("\"{}\" = \"a\"", one.replace('1', "A")), "lower-case"),
    ] {
        let error = with(&names).unwrap_err().to_string();
        assert!(error.contains(told), "{names}: {error}");
    }
}

#[test]
fn a_policy_and_its_files_have_a_limit() {
    let text = WHOLE.replace("maker = []", "maker = [{ file = \"a.pem\", class = \"discrete\" }]");
    let error =
        NodePolicy::parse("nodes.toml", &text, |_| Ok(vec![b'x'; MAX_POLICY])).unwrap_err().to_string();
    assert!(error.contains("file `a.pem`: the policy and its files have more than 8388608 bytes"), "{error}");
}
