//! The clients as a whole.

use super::*;
use crate::config::Config;

fn outbound(variables: &[(&str, &str)]) -> Outbound {
    let variables: std::collections::BTreeMap<String, String> = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Outbound::new(&Config::from_env(&variables).unwrap().storage).unwrap()
}
