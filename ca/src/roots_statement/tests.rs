use super::*;

/// As a ceremony writes it, and as anybody can read it.
const TEXT: &str = r#"{
  "format": "undercroft-roots-v1",
  "domain": "prod.example",
  "number": 3,
  "roots": [
    {
      "subject": "CN=prod.example Root R1",
      "sha256": "1111111111111111111111111111111111111111111111111111111111111111"
    },
    {
      "subject": "CN=prod.example Root R2",
      "sha256": "2222222222222222222222222222222222222222222222222222222222222222"
    }
  ],
  "begins": "2026-11-22T00:00:00Z",
  "ends": "2027-12-31T00:00:00Z"
}
"#;

#[test]
fn what_is_read_is_written_the_same() {
    let read = RootsStatement::parse(TEXT).unwrap();
    assert_eq!((read.domain.as_str(), read.number, read.roots.len()), ("prod.example", 3, 2));
    assert_eq!(read.text().unwrap(), TEXT);
    for (time, good) in [
        ("2026-11-21T23:59:59Z", false),
        ("2026-11-22T00:00:00Z", true),
        ("2027-12-31T00:00:00Z", true),
        ("2027-12-31T00:00:01Z", false),
    ] {
        let allowed = read.allows("prod.example", &[], time.parse().unwrap());
        assert_eq!(allowed.is_ok(), good, "{time}: {allowed:?}");
    }
    let other = read.allows("edge.example", &[], "2026-11-23T00:00:00Z".parse().unwrap()).unwrap_err();
    assert!(other.contains("is about `prod.example`"), "{other}");
}

#[test]
fn what_is_no_statement_is_refused() {
    for (from, to, part) in [
        ("undercroft-roots-v1", "undercroft-roots-v2", "its format is"),
        ("\"prod.example\"", "\"Prod.example\"", "trust domain"),
        ("\"number\": 3", "\"number\": 0", "the first is 1"),
        ("\"number\": 3", "\"number\": -3", "invalid"),
        ("1111", "3333", "in the order of their digests"),
        (
            "1111111111111111111111111111111111111111111111111111111111111111",
            "2222222222222222222222222222222222222222222222222222222222222222",
            "each once",
        ),
        ("2027-12-31", "2025-12-31", "before it begins"),
        ("\"number\": 3", "\"number\": 3, \"more\": 4", "unknown field"),
        ("\"number\": 3,\n", "", "missing field"),
        ("{\n  \"format\"", "{ \"format\"", "written otherwise"),
        ("\"2026-11-22T00:00:00Z\"", "\"2026-11-22T01:00:00+01:00\"", "written otherwise"),
        ("}\n", "}", "written otherwise"),
    ] {
        let at = if to == "}" { TEXT.len() - 2 } else { TEXT.find(from).unwrap() };
        let changed = format!("{}{to}{}", &TEXT[..at], &TEXT[at + from.len()..]);
        let refused = RootsStatement::parse(&changed).unwrap_err().to_string();
        assert!(refused.contains(part), "{to}: {refused}");
    }
    let none = format!(
        "{}  \"roots\": [],\n{}",
        &TEXT[..TEXT.find("  \"roots\"").unwrap()],
        &TEXT[TEXT.find("  \"begins\"").unwrap()..]
    );
    assert!(RootsStatement::parse(&none).unwrap_err().to_string().contains("its roots are none"));
}
