//! Results of earlier nodes: what makes two runs the same, and how long results are kept.

use std::collections::HashMap;

use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use super::args::{Args, Imitate};
use super::instance::Instance;
use super::nodes::{Class, Datum};
use super::python;

/// Class, all inputs with the keys of ancestors, and the change token; neither the node's id nor
/// `_meta`.
pub type Key = [u8; 32];

/// What a node left behind.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Values by output.
    pub outputs: Vec<Datum>,
    /// What was shown.
    pub ui: Option<Value>,
    used: u64,
    size: usize,
}

/// Bytes that the newer default keeps, where the real one looks at what the machine has left.
const MEMORY: usize = 128 << 20;

/// How long results are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Policy {
    /// What the last prompt used.
    Classic,
    /// So many entries.
    Lru(usize),
    /// As much as fits into memory.
    Memory,
    /// Nothing.
    None,
}

/// The node cache.
#[derive(Debug)]
pub struct Cache {
    policy: Policy,
    entries: HashMap<Key, Entry>,
    clock: u64,
}

impl Cache {
    /// The cache that the command line asks for. The newer default keeps the results of many
    /// prompts.
    pub fn new(args: &Args) -> Self {
        let policy = match (args.cache_none, args.cache_classic, args.cache_lru) {
            (true, ..) => Policy::None,
            (_, true, _) => Policy::Classic,
            (.., Some(size)) => Policy::Lru(size),
            _ if args.imitated() == Imitate::Current => Policy::Memory,
            _ => Policy::Classic,
        };
        Self {
            policy,
            entries: HashMap::new(),
            clock: 0,
        }
    }

    /// Forgets what the policy does not keep once a prompt with these keys starts.
    pub fn begin(&mut self, keys: &HashMap<String, Key>) {
        self.clock += 1;
        for key in keys.values() {
            if let Some(entry) = self.entries.get_mut(key) {
                entry.used = self.clock;
            }
        }
        let clock = self.clock;
        match self.policy {
            Policy::None => self.entries.clear(),
            Policy::Classic => self.entries.retain(|_, entry| entry.used == clock),
            Policy::Lru(size) if self.entries.len() > size => {
                let mut ages: Vec<u64> = self.entries.values().map(|entry| entry.used).collect();
                ages.sort_unstable();
                let oldest = ages.get(ages.len() - size).copied().unwrap_or(clock);
                self.entries.retain(|_, entry| entry.used >= oldest);
            }
            Policy::Lru(_) => {}
            Policy::Memory => self.shrink(),
        }
    }

    /// Forgets the oldest results until half of the memory is free, once all of it is taken.
    fn shrink(&mut self) {
        let mut kept: usize = self.entries.values().map(|entry| entry.size).sum();
        if kept <= MEMORY {
            return;
        }
        let mut ages: Vec<(u64, Key, usize)> = self
            .entries
            .iter()
            .map(|(key, entry)| (entry.used, *key, entry.size))
            .collect();
        ages.sort_unstable();
        for (_, key, size) in ages.into_iter().take_while(|(used, ..)| *used < self.clock) {
            if kept <= MEMORY / 2 {
                return;
            }
            self.entries.remove(&key);
            kept -= size;
        }
    }

    /// An earlier result.
    pub fn get(&self, key: &Key) -> Option<&Entry> {
        self.entries.get(key)
    }

    /// Keeps a result.
    pub fn put(&mut self, key: Key, outputs: Vec<Datum>, ui: Option<Value>) {
        // A result without pixels still has its texts and its place in the table.
        let size = 1024 + outputs.iter().map(Datum::size).sum::<usize>();
        self.entries.insert(
            key,
            Entry {
                outputs,
                ui,
                used: self.clock,
                size,
            },
        );
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.entries.clear();
    }
}

/// The keys of all nodes of a graph, and the change tokens of those that load files.
pub fn keys(
    instance: &Instance,
    graph: &Map<String, Value>,
) -> (HashMap<String, Key>, HashMap<String, String>) {
    let (mut keys, mut tokens) = (HashMap::new(), HashMap::new());
    for id in graph.keys() {
        // Ancestors first, without recursion: graphs may be deep.
        let mut pending = vec![id.clone()];
        let mut steps = 0;
        while let Some(id) = pending.last().cloned() {
            steps += 1;
            let node = graph.get(&id);
            let inputs = node
                .and_then(|node| node.get("inputs"))
                .and_then(Value::as_object);
            let missing: Vec<String> = inputs
                .into_iter()
                .flat_map(Map::values)
                .filter_map(link)
                .map(|(id, _)| id)
                .filter(|id| graph.contains_key(id) && !keys.contains_key(id))
                .collect();
            if keys.contains_key(&id) || missing.is_empty() || steps > 4 * graph.len() + 16 {
                pending.pop();
                if !keys.contains_key(&id) {
                    let class = node
                        .and_then(|node| node.get("class_type"))
                        .and_then(Value::as_str)
                        .unwrap_or_default();
                    let token = instance
                        .classes
                        .get(class)
                        .and_then(|class| token(instance, class, inputs));
                    keys.insert(id.clone(), key(class, inputs, token.as_deref(), &keys));
                    tokens.extend(token.map(|token| (id, token)));
                }
            } else {
                pending.extend(missing);
            }
        }
    }
    (keys, tokens)
}

/// A link's node and output.
pub fn link(value: &Value) -> Option<(String, usize)> {
    match value.as_array()?.as_slice() {
        [id, output] => Some((
            id.as_str()?.to_owned(),
            usize::try_from(output.as_u64()?).ok()?,
        )),
        _ => None,
    }
}

fn key(
    class: &str,
    inputs: Option<&Map<String, Value>>,
    token: Option<&str>,
    keys: &HashMap<String, Key>,
) -> Key {
    let mut hash = Sha256::new();
    hash.update(class.as_bytes());
    let mut names: Vec<&String> = inputs.into_iter().flat_map(Map::keys).collect();
    names.sort();
    for name in names {
        hash.update(b"\0");
        hash.update(name.as_bytes());
        let value = inputs
            .and_then(|inputs| inputs.get(name))
            .unwrap_or(&Value::Null);
        match link(value).and_then(|(id, output)| Some((keys.get(&id)?, output))) {
            Some((ancestor, output)) => {
                hash.update(b"\x01");
                hash.update(ancestor);
                hash.update(output.to_le_bytes());
            }
            None => {
                hash.update(b"\x02");
                hash.update(python::dumps(value).as_bytes());
            }
        }
    }
    hash.update(token.unwrap_or_default().as_bytes());
    hash.finalize().into()
}

/// What tells that a node would do something else this time although its inputs are the same.
fn token(
    instance: &Instance,
    class: &Class,
    inputs: Option<&Map<String, Value>>,
) -> Option<String> {
    if class.always_changes {
        return Some(uuid::Uuid::new_v4().to_string());
    }
    let input = class.inputs.iter().find(|input| input.file.is_some())?;
    let path = instance
        .folders
        .annotated(inputs?.get(input.name)?.as_str()?)?;
    if input.file == Some("video") {
        return Some(format!(
            "{:?}",
            std::fs::metadata(path).ok()?.modified().ok()?
        ));
    }
    Some(hex::encode(Sha256::digest(std::fs::read(path).ok()?)))
}
