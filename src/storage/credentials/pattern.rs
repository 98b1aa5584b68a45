//! Which URLs credentials are for.

use std::collections::HashMap;

/// A pattern as an automaton whose states are bits: state n means that the first n characters of
/// the pattern, not counting stars, have been met. A step is one word of such bits for one
/// character of the URL, so there is nothing to go back over.
#[derive(Debug)]
pub(super) struct Pattern {
    /// What the URL must begin with, before the first star or question mark.
    prefix: String,
    /// Characters after the prefix.
    pub(super) length: usize,
    /// By character: in which states it leads on. Beside those in which any does.
    pub(super) known: HashMap<char, Vec<u64>>,
    pub(super) any: Vec<u64>,
    /// States with a `**` behind them, and with a `*`.
    stays: Vec<u64>,
    stays_in_segment: Vec<u64>,
}

impl Pattern {
    pub(super) fn new(pattern: &str) -> Self {
        let end = pattern.find(['*', '?']).unwrap_or(pattern.len());
        let (prefix, rest) = pattern.split_at(end);
        let length = rest.chars().filter(|char| *char != '*').count();
        let words = length / 64 + 1;
        let mut made = Self {
            prefix: prefix.to_owned(),
            length,
            known: HashMap::new(),
            any: vec![0; words],
            stays: vec![0; words],
            stays_in_segment: vec![0; words],
        };
        let mut state = 0;
        let mut chars = rest.chars().peekable();
        while let Some(char) = chars.next() {
            let (word, bit) = (state / 64, 1_u64 << (state % 64));
            match char {
                '*' if chars.next_if_eq(&'*').is_some() => made.stays[word] |= bit,
                '*' => made.stays_in_segment[word] |= bit,
                '?' => {
                    made.any[word] |= bit;
                    state += 1;
                }
                other => {
                    made.known.entry(other).or_insert_with(|| vec![0; words])[word] |= bit;
                    state += 1;
                }
            }
        }
        made
    }

    /// Whether the whole URL matches, and how many steps that took.
    pub(super) fn matches(&self, url: &str) -> (bool, u64) {
        let Some(rest) = url.strip_prefix(self.prefix.as_str()) else {
            return (false, 1);
        };
        let words = self.any.len();
        let mut states = vec![0_u64; words];
        states[0] = 1;
        let mut steps = 0;
        for char in rest.chars() {
            let known = self.known.get(&char);
            let mut carried = 0;
            let mut alive = false;
            for word in 0..words {
                let now = states[word];
                let leads_on = self.any[word] | known.map_or(0, |known| known[word]);
                let stays = self.stays[word]
                    | if char == '/' {
                        0
                    } else {
                        self.stays_in_segment[word]
                    };
                let moved = now & leads_on;
                states[word] = moved << 1 | carried | now & stays;
                carried = moved >> 63;
                alive |= states[word] != 0;
            }
            steps += words as u64;
            if !alive {
                return (false, steps);
            }
        }
        let last = states[self.length / 64] >> (self.length % 64) & 1;
        (last == 1, steps + 1)
    }
}
