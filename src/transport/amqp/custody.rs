//! Which task is to blame for the death of ComfyUI (attack.md, A53): the one that it was executing;
//! those that waited are not. Where that cannot be told, because ComfyUI died before it had said
//! anything, all of them are suspects and run alone next.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

/// All tasks that a death takes along have heard of it after this time.
const SETTLES: Duration = Duration::from_millis(150);
/// Losses this far apart have different causes.
const SAME_DEATH: Duration = Duration::from_millis(800);

/// Whether a lost task is charged with an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blame {
    Charged,
    Innocent,
    Suspect,
}

/// The tasks that run here, and how far each has come.
#[derive(Debug, Default)]
pub(super) struct Custody(Mutex<HashMap<Arc<str>, Held>>);

#[derive(Debug, Default)]
struct Held {
    submitted: bool,
    executing: bool,
    lost: Option<Instant>,
}

impl Custody {
    pub(super) fn take(&self, id: &Arc<str>) {
        self.lock().insert(Arc::clone(id), Held::default());
    }

    pub(super) fn submitted(&self, id: &str) {
        if let Some(held) = self.lock().get_mut(id) {
            held.submitted = true;
        }
    }

    pub(super) fn executing(&self, id: &str) {
        if let Some(held) = self.lock().get_mut(id) {
            held.executing = true;
        }
    }

    /// The task is out of our hands. One that was lost is remembered for those that were lost with
    /// it.
    pub(super) fn release(&self, id: &str) {
        let mut held = self.lock();
        if held.get(id).is_some_and(|held| held.lost.is_none()) {
            held.remove(id);
        }
        held.retain(|_, held| held.lost.is_none_or(|lost| lost.elapsed() < SAME_DEATH));
    }

    /// ComfyUI has died with this task in it. `other_prompt`: one of another transport was
    /// executing then.
    pub(super) async fn blame(&self, id: &str, other_prompt: impl FnOnce() -> bool) -> Blame {
        let now = Instant::now();
        if let Some(held) = self.lock().get_mut(id) {
            held.lost = Some(now);
        }
        tokio::time::sleep(SETTLES).await;
        let held = self.lock();
        let Some(this) = held.get(id) else {
            return Blame::Charged;
        };
        if this.executing {
            return Blame::Charged;
        }
        let others = || {
            held.iter()
                .filter(|(other, _)| ***other != *id)
                .map(|(_, other)| other)
                .filter(|other| {
                    other.lost.is_some_and(|lost| {
                        lost.max(now).duration_since(lost.min(now)) < SAME_DEATH
                    })
                })
        };
        if !this.submitted || others().any(|other| other.executing) || other_prompt() {
            Blame::Innocent
        } else if others().any(|other| other.submitted) {
            Blame::Suspect
        } else {
            Blame::Charged
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Held>> {
        self.0.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn blamed(
        submitted: &[&str],
        executing: &[&str],
        all: &[&str],
        other: bool,
    ) -> Vec<Blame> {
        let custody = Custody::default();
        for id in all {
            custody.take(&Arc::from(*id));
        }
        submitted.iter().for_each(|id| custody.submitted(id));
        executing.iter().for_each(|id| custody.executing(id));
        let verdicts = all.iter().map(|id| custody.blame(id, || other));
        futures_util::future::join_all(verdicts).await
    }

    /// A53
    #[tokio::test]
    async fn only_the_executing_task_is_charged_and_without_one_all_are_suspects() {
        use Blame::{Charged, Innocent, Suspect};
        let all = ["a", "b", "c"];
        let cases = [
            (
                &all[..],
                &["b"][..],
                &all[..],
                false,
                vec![Innocent, Charged, Innocent],
            ),
            (&all, &[], &all, false, vec![Suspect, Suspect, Suspect]),
            (
                &["a", "b"],
                &[],
                &all,
                false,
                vec![Suspect, Suspect, Innocent],
            ),
            (&["c"], &[], &all, false, vec![Innocent, Innocent, Charged]),
            (&["a"], &[], &["a"], false, vec![Charged]),
            (&[], &[], &["a"], false, vec![Innocent]),
            (&all, &[], &all, true, vec![Innocent, Innocent, Innocent]),
        ];
        for (submitted, executing, all, other, expected) in cases {
            let got = blamed(submitted, executing, all, other).await;
            assert_eq!(got, expected, "{submitted:?} {executing:?}");
        }
    }
}
