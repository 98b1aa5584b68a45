//! Which traces are recorded: the samplers of the standard, by their standard names.

use std::sync::Arc;

use super::{Context, Strategy};

/// All names of the standard.
pub const NAMES: &[&str] = &[
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
    "jaeger_remote",
    "parentbased_jaeger_remote",
    "xray",
];

/// Decides for a span that begins.
#[derive(Debug, Clone)]
pub struct Sampler {
    /// A parent's decision is its children's too.
    parent_based: bool,
    root: Root,
}

/// What is decided where no parent has.
#[derive(Debug, Clone)]
enum Root {
    /// Of 1: how much.
    Share(f64),
    /// Somebody else says it, from time to time.
    Remote(Arc<Strategy>),
}

impl Sampler {
    /// What holds where nothing else is said.
    pub const ALWAYS: Self = Self {
        parent_based: true,
        root: Root::Share(1.0),
    };

    /// One that asks somebody else.
    pub const fn remote(strategy: Arc<Strategy>, parent_based: bool) -> Self {
        Self {
            parent_based,
            root: Root::Remote(strategy),
        }
    }

    /// By its name, if it decides by itself; `ratio` is the argument of those that take one.
    pub fn named(name: &str, ratio: f64) -> Option<Self> {
        let (parent_based, root) = match name.strip_prefix("parentbased_") {
            Some(root) => (true, root),
            None => (false, name),
        };
        let ratio = match root {
            "always_on" => 1.0,
            "always_off" => 0.0,
            "traceidratio" => ratio,
            _ => return None,
        };
        Some(Self {
            parent_based,
            root: Root::Share(ratio),
        })
    }

    pub(super) fn samples(&self, trace_id: &[u8; 16], parent: Option<&Context>) -> bool {
        match (parent, &self.root) {
            (Some(parent), _) if self.parent_based => parent.is_sampled(),
            (_, Root::Share(share)) => is_of_share(*share, trace_id),
            (_, Root::Remote(strategy)) => strategy.samples(trace_id),
        }
    }
}

/// As all SDKs do it, so that they agree about a trace: the lower 63 bits below a bound.
pub(super) fn is_of_share(share: f64, trace_id: &[u8; 16]) -> bool {
    if share >= 1.0 {
        return true;
    }
    let mut low = [0; 8];
    low.copy_from_slice(&trace_id[8..]);
    let bound = (share.max(0.0) * (1_u64 << 63) as f64) as u64;
    u64::from_be_bytes(low) >> 1 < bound
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::trace::ids;

    #[test]
    fn parents_decide_only_where_the_name_says_so() {
        let parent = |flags: &str| {
            let text = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-{flags}");
            Context::parse(&text, None).unwrap()
        };
        let id = ids::trace_id();
        for (name, root, sampled, unsampled) in [
            ("always_on", true, true, true),
            ("always_off", false, false, false),
            ("parentbased_always_on", true, true, false),
            ("parentbased_always_off", false, true, false),
        ] {
            let sampler = Sampler::named(name, 0.5).unwrap();
            assert_eq!(sampler.samples(&id, None), root, "{name}");
            assert_eq!(sampler.samples(&id, Some(&parent("01"))), sampled, "{name}");
            assert_eq!(
                sampler.samples(&id, Some(&parent("00"))),
                unsampled,
                "{name}"
            );
        }
        // What a strategy says counts only where the name says so, too.
        for parent_based in [false, true] {
            let sampler = Sampler::remote(Arc::new(Strategy::new(0.0)), parent_based);
            assert!(!sampler.samples(&id, None));
            assert_eq!(sampler.samples(&id, Some(&parent("01"))), parent_based);
        }
    }

    #[test]
    fn a_ratio_is_kept() {
        let sampler = Sampler::named("traceidratio", 0.25).unwrap();
        let hits = (0..20_000)
            .filter(|_| sampler.samples(&ids::trace_id(), None))
            .count();
        assert!((4_500..5_500).contains(&hits), "{hits}");
        let none = Sampler::named("parentbased_traceidratio", 0.0).unwrap();
        assert!(!none.samples(&ids::trace_id(), None));
    }
}
