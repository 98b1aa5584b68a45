//! Counts the values of a text while it arrives, in pieces of any size, without building anything.

use crate::limits::MAX_VALUES;

/// Where in the text the last piece ended.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Between tokens.
    #[default]
    Between,
    /// In a number or a word.
    Bare,
    /// In a string.
    Text,
    /// In a string, behind a backslash.
    Escaped,
}

/// The counter. What is no JSON is counted somehow; whoever builds finds that out.
#[derive(Debug, Default)]
pub struct Counter {
    place: Place,
    tokens: usize,
    names: usize,
}

impl Counter {
    /// Takes the next piece; `false` when there are too many values.
    pub fn feed(&mut self, piece: &[u8]) -> bool {
        let mut rest = piece;
        while let Some(byte) = rest.first() {
            match self.place {
                Place::Text => {
                    let Some(end) = rest.iter().position(|byte| matches!(byte, b'"' | b'\\'))
                    else {
                        return true;
                    };
                    self.place = if rest[end] == b'"' {
                        Place::Between
                    } else {
                        Place::Escaped
                    };
                    rest = &rest[end + 1..];
                    continue;
                }
                Place::Escaped => self.place = Place::Text,
                Place::Between | Place::Bare => {
                    self.between(*byte);
                    if self.values() > MAX_VALUES {
                        return false;
                    }
                }
            }
            rest = &rest[1..];
        }
        true
    }

    fn between(&mut self, byte: u8) {
        match byte {
            b'"' => {
                self.tokens += 1;
                self.place = Place::Text;
            }
            b'{' | b'[' => {
                self.tokens += 1;
                self.place = Place::Between;
            }
            b':' => {
                self.names += 1;
                self.place = Place::Between;
            }
            b'}' | b']' | b',' | b' ' | b'\n' | b'\r' | b'\t' => self.place = Place::Between,
            _ if self.place == Place::Between => {
                self.tokens += 1;
                self.place = Place::Bare;
            }
            _ => {}
        }
    }

    /// How many there are so far. A member counts once, with its value.
    pub const fn values(&self) -> usize {
        self.tokens.saturating_sub(self.names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_counted_in_pieces_of_any_size() {
        for (text, values) in [
            ("", 0),
            ("{}", 1),
            (r#"{"a": 1}"#, 2),
            (
                r#"{"a": {"b": "c:d,[{\"\\"}, "e": [1, -2.5e3, true, null, "x"]}"#,
                9,
            ),
            ("[[],[],{}]", 4),
            (r#"[{"":0},{"":0}]"#, 5),
            (" \"text\" ", 1),
        ] {
            for size in [1, 2, 3, 100] {
                let mut counter = Counter::default();
                assert!(
                    text.as_bytes()
                        .chunks(size)
                        .all(|piece| counter.feed(piece))
                );
                assert_eq!(counter.values(), values, "{text} in pieces of {size}");
            }
        }
    }

    #[test]
    fn too_many_are_noticed_on_the_way() {
        for piece in [b"[],".as_slice(), b"{\"\":0},", b"0,", b"\"\","] {
            let mut counter = Counter::default();
            counter.feed(b"{\"x\": [");
            let fed = (0..2_000_000).find(|_| !counter.feed(piece));
            assert!(fed.is_some_and(|fed| fed <= MAX_VALUES), "{fed:?}");
        }
    }
}
