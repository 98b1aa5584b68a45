//! Addresses of tasks: guessed, used twice, over.

use serde_json::json;

use super::*;
use crate::amqp::stage::connect;
use crate::support::rabbitmq::RabbitMq;

async fn status(request: reqwest::RequestBuilder) -> (u16, Value) {
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    (status, answer.json().await.unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_opens_with_its_token_until_the_job_has_ended() {
    let broker = RabbitMq::shared().await;
    let fleet = Fleet::start(&broker.uri()).await;
    let gateway = &fleet.gateway;
    let http = &gateway.http;
    let mut image = vec![0_u8; 300_000];
    image[..8].copy_from_slice(b"\x89PNG\r\n\x1a\n");
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(&image);
    let waiting = gateway.prompt_later(json!({"id": "waits", "prompt": load(&json!(text))}));
    gateway.until_prompt("waits", "pending").await;

    // What an instance would be told; nobody takes it here.
    let connection = connect(&broker.uri()).await;
    let channel = connection.create_channel().await.unwrap();
    let queue = format!("in.{}", fleet.name);
    let get = lapin::options::BasicGetOptions::default();
    let message = channel
        .basic_get(queue.as_str().into(), get)
        .await
        .unwrap()
        .unwrap();
    let headers = message.properties.headers().clone().unwrap();
    let lapin::types::AMQPValue::LongString(base) = &headers.inner()["gateway"] else {
        panic!("{headers:?}");
    };
    let base = String::from_utf8(base.as_bytes().to_vec()).unwrap();
    let body = String::from_utf8(message.data.clone()).unwrap();
    assert!(body.contains(&format!("{base}/in/0")), "{body}");

    let token = base.rsplit('/').next().unwrap();
    let guessed = base.replace(token, &"0".repeat(token.len()));
    let claim = json!({"instance_id": "somebody"});
    for base in [&guessed, &format!("{base}0")] {
        for (status, body) in [
            status(http.post(format!("{base}/claim")).json(&claim)).await,
            status(http.get(format!("{base}/in/0"))).await,
            status(http.put(format!("{base}/out/a.png")).body("x")).await,
        ] {
            assert_eq!(
                (status, &body["code"]),
                (404, &json!("not_found")),
                "{body}"
            );
            assert!(
                body["error"].as_str().unwrap().contains("no such task"),
                "{body}"
            );
        }
    }
    assert_eq!(status(http.get(format!("{base}/in/1"))).await.0, 404);
    let (code, body) = status(http.post(format!("{base}/claim")).json(&json!({}))).await;
    assert_eq!(
        (code, &body["location"]),
        (400, &json!("instance_id")),
        "{body}"
    );
    let input = http.get(format!("{base}/in/0")).send().await.unwrap();
    assert_eq!(input.bytes().await.unwrap(), image);

    // A name used twice keeps both contents; the hash of each says which one it is.
    let (one, two) = (
        status(http.put(format!("{base}/out/a.png")).body("one")).await,
        status(http.put(format!("{base}/out/a.png")).body("two")).await,
    );
    assert_eq!((one.0, two.0), (200, 200));
    assert_ne!(one.1["hash"], two.1["hash"]);
    let named = status(http.put(format!("{base}/out/..%2Fa")).body("x")).await;
    assert_eq!(named.0, 400, "{}", named.1);

    gateway.delete("/prompt/waits").await;
    assert_eq!(waiting.await.unwrap().0, 409);
    for (code, body) in [
        status(http.post(format!("{base}/claim")).json(&claim)).await,
        status(http.get(format!("{base}/in/0"))).await,
        status(http.put(format!("{base}/out/a.png")).body("x")).await,
    ] {
        assert_eq!(code, 404, "{body}");
    }
    until_clean(gateway).await;
}
