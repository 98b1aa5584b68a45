//! Models before and after the start.

use std::fs;
use std::time::Duration;

use comfyui_api::manifest::Manifest;
use tokio_util::sync::CancellationToken;

use super::{Machine, Server};

#[tokio::test]
async fn models_before_start_must_come_and_a_second_start_downloads_nothing() {
    let server = Server::start().await;
    fs::write(server.root.path().join("a.bin"), "model a").unwrap();
    let mut machine = Machine::new(&[]);
    machine
        .extra
        .push(("HTTP_TRUSTED_ORIGINS", server.origin.clone()));
    let absolute = machine.path("elsewhere/b.bin");
    let yaml = format!(
        "models:\n  before_start:\n    - {{url: '{0}/a.bin', local_path: \
         models/checkpoints/a.bin}}\n    - {{url: '{0}/a.bin?x=1', local_path: '{1}'}}\n",
        server.origin,
        absolute.display()
    );
    machine.start(&yaml).await.unwrap();
    assert_eq!(
        fs::read_to_string(machine.path("comfy/models/checkpoints/a.bin")).unwrap(),
        "model a"
    );
    assert_eq!(fs::read_to_string(&absolute).unwrap(), "model a");
    server.requests();
    machine.start(&yaml).await.unwrap();
    assert_eq!(server.requests(), 0);

    let absent = format!(
        "models:\n  before_start:\n    - {{url: '{}/absent.bin?token=marked-secret', local_path: \
         models/c.bin}}\n",
        server.origin
    );
    let error = machine.start(&absent).await.unwrap_err().to_string();
    assert!(
        error.contains("absent.bin") && !error.contains("marked-secret"),
        "{error}"
    );
}

#[tokio::test]
async fn models_after_start_come_in_the_background_and_are_tried_again() {
    let server = Server::start().await;
    let mut machine = Machine::new(&[]);
    machine
        .extra
        .push(("HTTP_TRUSTED_ORIGINS", server.origin.clone()));
    let yaml = format!(
        "models: {{after_start: [{{url: '{}/late.bin', local_path: models/late.bin}}]}}",
        server.origin
    );
    machine.start(&yaml).await.unwrap();
    let manifest = Manifest::from_yaml("MANIFEST", &yaml).unwrap();
    let task = machine
        .installer()
        .await
        .start_models_after(&manifest, &CancellationToken::new());
    // The first try fails, because the file only comes after it.
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while server.asked.lock().unwrap().is_empty() {
        assert!(std::time::Instant::now() < deadline, "never asked for");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    fs::write(server.root.path().join("late.bin"), "late").unwrap();
    tokio::time::timeout(Duration::from_secs(30), task)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        fs::read_to_string(machine.path("comfy/models/late.bin")).unwrap(),
        "late"
    );
}
