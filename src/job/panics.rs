//! A22: whatever panics in a prompt's way is a fault of ours, and ends that prompt alone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::json;

use super::registry::{Job, Status};
use super::remote::{Done, Errand, Remote, Told};
use super::{Parts, PromptRequest, Service, Source, Submission};
use crate::comfy::Comfy;
use crate::comfy::pool::Pool;
use crate::config::Config;
use crate::error::{Code, Failure};
use crate::events::Events;
use crate::health::{ComfyState, Health};
use crate::history::Memory;
use crate::mailbox::Mailbox;
use crate::media::Media;
use crate::net::Outbound;
use crate::storage::Storage;
use crate::store::{Limits, Store};
use crate::webhook::Webhooks;

/// A part that has a defect.
struct Broken;

#[async_trait]
impl Remote for Broken {
    async fn run(&self, _: Box<Errand>, _: Arc<Mailbox<Told>>) -> Result<Done, Failure> {
        panic!("a defect of this test")
    }

    fn has(&self, _: &str) -> bool {
        false
    }

    fn forget(&self, _: &str) {}

    fn address(&self, _: &Job) -> Option<String> {
        None
    }

    fn longest(&self) -> usize {
        1 << 20
    }
}

fn service(dir: &std::path::Path) -> Service {
    crate::net::install_crypto();
    let at = |name: &str| (name.to_owned(), dir.display().to_string());
    let env = BTreeMap::from([at("CACHE_DIR"), at("COMFY_HOME"), at("STATE_DIR")]);
    let config = Config::from_env(&env).unwrap();
    let outbound = Outbound::new(&config.storage).unwrap();
    let events = Events::default();
    let health = Health::new(1);
    let comfy = Comfy::new(
        Arc::new(config.comfy.of(0)),
        outbound.comfyui().clone(),
        events.clone(),
        health.of(0),
        Vec::new(),
    );
    health.of(0).set(ComfyState::Ready);
    let comfy = Pool::new(vec![comfy], &config.comfy, health.clone());
    let limits = Limits {
        retention: Duration::from_secs(60),
        asset_retention: Duration::from_secs(60),
        max_bytes: 1 << 30,
        max_jobs: 10,
        reserve: 0,
    };
    let (store, _) = Store::open(Some(dir), limits).unwrap();
    Service::new(Parts {
        config: config.prompt.clone(),
        comfy_config: config.comfy.clone(),
        max_runs: 1,
        storage: Storage::new(&config.storage, outbound.clone(), events.clone()),
        media: Media::new(&config.media),
        webhooks: Webhooks::new(&config.webhook, outbound.clone()),
        outbound,
        events,
        health,
        store,
        witness: Arc::new(Memory::new(10, comfy.clone())),
        comfy,
        journal_dir: dir.join("journal"),
        remote: Some(Arc::new(Broken)),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_ends_its_prompt_as_our_fault_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let service = service(dir.path());
    let request = || {
        let body = json!({"id": "same", "prompt": {"1": {"class_type": "A", "inputs": {}}}});
        PromptRequest::parse(body.as_object().unwrap().clone()).unwrap()
    };
    for _ in 0..2 {
        // The id is free again each time.
        let begun = service.begin(request(), Submission::new(Source::Http));
        let mut handle = begun.unwrap();
        let failure = handle.done().await.unwrap_err();
        assert_eq!(
            (failure.code, failure.status.as_u16()),
            (Code::Internal, 500)
        );
        assert!(failure.message.contains("prompt same"), "{failure}");
        assert!(failure.message.contains("defect"), "{failure}");
        let entry = service.entry("same").unwrap();
        assert_eq!(entry.status, Status::Failed);
        assert_eq!(service.in_flight(), 0);
    }
}
