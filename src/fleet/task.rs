//! What a gateway knows of one job while it is with the fleet.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use serde_json::{Map, Value};

use super::files::InputFile;
use super::order::Order;
use crate::job::remote::Told;
use crate::mailbox::Mailbox;

/// What comes in for a task.
#[derive(Debug)]
pub(super) enum News {
    /// To be shown.
    Told(Told),
    /// Its end: the kind of event, and its data.
    Ended(String, Map<String, Value>),
    /// Too many instances have gone with it.
    GivenUp(String),
    /// Its message is lost.
    Publish,
}

/// A job with the fleet.
#[derive(Debug)]
pub(super) struct Task {
    /// Of the job.
    pub id: Arc<str>,
    /// Opens its files.
    pub token: String,
    /// Where its files are.
    pub dir: PathBuf,
    /// It survives this process.
    pub kept: bool,
    /// The number of its queue.
    pub queue: usize,
    /// Of the message.
    pub priority: Option<u8>,
    /// Headers `previews` and `keep`.
    pub previews: bool,
    /// See above.
    pub wants_all: bool,
    /// It had secrets, whether or not they are known still.
    pub needs_secrets: bool,
    /// The message's body.
    pub body: Bytes,
    /// Names of its inputs.
    pub inputs: Vec<String>,
    /// The address that is in its body.
    pub address: Option<String>,
    /// For whoever runs it.
    pub(super) news: Mailbox<News>,
    taken_up: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    /// `{credentials?, extra_data?}`
    pub secrets: Map<String, Value>,
    /// Its publications.
    pub correlations: Vec<String>,
    /// The instance that has it.
    pub claimed_by: Option<String>,
    /// Somebody has had it.
    pub ever_claimed: bool,
    /// Claims by instances that went without giving it back.
    pub lost: u32,
    /// The last of them, if it was only not heard of: it may have been slow.
    pub silent: Option<String>,
    /// When it was published last.
    pub published: Option<Instant>,
    /// Since when it waits, for the oldest age.
    pub waits_since: Option<Instant>,
    /// Its end is known.
    pub ended: bool,
    /// What came in the order of the two queues for answers.
    pub order: Order,
}

/// What a claim comes to.
#[derive(Debug)]
pub(super) enum Claimed {
    /// With these secrets.
    Granted(Map<String, Value>),
    /// Too many have had it.
    TooOften,
    /// What it needs was lost with the process before.
    SecretsLost,
    /// It has ended.
    Over,
}

impl Task {
    #[expect(clippy::too_many_arguments, reason = "each is a field of its own")]
    pub(super) fn new(
        (id, token, dir): (Arc<str>, String, PathBuf),
        kept: bool,
        (queue, priority): (usize, Option<u8>),
        (previews, wants_all): (bool, bool),
        needs_secrets: bool,
        (body, inputs): (Bytes, Vec<String>),
        address: Option<String>,
        state: State,
    ) -> Arc<Self> {
        Arc::new(Self {
            id,
            token,
            dir,
            kept,
            queue,
            priority,
            previews,
            wants_all,
            needs_secrets,
            body,
            inputs,
            address,
            news: Mailbox::default(),
            taken_up: AtomicBool::new(false),
            state: Mutex::new(state),
        })
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    pub(super) fn tell(&self, news: News) {
        self.news.put(news);
    }

    /// Somebody runs it from now on; `false` where somebody does already.
    pub(super) fn take_up(&self) -> bool {
        !self.taken_up.swap(true, Ordering::Relaxed)
    }

    /// Nobody runs it.
    pub(super) fn is_dormant(&self) -> bool {
        !self.taken_up.load(Ordering::Relaxed)
    }

    /// One of its inputs.
    pub(super) fn input(&self, number: usize) -> Option<InputFile> {
        let name = self.inputs.get(number)?;
        Some(InputFile {
            path: self.dir.join("in").join(number.to_string()),
            name: name.clone(),
        })
    }

    /// An instance wants to run it. Whoever had it before has gone without a word.
    pub(super) fn claim(&self, instance: &str, most: u32) -> Claimed {
        let mut state = self.state();
        if state.ended {
            return Claimed::Over;
        }
        if self.needs_secrets && state.secrets.is_empty() {
            state.ended = true;
            return Claimed::SecretsLost;
        }
        let lost = state.claimed_by.take().is_some();
        state.lost += u32::from(lost);
        if state.lost >= most {
            state.ended = true;
            return Claimed::TooOften;
        }
        if lost {
            self.waits_again();
        }
        state.claimed_by = Some(instance.to_owned());
        state.silent = None;
        state.ever_claimed = true;
        state.waits_since = None;
        // Whoever claims it counts anew.
        state.order = Order::default();
        Claimed::Granted(state.secrets.clone())
    }

    /// Somebody speaks of it, so he has it.
    pub(super) fn heard_from(&self, instance: &str) {
        let mut state = self.state();
        if !state.ended && state.claimed_by.is_none() && !instance.is_empty() {
            if state.silent.take().as_deref() == Some(instance) {
                state.lost = state.lost.saturating_sub(1);
            }
            state.claimed_by = Some(instance.to_owned());
            state.ever_claimed = true;
            state.waits_since = None;
        }
    }

    /// It is back in its queue.
    pub(super) fn given_back(&self) {
        let mut state = self.state();
        if state.claimed_by.take().is_some() && !state.ended {
            state.waits_since = Some(Instant::now());
            state.order = Order::default();
            self.waits_again();
        }
    }

    fn waits_again(&self) {
        if self.kept {
            super::record::forget_events(self);
        }
        self.tell(News::Told(Told::Requeued));
    }

    /// The instance that has it is gone.
    pub(super) fn abandoned(&self, most: u32) {
        let mut state = self.state();
        if state.ended || state.claimed_by.is_none() {
            return;
        }
        state.silent = state.claimed_by.take();
        state.lost += 1;
        state.waits_since = Some(Instant::now());
        if state.lost >= most {
            state.ended = true;
            let lost = state.lost;
            self.tell(News::GivenUp(too_often(lost)));
        } else {
            self.waits_again();
        }
    }

    /// Ends it where nobody has it yet; `false` where somebody does.
    pub(super) fn end_unclaimed(&self) -> bool {
        let mut state = self.state();
        if state.claimed_by.is_some() {
            return false;
        }
        state.ended = true;
        true
    }
}

/// The sentence for a task that instances have not survived.
pub(super) fn too_often(lost: u32) -> String {
    format!("the job is given up: {lost} instances have gone while they had it (V2_MAX_ATTEMPTS)")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task() -> Arc<Task> {
        Task::new(
            ("id".into(), "token".to_owned(), PathBuf::new()),
            false,
            (0, None),
            (false, false),
            false,
            (Bytes::new(), Vec::new()),
            None,
            State::default(),
        )
    }

    #[test]
    fn an_instance_that_was_only_slow_has_not_gone() {
        let task = task();
        for _ in 0..3 {
            assert!(matches!(task.claim("slow", 2), Claimed::Granted(_)));
            task.abandoned(2);
            assert_eq!(task.state().lost, 1);
            task.heard_from("slow");
            let state = task.state();
            assert_eq!((state.lost, state.claimed_by.as_deref()), (0, Some("slow")));
            drop(state);
            task.given_back();
        }
        // One that is heard of no more has, and so has the next one.
        assert!(matches!(task.claim("first", 2), Claimed::Granted(_)));
        task.abandoned(2);
        assert!(matches!(task.claim("second", 2), Claimed::Granted(_)));
        task.heard_from("second");
        assert_eq!(task.state().lost, 1);
        assert!(matches!(task.claim("third", 2), Claimed::TooOften));
        assert!(task.state().ended);
    }
}
