//! What survives.

use std::time::Instant;

use nix::sys::signal::Signal;
use serde_json::json;

use super::*;
use crate::amqp::stage::proxied;
use crate::support::rabbitmq::RabbitMq;

const JOBS: usize = 60;

#[tokio::test(flavor = "multi_thread")]
async fn no_job_is_lost_whatever_is_killed() {
    let broker = RabbitMq::disruptable().await;
    let state = tempfile::TempDir::new().unwrap();
    let dir = state.path().display().to_string();
    let began = Instant::now();
    let mut fleet = Fleet::with(
        &broker.uri(),
        &[("STATE_DIR", &dir), ("V2_MAX_ATTEMPTS", "5")],
    )
    .await;
    let (killed, stayer) = tokio::join!(
        fleet.instance("killed").start(),
        fleet.instance("stayer").start()
    );
    let mut ids = Vec::new();
    for number in 0..JOBS {
        let graph = slow(u32::try_from(number).unwrap(), 0.15);
        let (status, job) = fleet
            .gateway
            .post("/api/v2/jobs", &json!({"workflow": graph}))
            .await;
        assert_eq!(status, 201, "{job}");
        ids.push(job["id"].as_str().unwrap().to_owned());
    }
    ended(&fleet.gateway, &ids[5]).await;
    killed.signal(Signal::SIGKILL);
    ended(&fleet.gateway, &ids[15]).await;
    broker.stop().await;
    broker.boot().await;
    ended(&fleet.gateway, &ids[25]).await;
    fleet.gateway.signal(Signal::SIGKILL);
    fleet.gateway.ended().await;
    let id = std::fs::read_to_string(state.path().join("fleet/id")).unwrap();
    // The same address: instances that have a file for it try for ten minutes.
    let port = fleet.gateway.url.rsplit(':').next().unwrap().to_owned();
    fleet.gateway = gateway(&broker.uri(), &fleet.name)
        .envs(&[("STATE_DIR", &dir), ("V2_MAX_ATTEMPTS", "5")])
        .env("PORT", port)
        .start()
        .await;
    assert_eq!(
        std::fs::read_to_string(state.path().join("fleet/id")).unwrap(),
        id
    );
    for id in &ids {
        let job = ended(&fleet.gateway, id).await;
        assert_eq!(job["status"], "succeeded", "{job}");
        assert_eq!(job["outputs"].as_array().unwrap().len(), 1, "{job}");
        let url = format!(
            "{}/api/v2/assets/{}/content",
            fleet.gateway.url,
            job["outputs"][0]["id"].as_str().unwrap()
        );
        let content = fleet.gateway.http.get(url).send().await.unwrap();
        assert_eq!(content.status(), 200);
        let bytes = content.bytes().await.unwrap();
        assert_eq!(
            bytes.len() as u64,
            job["outputs"][0]["size_bytes"].as_u64().unwrap()
        );
    }
    until("nothing is left", async || {
        let left = std::fs::read_dir(state.path().join("fleet/jobs")).map_or(0, Iterator::count);
        (left == 0).then_some(())
    })
    .await;
    drop(stayer);
    eprintln!("{JOBS} jobs, everything killed once: {:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_takes_instances_with_it_fails() {
    let broker = RabbitMq::shared().await;
    let fleet = Fleet::start(&broker.uri()).await;
    let gateway = &fleet.gateway;
    let (_, job) = gateway
        .post("/api/v2/jobs", &json!({"workflow": slow(1, 30.0)}))
        .await;
    let id = job["id"].as_str().unwrap().to_owned();
    for victim in ["first", "second"] {
        let instance = fleet.instance(victim).start().await;
        until("it runs", async || {
            let (_, job) = gateway.get(&format!("/api/v2/jobs/{id}")).await;
            (job["status"] == "running").then_some(())
        })
        .await;
        instance.signal(Signal::SIGKILL);
        drop(instance);
        if victim == "first" {
            // Three heartbeats are missed.
            until("it waits again", async || {
                let (_, job) = gateway.get(&format!("/api/v2/jobs/{id}")).await;
                (job["status"] == "queued").then_some(())
            })
            .await;
        }
    }
    let job = ended(gateway, &id).await;
    assert_eq!(
        (&job["status"], &job["error"]["code"]),
        (&json!("failed"), &json!("worker_lost")),
        "{job}"
    );
    // It does not walk through the fleet.
    let third = fleet.instance("third").start().await;
    gateway.run("next", &picture(1)).await;
    let (_, queue) = third.get("/queue").await;
    assert_eq!(queue["finished"].as_array().unwrap().len(), 1, "{queue}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_away_takes_no_jobs_and_a_second_gateway_is_not_ready() {
    let broker = RabbitMq::disruptable().await;
    let fleet = Fleet::with(&broker.uri(), &[("GATEWAY_ID", "the-same")]).await;
    let second = gateway(&broker.uri(), &fleet.name)
        .env("GATEWAY_ID", "the-same")
        .launch()
        .await;
    until("the second says why", async || {
        let (status, body) = second.get("/ready").await;
        assert_eq!(status, 503, "{body}");
        let reason = body["reason"].as_str().unwrap_or_default();
        reason.contains("another gateway").then_some(())
    })
    .await;
    assert_eq!(second.get("/health").await.0, 200);
    drop(second);
    broker.stop().await;
    fleet.gateway.until_status("/ready", 503).await;
    let (status, body) = fleet.gateway.prompt(&json!({"prompt": picture(1)})).await;
    assert_eq!(
        (status, &body["code"]),
        (503, &json!("comfyui_unavailable")),
        "{body}"
    );
    let (status, body) = fleet
        .gateway
        .post("/api/v2/jobs", &json!({"workflow": picture(1)}))
        .await;
    assert_eq!(
        (status, &body["error"]["code"]),
        (429, &json!("deployment_not_ready")),
        "{body}"
    );
    assert_eq!(fleet.gateway.get("/health").await.0, 200);
    let (_, jobs) = fleet.gateway.get("/api/v2/jobs").await;
    assert_eq!(jobs["jobs"], json!([]));
    broker.boot().await;
    fleet.gateway.until_ready().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_has_moved_publishes_its_jobs_anew() {
    let broker = RabbitMq::shared().await;
    let state = tempfile::TempDir::new().unwrap();
    let dir = state.path().display().to_string();
    let mut fleet = Fleet::with(&broker.uri(), &[("STATE_DIR", &dir)]).await;
    let instance = fleet.instance("one").start().await;
    fleet.until_seen("one", "IDLE").await;
    let mut ids = Vec::new();
    for graph in [slow(1, 3.0), picture(2), picture(3)] {
        let (status, job) = fleet
            .gateway
            .post("/api/v2/jobs", &json!({"workflow": graph}))
            .await;
        assert_eq!(status, 201, "{job}");
        ids.push(job["id"].as_str().unwrap().to_owned());
    }
    until("the first one runs", async || {
        let (_, job) = fleet.gateway.get(&format!("/api/v2/jobs/{}", ids[0])).await;
        (job["status"] == "running").then_some(())
    })
    .await;
    let before = fleet.gateway.url.clone();
    fleet.gateway.signal(Signal::SIGKILL);
    fleet.gateway.ended().await;
    fleet.gateway = gateway(&broker.uri(), &fleet.name)
        .env("STATE_DIR", &dir)
        .start()
        .await;
    assert_ne!(fleet.gateway.url, before);
    // One runs for an address that leads nowhere, two wait with it.
    for id in &ids {
        let job = ended(&fleet.gateway, id).await;
        assert_eq!(job["status"], "succeeded", "{job}");
        assert_eq!(job["outputs"].as_array().unwrap().len(), 1, "{job}");
    }
    // What was published before the move is done with, too.
    until("nothing waits and nothing runs", async || {
        let (_, status) = fleet.gateway.get("/status").await;
        let (_, queue) = instance.get("/queue").await;
        let waiting = status["queues"][0]["waiting"].as_u64()?;
        let idle = queue["running"] == json!([]) && queue["pending"] == json!([]);
        (waiting == 0 && idle).then_some(())
    })
    .await;
    let (_, jobs) = fleet.gateway.get("/api/v2/jobs").await;
    assert_eq!(jobs["jobs"].as_array().unwrap().len(), ids.len(), "{jobs}");
    until("nothing is left", async || {
        let left = std::fs::read_dir(state.path().join("fleet/jobs")).map_or(0, Iterator::count);
        (left == 0).then_some(())
    })
    .await;
}

/// The broker is silent, as behind a network that has broken: nothing says no, nothing says yes.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_broker_does_not_confirm_is_no_job_and_never_runs() {
    let broker = RabbitMq::shared().await;
    let (proxy, uri) = proxied(broker).await;
    let fleet = Fleet::start(&uri).await;
    let gateway = &fleet.gateway;
    proxy.freeze();
    let began = Instant::now();
    let send = |path: &str, body: Value| {
        let request = gateway.http.post(format!("{}{path}", gateway.url));
        request.json(&body).send()
    };
    let (sync, job) = tokio::join!(
        send("/prompt", json!({"id": "unsaid", "prompt": picture(1)})),
        send("/api/v2/jobs", json!({"workflow": picture(2)})),
    );
    let took = began.elapsed().as_secs_f64();
    assert!((4.0..20.0).contains(&took), "{took} s");
    for (answer, status, code) in [
        (sync.unwrap(), 503, "comfyui_unavailable"),
        (job.unwrap(), 429, "deployment_not_ready"),
    ] {
        assert_eq!(answer.status(), status);
        assert!(answer.headers().contains_key("retry-after"), "{answer:?}");
        let body: Value = answer.json().await.unwrap();
        assert!(body.to_string().contains(code), "{body}");
    }
    let (_, jobs) = gateway.get("/api/v2/jobs").await;
    assert_eq!(jobs["jobs"], json!([]), "no record stays");
    // What was on its way arrives after all: whoever takes it is told that nobody wants it.
    proxy.pass();
    gateway.until_ready().await;
    let instance = fleet.instance("late").start().await;
    gateway.run("wanted", &picture(3)).await;
    let (_, queue) = instance.get("/queue").await;
    assert_eq!(queue["finished"].as_array().unwrap().len(), 1, "{queue}");
    until_clean(gateway).await;
}

/// What is only of interest now must not fill the broker while the gateway cannot keep up.
#[tokio::test(flavor = "multi_thread")]
async fn the_queues_of_a_gateway_are_as_the_contract_says() {
    let broker = RabbitMq::disruptable().await;
    let fleet = Fleet::with(&broker.uri(), &[("GATEWAY_ID", "declared")]).await;
    let wanted = [
        "--formatter",
        "json",
        "name",
        "durable",
        "exclusive",
        "arguments",
    ];
    let listed = [&["-q", "list_queues"][..], &wanted].concat();
    let listed: Value = serde_json::from_str(&broker.ctl(&listed).await).unwrap();
    let queue = |name: &str| {
        let mut all = listed.as_array().unwrap().iter();
        all.find(|queue| queue["name"] == name)
            .unwrap_or_else(|| panic!("{listed}"))
    };
    let answers = queue("q.gateway.declared");
    assert_eq!(answers["durable"], json!(true), "{answers}");
    assert!(answers.to_string().contains("86400000"), "{answers}");
    let stream = queue("q.gateway.declared.stream");
    assert_eq!(stream["exclusive"], json!(true), "{stream}");
    for part in ["10000", "drop-head"] {
        assert!(stream["arguments"].to_string().contains(part), "{stream}");
    }
    drop(fleet);
}
