//! What waits in the spool and nowhere else, by receiver (attack.md, A43): as soon as a receiver
//! takes one delivery, the rest of its backlog follows.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ffi::OsString;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use url::{Position, Url};

/// The backlogs of all receivers. Holds names of files only.
#[derive(Debug, Default)]
pub struct Backlogs(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    receivers: HashMap<String, Receiver>,
    /// The names in all of them.
    names: HashSet<OsString>,
}

#[derive(Debug, Default)]
struct Receiver {
    /// Names begin with the time, so the oldest is the first.
    files: BTreeSet<OsString>,
    at_work: bool,
    /// It has asked to be left alone until then.
    not_before: Option<Instant>,
}

/// Two paths of one server are two receivers, of which one may hang.
pub fn receiver(url: &Url) -> String {
    url[..Position::AfterPath].to_owned()
}

/// Receivers that are dead together.
pub fn origin(receiver: &str) -> &str {
    let authority = receiver.find("://").map_or(0, |at| at + 3);
    receiver[authority..]
        .find('/')
        .map_or(receiver, |at| &receiver[..authority + at])
}

impl Backlogs {
    /// A file waits.
    pub fn add(&self, receiver: &str, name: OsString) {
        let mut state = self.lock();
        state.names.insert(name.clone());
        state
            .receivers
            .entry(receiver.to_owned())
            .or_default()
            .files
            .insert(name);
    }

    /// Whether a file is known already.
    pub fn knows(&self, name: &OsString) -> bool {
        self.lock().names.contains(name)
    }

    /// The receivers of files that wait and that nobody works on.
    pub fn due(&self) -> Vec<String> {
        let now = Instant::now();
        let due = |receiver: &Receiver| {
            !receiver.at_work
                && !receiver.files.is_empty()
                && receiver.not_before.is_none_or(|until| until <= now)
        };
        let state = self.lock();
        let receivers = state.receivers.iter();
        receivers
            .filter(|(_, receiver)| due(receiver))
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// Claims the work on a backlog; `false` when there is none, or somebody is at it.
    pub fn begin(&self, receiver: &str) -> bool {
        let mut state = self.lock();
        let Some(receiver) = state.receivers.get_mut(receiver) else {
            return false;
        };
        !receiver.files.is_empty() && !std::mem::replace(&mut receiver.at_work, true)
    }

    /// The oldest file.
    pub fn next(&self, receiver: &str) -> Option<OsString> {
        let mut state = self.lock();
        let name = state.receivers.get_mut(receiver)?.files.pop_first()?;
        state.names.remove(&name);
        Some(name)
    }

    /// Takes one file out, whichever is the oldest; `false` when it does not wait there.
    pub fn take(&self, receiver: &str, name: &OsString) -> bool {
        let mut state = self.lock();
        let Some(known) = state.receivers.get_mut(receiver) else {
            return false;
        };
        let taken = known.files.remove(name);
        if known.files.is_empty() && !known.at_work {
            state.receivers.remove(receiver);
        }
        state.names.remove(name);
        taken
    }

    /// The work has ended for now. Whether nothing is left.
    pub fn end(&self, receiver: &str) -> bool {
        let mut state = self.lock();
        let Some(known) = state.receivers.get_mut(receiver) else {
            return true;
        };
        known.at_work = false;
        let empty = known.files.is_empty();
        if empty {
            state.receivers.remove(receiver);
        }
        empty
    }

    /// The receiver wants to be left alone for so long. What it takes of its own accord counts
    /// more.
    pub fn pause(&self, receiver: &str, pause: Duration) {
        if let Some(receiver) = self.lock().receivers.get_mut(receiver) {
            receiver.not_before = Some(Instant::now() + pause);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_works_on_a_backlog_and_the_oldest_is_first() {
        let backlogs = Backlogs::default();
        for name in ["2-b", "1-a", "3-c"] {
            backlogs.add("http://h/x", name.into());
        }
        backlogs.add("http://h/y", "0-d".into());
        assert!(backlogs.knows(&"3-c".into()));
        assert!(backlogs.begin("http://h/x") && !backlogs.begin("http://h/x"));
        assert!(!backlogs.begin("http://h/unknown"));
        assert_eq!(backlogs.due(), ["http://h/y"]);
        assert_eq!(backlogs.next("http://h/x"), Some("1-a".into()));
        assert!(!backlogs.knows(&"1-a".into()));
        backlogs.pause("http://h/x", Duration::from_secs(60));
        assert!(!backlogs.end("http://h/x"));
        assert_eq!(backlogs.due(), ["http://h/y"], "it wants to be left alone");
        assert!(backlogs.begin("http://h/x"), "but it has taken one");
        assert_eq!(backlogs.next("http://h/x"), Some("2-b".into()));
        assert!(backlogs.take("http://h/x", &"3-c".into()));
        assert!(!backlogs.take("http://h/x", &"3-c".into()) && !backlogs.knows(&"3-c".into()));
        assert_eq!(backlogs.next("http://h/x"), None);
        assert!(backlogs.end("http://h/x"));
        assert_eq!(backlogs.lock().receivers.len(), 1);
    }

    #[test]
    fn origins_are_cut_from_receivers() {
        for (url, expected) in [
            ("https://h.example:8/a/b?x=1", "https://h.example:8"),
            ("http://h/", "http://h"),
        ] {
            assert_eq!(origin(&receiver(&url.parse().unwrap())), expected);
        }
    }
}
