//! Every prompt delivers what it made itself (F04), whatever the shape of the report (F09),
//! previews and texts included (U1), and leaves nothing behind (F16, F21).

mod leftovers;
mod names;
mod previews;
mod reports;

use serde_json::{Value, json};

use crate::support::graphs::{coloured, with};
use crate::support::product::{Product, until};

/// A picture of a colour, saved by a node of another class.
fn saved_by(colour: u32, node: Value) -> Value {
    let mut graph = with(coloured("x", colour), json!({"9": node}));
    graph["9"]["inputs"]["images"] = json!(["1", 0]);
    graph
}

/// Names in the temp directory.
fn temp_files(product: &Product) -> Vec<String> {
    let entries = std::fs::read_dir(product.path("temp"))
        .into_iter()
        .flatten()
        .flatten();
    entries
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect()
}

async fn until_clean(product: &Product) {
    product.until_clean().await;
    until("no temporary file is left", async || {
        temp_files(product).is_empty().then_some(())
    })
    .await;
}
