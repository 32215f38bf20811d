//! `undercroft`.
fn main() {}
