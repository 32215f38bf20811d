#![no_main]
//! Statements that persons approve.
use undercroft_ca::approval::Statement;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let Ok(statement) = Statement::parse(text) else { return };
    let written = statement.text().unwrap();
    assert_eq!(Statement::parse(&written).unwrap(), statement);
});
