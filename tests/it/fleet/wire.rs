//! What goes over the wire, with a stranger at the other end.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post, put};
use axum::{Json, Router};
use futures_util::StreamExt;
use lapin::BasicProperties;
use lapin::options::BasicPublishOptions;
use lapin::types::{AMQPValue, FieldTable};
use serde_json::{Value, json};

use super::*;
use crate::amqp::stage::connect;
use crate::support::rabbitmq::RabbitMq;

/// What a gateway of ours was asked.
#[derive(Default)]
struct Asked {
    claims: Vec<Value>,
    files: Vec<(String, Vec<u8>)>,
    over: bool,
}

type Shared = Arc<Mutex<Asked>>;

async fn serve(shared: Shared, picture: Vec<u8>) -> String {
    let claim = post(
        |State(asked): State<Shared>, Json(body): Json<Value>| async move {
            let mut asked = asked.lock().unwrap();
            asked.claims.push(body);
            if asked.over {
                return (StatusCode::NOT_FOUND, Json(json!({})));
            }
            (
                StatusCode::OK,
                Json(json!({"extra_data": {"api_key_comfy_org": "k"}})),
            )
        },
    );
    let out = put(
        |State(asked): State<Shared>, Path(name): Path<String>, body: axum::body::Bytes| async move {
            asked.lock().unwrap().files.push((name, body.to_vec()));
        },
    );
    let router = Router::new()
        .route("/fleet/tok/claim", claim)
        .route("/fleet/tok/in/0", get(move || async move { picture }))
        .route("/fleet/tok/out/{name}", out)
        .with_state(shared);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    format!("http://{address}/fleet/tok")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_claims_fetches_puts_and_answers_where_it_is_told() {
    let broker = RabbitMq::shared().await;
    let fleet = Fleet::start(&broker.uri()).await;
    let instance = fleet.instance("wired").start().await;
    let image = instance.run("own", &picture(1)).await;
    let image = comfyui_api_base64(image["images"][0].as_str().unwrap());
    let shared = Shared::default();
    let base = serve(shared.clone(), image).await;

    let connection = connect(&broker.uri()).await;
    let channel = connection.create_channel().await.unwrap();
    let reply = format!("reply.{}", fleet.name);
    let mut answers = listen(&channel, &reply).await;
    declare(&channel, &format!("{reply}.stream")).await;
    let send = async |id: &str, graph: Value| {
        let mut headers = FieldTable::default();
        headers.insert(
            "gateway".into(),
            AMQPValue::LongString(base.as_bytes().into()),
        );
        headers.insert("secrets".into(), AMQPValue::Boolean(true));
        let properties = BasicProperties::default()
            .with_reply_to(reply.as_str().into())
            .with_correlation_id(format!("c-{id}").into())
            .with_message_id(id.into())
            .with_headers(headers);
        let body = json!({"prompt": graph}).to_string();
        channel
            .basic_publish(
                "".into(),
                format!("in.{}", fleet.name).into(),
                BasicPublishOptions::default(),
                body.as_bytes(),
                properties,
            )
            .await
            .unwrap();
    };
    let mut end = async |correlation: &str| loop {
        let next = tokio::time::timeout(Duration::from_secs(30), answers.next()).await;
        let delivery = next.expect("an answer in time").unwrap().unwrap();
        let properties = &delivery.properties;
        assert_eq!(
            properties.correlation_id().as_ref().unwrap().as_str(),
            correlation
        );
        let headers = properties.headers().as_ref().unwrap().inner();
        assert_eq!(headers["instance"], AMQPValue::LongString("wired".into()));
        let envelope: Value = serde_json::from_slice(&delivery.data).unwrap();
        let kind = envelope["event_type"].as_str().unwrap();
        if [
            "execution_success",
            "execution_error",
            "execution_interrupted",
        ]
        .contains(&kind)
        {
            return envelope;
        }
    };

    send("task-1", load(&json!(format!("{base}/in/0")))).await;
    let envelope = end("c-task-1").await;
    assert_eq!(envelope["event_type"], "execution_success", "{envelope}");
    let data = &envelope["data"];
    assert!(data.get("images").is_none(), "{data}");
    let file = &data["files"][0];
    {
        let asked = shared.lock().unwrap();
        assert_eq!(asked.claims, [json!({"instance_id": "wired"})]);
        let (name, bytes) = &asked.files[0];
        assert_eq!(file["name"], *name);
        assert_eq!(file["size"], bytes.len());
        assert_eq!(
            file["hash"],
            format!("blake3:{}", blake3::hash(bytes).to_hex())
        );
    }

    // One that nobody waits for is not run.
    shared.lock().unwrap().over = true;
    send("task-2", picture(2)).await;
    let envelope = end("c-task-2").await;
    assert_eq!(
        envelope["event_type"], "execution_interrupted",
        "{envelope}"
    );
    assert_eq!(shared.lock().unwrap().files.len(), 1);

    // Another address of the same origin is not trusted.
    shared.lock().unwrap().over = false;
    let elsewhere = base.replace("/tok", "/other/in/0");
    send("task-3", load(&json!(elsewhere))).await;
    let envelope = end("c-task-3").await;
    assert_eq!(envelope["event_type"], "execution_error", "{envelope}");
}

fn comfyui_api_base64(text: &str) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD
        .decode(text)
        .unwrap()
}
