//! The table in docs/reference/variables.md of variables is the code's own list. `UPDATE_README=1`
//! writes it anew.

use std::fmt::Write as _;

use comfyui_api::config::variables::VARIABLES;

const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reference/variables.md");
const BEGIN: &str = "<!-- variables:begin";
const END: &str = "<!-- variables:end -->";

fn table() -> String {
    let mut table = String::new();
    for (group, variables) in VARIABLES {
        write!(
            table,
            "\n**{group}**\n\n| variable | default | |\n| --- | --- | --- |\n"
        )
        .unwrap();
        for variable in *variables {
            let default = if variable.default.is_empty() {
                String::new()
            } else {
                format!("`{}`", variable.default)
            };
            writeln!(
                table,
                "| `{}` | {default} | {} |",
                variable.name, variable.about
            )
            .unwrap();
        }
    }
    table.push('\n');
    table
}

#[test]
fn the_readme_shows_every_variable() {
    let readme = std::fs::read_to_string(README).unwrap();
    let (before, rest) = readme.split_once(BEGIN).expect("the beginning is marked");
    let (mark, rest) = rest
        .split_once('\n')
        .expect("the mark is a line of its own");
    let (shown, after) = rest.split_once(END).expect("the end is marked");
    let wanted = table();
    if std::env::var_os("UPDATE_README").is_some() {
        std::fs::write(
            README,
            format!("{before}{BEGIN}{mark}\n{wanted}{END}{after}"),
        )
        .unwrap();
    } else {
        assert!(
            shown == wanted,
            "docs/reference/variables.md and src/config/variables differ: UPDATE_README=1 cargo \
             test --test it readme"
        );
    }
}
