//! The W3C trace context: `traceparent` and `tracestate`, in and out.
//!
//! What came in keeps its own text, so that it can be passed on unchanged where no span of ours
//! stands in between.

use std::sync::Arc;

use axum::http::{HeaderMap, HeaderValue};

/// The header, and the key in AMQP headers and `_meta`.
pub const TRACEPARENT: &str = "traceparent";
/// The vendors' part.
pub const TRACESTATE: &str = "tracestate";

/// Bytes of a `traceparent` of version 00. Later versions may have more behind that.
const LENGTH: usize = 55;
/// Bytes of a `traceparent` of a later version that are passed on.
const LONGEST_PARENT: usize = 256;
/// Bytes of a `tracestate` that are passed on; the standard asks for 512 at least. A longer one is
/// left out.
const LONGEST_STATE: usize = 4096;
/// Members that a `tracestate` may have.
const MOST_MEMBERS: usize = 32;

const SAMPLED: u8 = 1;

/// Which span something belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    /// Of the whole trace.
    pub trace_id: [u8; 16],
    /// Of the span.
    pub span_id: [u8; 8],
    pub(super) flags: u8,
    /// As it came in, if it did.
    text: Option<Arc<str>>,
    pub(super) state: Option<Arc<str>>,
}

impl Context {
    /// Reads what came in. `None` when there is none, or it is malformed; a malformed `tracestate`
    /// only costs itself.
    pub fn parse(traceparent: &str, tracestate: Option<&str>) -> Option<Self> {
        let text = traceparent.trim_matches([' ', '\t']);
        let (version, trace_id, span_id, flags) = parts(text)?;
        let exact = text.len() == LENGTH;
        let longer = version > 0 && text.len() <= LONGEST_PARENT && text.as_bytes()[LENGTH] == b'-';
        if !(exact || longer) {
            return None;
        }
        Some(Self {
            trace_id,
            span_id,
            flags,
            text: Some(text.into()),
            state: tracestate.and_then(state).map(Into::into),
        })
    }

    /// From the headers of a request.
    pub fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let mut parents = headers.get_all(TRACEPARENT).iter();
        let parent = parents.next()?.to_str().ok()?;
        // Two of them contradict each other.
        if parents.next().is_some() {
            return None;
        }
        let states: Option<Vec<&str>> = headers
            .get_all(TRACESTATE)
            .iter()
            .map(|value| value.to_str().ok())
            .collect();
        let state = states.filter(|states| !states.is_empty());
        Self::parse(parent, state.map(|states| states.join(",")).as_deref())
    }

    /// Of a span that begins here.
    pub(super) fn local(
        trace_id: [u8; 16],
        span_id: [u8; 8],
        flags: u8,
        state: Option<Arc<str>>,
    ) -> Self {
        Self {
            trace_id,
            span_id,
            flags,
            text: None,
            state,
        }
    }

    /// Whether whoever has begun the trace records it.
    pub const fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// Whether it came from elsewhere.
    pub const fn is_remote(&self) -> bool {
        self.text.is_some()
    }

    /// Its flags, as they go out.
    pub const fn flags(&self) -> u8 {
        self.flags
    }

    /// The header's text: as it came in, else of this span.
    pub fn traceparent(&self) -> Arc<str> {
        self.text.clone().unwrap_or_else(|| {
            let (trace, span) = self.hex_ids();
            format!("00-{trace}-{span}-{:02x}", self.flags).into()
        })
    }

    /// The vendors' part, if there is one.
    pub fn tracestate(&self) -> Option<&str> {
        self.state.as_deref()
    }

    /// Puts it into the headers of a request of ours.
    pub fn put_into(&self, headers: &mut HeaderMap) {
        let values = [
            (TRACEPARENT, Some(&*self.traceparent())),
            (TRACESTATE, self.tracestate()),
        ]
        .map(|(name, text)| (name, text.map(HeaderValue::from_str)));
        for (name, value) in values {
            if let Some(Ok(value)) = value {
                headers.insert(name, value);
            }
        }
    }

    /// Both parts in one text, to be kept.
    pub fn to_text(&self) -> String {
        let mut text = self.traceparent().to_string();
        if let Some(state) = self.tracestate() {
            text.push(' ');
            text.push_str(state);
        }
        text
    }

    /// What was kept.
    pub fn from_text(text: &str) -> Option<Self> {
        match text.split_once(' ') {
            Some((parent, state)) => Self::parse(parent, Some(state)),
            None => Self::parse(text, None),
        }
    }

    /// The ids in hex.
    pub fn hex_ids(&self) -> (String, String) {
        (hex::encode(self.trace_id), hex::encode(self.span_id))
    }
}

type Parts = (u8, [u8; 16], [u8; 8], u8);

fn parts(text: &str) -> Option<Parts> {
    let bytes = text.as_bytes();
    if bytes.len() < LENGTH || [2, 35, 52].iter().any(|at| bytes[*at] != b'-') {
        return None;
    }
    let version = bytes_of::<1>(&bytes[..2])?[0];
    let trace_id = bytes_of::<16>(&bytes[3..35])?;
    let span_id = bytes_of::<8>(&bytes[36..52])?;
    let flags = bytes_of::<1>(&bytes[53..55])?[0];
    let valid = version != 0xff && trace_id != [0; 16] && span_id != [0; 8];
    valid.then_some((version, trace_id, span_id, flags))
}

/// Lower-case hex only.
fn bytes_of<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

/// A `tracestate` that is one, without white space around it.
fn state(text: &str) -> Option<&str> {
    let text = text.trim_matches([' ', '\t', ',']);
    let members = text
        .split(',')
        .map(|member| member.trim_matches([' ', '\t']));
    let mut seen = Vec::new();
    for member in members.filter(|member| !member.is_empty()) {
        let (key, value) = member.split_once('=')?;
        if !is_key(key) || !is_value(value) || seen.contains(&key) {
            return None;
        }
        seen.push(key);
    }
    (!seen.is_empty() && seen.len() <= MOST_MEMBERS && text.len() <= LONGEST_STATE).then_some(text)
}

fn is_key(key: &str) -> bool {
    let begins = key
        .bytes()
        .next()
        .is_some_and(|first| first.is_ascii_lowercase() || first.is_ascii_digit());
    let allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-*/@".contains(&byte);
    begins && key.len() <= 256 && key.bytes().all(allowed)
}

fn is_value(value: &str) -> bool {
    !value.is_empty()
        && value.len() <= 256
        && value
            .bytes()
            .all(|byte| (0x20..0x7f).contains(&byte) && !b",=".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn what_is_well_formed_is_read_and_passed_on_as_it_came() {
        let context =
            Context::parse(PARENT, Some("congo=t61rcWkgMzE, rojo=00f067aa0ba902b7")).unwrap();
        assert!(context.is_sampled() && context.is_remote());
        assert_eq!(&*context.traceparent(), PARENT);
        assert_eq!(
            context.tracestate(),
            Some("congo=t61rcWkgMzE, rojo=00f067aa0ba902b7")
        );
        let (trace, span) = context.hex_ids();
        assert_eq!(format!("00-{trace}-{span}-01"), PARENT);
        assert_eq!(Context::from_text(&context.to_text()), Some(context));
        let later = format!("cc{}-what-the-future-brings", &PARENT[2..]);
        assert_eq!(&*Context::parse(&later, None).unwrap().traceparent(), later);
    }

    #[test]
    fn what_is_malformed_is_ignored() {
        for bad in [
            "",
            "00",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
            "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.more",
            "00-4bf92f3577b34da6a3ce929d0e0e473g-00f067aa0ba902b7-01",
            "00-ä4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
        ] {
            assert_eq!(Context::parse(bad, None), None, "{bad}");
        }
        for state in ["", "a", "A=1", "a=1,a=2", "a=\u{7}", "a=1=2"] {
            let context = Context::parse(PARENT, Some(state)).unwrap();
            assert_eq!(context.tracestate(), None, "{state}");
        }
        let many: Vec<String> = (0..33).map(|n| format!("k{n}=v")).collect();
        let context = Context::parse(PARENT, Some(&many.join(","))).unwrap();
        assert_eq!(context.tracestate(), None);
    }

    #[test]
    fn two_parents_are_none_and_several_states_are_one() {
        let mut headers = HeaderMap::new();
        headers.append(TRACEPARENT, HeaderValue::from_static(PARENT));
        headers.append(TRACESTATE, HeaderValue::from_static("a=1"));
        headers.append(TRACESTATE, HeaderValue::from_static("b=2"));
        let context = Context::from_headers(&headers).unwrap();
        assert_eq!(context.tracestate(), Some("a=1,b=2"));
        let mut out = HeaderMap::new();
        context.put_into(&mut out);
        assert_eq!(out[TRACEPARENT], PARENT);
        assert_eq!(out[TRACESTATE], "a=1,b=2");
        headers.append(TRACEPARENT, HeaderValue::from_static(PARENT));
        assert_eq!(Context::from_headers(&headers), None);
    }
}
