//! What a workflow call adds to a prompt, and what loading costs at start.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::allow_attributes,
    reason = "criterion's macros make undocumented functions; a benchmark may stop"
)]

use std::path::Path;
use std::sync::Arc;

use comfyui_api::config::WorkflowConfig;
use comfyui_api::workflow::{ContextSource, ModelFolder, WorkflowContext, Workflows};
use criterion::{Criterion, criterion_group, criterion_main};

struct Fixed(Arc<WorkflowContext>);

#[async_trait::async_trait]
impl ContextSource for Fixed {
    async fn context(&self) -> (u64, Arc<WorkflowContext>) {
        (1, Arc::clone(&self.0))
    }
}

fn workflows(dir: &Path) -> Workflows {
    let names = |names: &[&str]| {
        names
            .iter()
            .map(|name| (*name).to_owned())
            .collect::<Vec<_>>()
    };
    let mut context = WorkflowContext {
        samplers: names(&["euler", "ddim"]),
        schedulers: names(&["normal"]),
        ..WorkflowContext::default()
    };
    let checkpoints = ModelFolder {
        dir: "/models/checkpoints".into(),
        all: (0..500).map(|n| format!("model-{n}.safetensors")).collect(),
    };
    context.models.insert("checkpoints".to_owned(), checkpoints);
    let config = WorkflowConfig {
        dir: dir.to_path_buf(),
        watch: false,
        markdown_descriptions: true,
        env: std::collections::BTreeMap::new(),
    };
    Workflows::new(&config, Arc::new(Fixed(Arc::new(context))))
}

fn call(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let workflows = workflows(&Path::new(env!("CARGO_MANIFEST_DIR")).join("docker/workflows"));
    runtime.block_on(workflows.load());
    let input =
        serde_json::json!({"prompt": "a cat", "steps": 30, "checkpoint": "model-7.safetensors"});
    criterion.bench_function("generateWorkflow of txt2img.ts", |bencher| {
        bencher
            .to_async(&runtime)
            .iter(|| async { workflows.generate("txt2img", input.clone()).await.unwrap() });
    });
    let input = serde_json::json!({"image": "https://example.com/a.png"});
    criterion.bench_function("plain upscale.json", |bencher| {
        bencher
            .to_async(&runtime)
            .iter(|| async { workflows.generate("upscale", input.clone()).await.unwrap() });
    });
}

fn load(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let source = std::fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("docker/workflows/txt2img.ts"),
    )
    .unwrap();
    for n in 0..100 {
        std::fs::write(dir.path().join(format!("w{n}.ts")), &source).unwrap();
    }
    let workflows = workflows(dir.path());
    let mut group = criterion.benchmark_group("load");
    group.sample_size(10);
    group.bench_function("100 files", |bencher| {
        bencher.to_async(&runtime).iter(|| async {
            workflows.load().await;
            assert_eq!(workflows.endpoints().len(), 100);
        });
    });
    group.finish();
}

criterion_group!(benches, call, load);
criterion_main!(benches);
