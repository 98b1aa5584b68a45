//! Every row of docs/reference/limits.md, and the test that would fail if it were not true.

mod clients;
mod jobs;
mod operators;
mod transfers;

use std::collections::BTreeMap;
use std::path::Path;

/// The first cell of a row; the file of its test, and the test.
type Row = (&'static str, &'static str, &'static str);

const ROWS: [&[Row]; 4] = [clients::ROWS, jobs::ROWS, transfers::ROWS, operators::ROWS];

#[test]
fn every_row_has_a_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("docs/reference/limits.md")).unwrap();
    let rows: Vec<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split(" | ").next())
        .filter(|cell| !matches!(*cell, "resource" | "---"))
        .collect();
    let known: BTreeMap<&str, (&str, &str)> = ROWS
        .concat()
        .iter()
        .map(|(row, file, test)| (*row, (*file, *test)))
        .collect();
    for row in &rows {
        let (file, test) = known
            .get(row)
            .unwrap_or_else(|| panic!("the row {row:?} of limits.md names no test here"));
        let source = std::fs::read_to_string(root.join(file)).unwrap();
        assert!(
            source.contains(&format!("fn {test}(")),
            "{file} has no {test}, which the row {row:?} needs"
        );
    }
    for row in known.keys() {
        assert!(rows.contains(row), "limits.md has no row {row:?} any more");
    }
}
