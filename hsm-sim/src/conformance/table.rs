//! The table in `docs/keys.md` of what each backend did when the suite ran on it.

use std::fs;

use undercroft_keys::KeyAlgorithm;

/// The page, beside this package.
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/keys.md");

/// What stands before and after the rows.
const BEGINS: &str = "<!-- rows: make table -->\n";
const ENDS: &str = "<!-- end of rows -->\n";

/// Makes sure that the page says of `token` what the suite saw: which algorithms `worked`, and whether keys can be thrown
/// away. With `UNDERCROFT_WRITE_TABLE` in the environment, writes it there.
///
/// # Panics
/// When the page says something else.
pub fn says(token: &str, worked: &[KeyAlgorithm], throwaway: bool) {
    let did = KeyAlgorithm::ALL.iter().map(|algorithm| worked.contains(algorithm)).chain([throwaway]);
    let cells: Vec<_> = did.map(|did| if did { "yes" } else { "no" }).collect();
    let row = format!("| {token} | {} |\n", cells.join(" | "));
    let page = fs::read_to_string(PAGE).expect("docs/keys.md");
    let (before, rest) = page.split_once(BEGINS).expect("docs/keys.md has a table for backends");
    let (rows, after) = rest.split_once(ENDS).expect("the table of backends ends");
    let (header, rows) = rows.split_at(end_of_header(rows));
    assert_eq!(header, self::header(), "the table's header names the algorithms that there are");
    if std::env::var_os("UNDERCROFT_WRITE_TABLE").is_none() {
        assert!(
            rows.contains(&row),
            "docs/keys.md does not say what {token} did; run `make table`. It did: {row}"
        );
        return;
    }
    let of_token = format!("| {token} |");
    let others = rows.split_inclusive('\n').filter(|other| !other.starts_with(&of_token));
    let mut rows: Vec<_> = others.chain([&*row]).collect();
    rows.sort_unstable();
    fs::write(PAGE, [before, BEGINS, header, &rows.concat(), ENDS, after].concat()).expect("docs/keys.md");
}

/// Two lines, ending where the first row begins.
fn end_of_header(table: &str) -> usize {
    table.match_indices('\n').nth(1).map_or(table.len(), |(end, _)| end + 1)
}

fn header() -> String {
    let names = KeyAlgorithm::ALL.iter().map(ToString::to_string).chain(["throwaway keys".to_owned()]);
    let names: Vec<_> = names.collect();
    format!("| | {} |\n|{}\n", names.join(" | "), " --- |".repeat(names.len() + 1))
}
