//! What the tools of workflows are called: names that every model provider takes.

use std::collections::HashSet;

/// Characters of a name; many providers take no more.
const LONGEST: usize = 64;
/// Hexadecimal digits that tell long names apart.
const DIGITS: usize = 8;

/// The names of paths, in their order; none is one of the names that are taken.
pub fn of(paths: &[&str], taken: &[&str]) -> Vec<String> {
    let mut taken: HashSet<String> = taken.iter().map(|name| (*name).to_owned()).collect();
    let mut names = Vec::with_capacity(paths.len());
    for path in paths {
        let wanted = plain(path);
        let mut name = wanted.clone();
        let mut number = 2_u64;
        while !taken.insert(name.clone()) {
            let end = format!("_{number}");
            let mut begin = wanted.clone();
            begin.truncate(LONGEST - end.len());
            name = begin + &end;
            number += 1;
        }
        names.push(name);
    }
    names
}

fn plain(path: &str) -> String {
    let mut name: String = path
        .chars()
        .map(|letter| {
            if letter.is_ascii_alphanumeric() || letter == '-' {
                letter
            } else {
                '_'
            }
        })
        .collect();
    if name.len() > LONGEST {
        let hash = blake3::hash(path.as_bytes()).to_hex();
        name.truncate(LONGEST - DIGITS - 1);
        name.push('_');
        name.extend(hash.chars().take(DIGITS));
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_short_and_different() {
        let long = "x".repeat(80);
        let other = format!("{}y", "x".repeat(79));
        let paths = [
            "portrait/square",
            "portrait_square",
            "portrait square",
            "run_graph",
            "bild/größe",
            &long,
            &other,
        ];
        let names = of(&paths, &["run_graph"]);
        assert_eq!(
            names[..5],
            [
                "portrait_square",
                "portrait_square_2",
                "portrait_square_3",
                "run_graph_2",
                "bild_gr__e"
            ]
        );
        assert_ne!(names[5], names[6]);
        for name in &names[5..] {
            assert_eq!(name.len(), 64);
            assert!(name[56..].bytes().all(|digit| digit.is_ascii_hexdigit()));
        }
    }
}
