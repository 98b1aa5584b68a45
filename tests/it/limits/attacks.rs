//! docs/guide/attacks.md: every entry of the contract has tests that are there, and the attacks
//! that it names are.

use std::path::Path;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

#[test]
fn every_entry_of_the_contract_has_its_tests() {
    let contract = read("docs/contract/attack.md");
    let entries: Vec<&str> = contract
        .lines()
        .filter_map(|line| line.strip_prefix("- **A")?.get(..2))
        .collect();
    assert!(entries.len() > 30, "{entries:?}");
    let page = read("docs/guide/attacks.md");
    let suite: String = ["clients", "connections", "servers", "luck"]
        .map(|name| read(&format!("tests/attacks/{name}.py")))
        .concat();
    for entry in entries {
        let row = page
            .lines()
            .find(|line| line.starts_with(&format!("| A{entry} |")))
            .unwrap_or_else(|| panic!("A{entry} has no row in docs/guide/attacks.md"));
        let cells: Vec<&str> = row.split(" | ").collect();
        let mut source = String::new();
        let mut tests = 0;
        for word in quoted(cells[2]) {
            if word.contains('/') {
                source = read(word);
            } else {
                tests += 1;
                assert!(source.contains(&format!("fn {word}(")), "A{entry}: {word}");
            }
        }
        assert!(tests > 0, "A{entry} names no test");
        for attack in quoted(cells[3]) {
            let there = suite.contains(&format!("def {attack}("));
            assert!(there, "A{entry}: there is no attack {attack}");
        }
    }
}
