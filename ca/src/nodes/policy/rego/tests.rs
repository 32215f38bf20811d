use serde_json::json;

use super::*;

const HEAD: &str = "package undercroft\n";

fn read(body: &str) -> Result<Rego, String> {
    Rego::new("test.rego", format!("{HEAD}{body}").as_bytes())
}

/// What it says of an input with `n` = 3.
fn said_of(body: &str) -> Result<(), String> {
    read(body).unwrap().admit(&json!({ "n": 3, "name": "x", "list": ["a", "b"] }))
}

#[test]
fn true_and_nothing_else_allows() {
    assert_eq!(said_of("allow := true"), Ok(()));
    assert_eq!(said_of("allow if input.n == 3"), Ok(()));
    assert_eq!(said_of("allow if { some x in input.list; x == \"b\" }"), Ok(()));
    for (body, told) in [
        ("allow := false", "it does not allow the node"),
        ("allow if input.n == 4", "`allow` is undefined"),
        ("default allow := false\nallow if input.n == 4", "it does not allow the node"),
        ("allow := \"true\"", "`allow` is no boolean"),
        ("allow := 1", "`allow` is no boolean"),
        ("allow := null", "`allow` is no boolean"),
        ("allow := [true]", "`allow` is no boolean"),
        ("allow := input.absent", "`allow` is undefined"),
        ("allow if input.n < input.absent", "`allow` is undefined"),
        ("allow if to_number(input.name) == 1", "error"),
        ("allow := input.n == 3\nallow := false", "error"),
    ] {
        let error = said_of(body).unwrap_err();
        assert!(error.contains(told), "{body}: {error}");
    }
}

#[test]
fn reasons_are_told() {
    let body = "default allow := false\nreasons contains \"too few\" if input.n < 4\nreasons contains \"never\" if input.n > 4";
    assert_eq!(said_of(body), Err("too few".to_owned()));
    assert_eq!(said_of("allow := false\nreasons := [\"a\", 1, \"b\"]"), Err("a; b".to_owned()));
    assert_eq!(said_of("allow := true\nreasons := [\"a\"]"), Ok(()));
}

#[test]
fn what_does_not_compile_is_no_policy() {
    for (text, told) in [
        ("", "error"),
        ("allow := true", "error"),
        ("package undercroft\nallow := ", "error"),
        ("package undercroft\nallow if {", "error"),
        ("package other\nallow := true", "`data.undercroft` is wanted"),
        ("package undercroft.sub\nallow := true", "`data.undercroft` is wanted"),
        ("package undercroft\nallowed := true", "not a valid rule"),
        ("package undercroft\nallow if x == 1", "unsafe"),
    ] {
        let error = Rego::new("test.rego", text.as_bytes()).unwrap_err();
        assert!(error.contains(told), "{text}: {error}");
    }
    assert!(Rego::new("test.rego", &[0xff]).unwrap_err().contains("no text"));
    let long = format!("{HEAD}allow := true\n#{}", "x\n#".repeat(MAX_REGO));
    assert!(Rego::new("test.rego", long.as_bytes()).unwrap_err().contains("more than 65536"));
}

#[test]
fn a_policy_has_no_clock_no_dice_and_no_network() {
    for call in [
        "time.now_ns() > 0",
        "time.clock(0) != []",
        "rand.intn(\"a\", 5) >= 0",
        "uuid.rfc4122(\"a\") != \"\"",
        "http.send({\"method\": \"get\", \"url\": \"http://127.0.0.1\"}) != {}",
        "net.lookup_ip_addr(\"localhost\") != set()",
        "opa.runtime() != {}",
        "io.jwt.decode(\"a\") != []",
    ] {
        let error = read(&format!("allow if {call}")).unwrap_err();
        assert!(error.contains("could not find function"), "{call}: {error}");
        // Behind what only an input reaches, it is found when it is called.
        let error = said_of(&format!("allow if {{ input.n == 3; {call} }}")).unwrap_err();
        assert!(error.contains("could not find function"), "{call}: {error}");
    }
}

#[test]
fn the_same_input_gives_the_same_answer_and_one_leaves_nothing_for_the_next() {
    let rego = read("default allow := false\nallow if input.n == 3").unwrap();
    for _ in 0..3 {
        assert_eq!(rego.admit(&json!({ "n": 3 })), Ok(()));
        assert!(rego.admit(&json!({ "n": 4 })).is_err());
        assert!(rego.admit(&json!({})).is_err());
    }
}
