//! Who may use what is cached, and whether it is what they would get: F01, A01, A02.

use std::sync::Arc;

use comfyui_api::storage::{Auth, ErrorKind, Replace};
use serde_json::{Value, json};

use crate::support::origin::{Origin, Reply, Request};
use crate::support::storage::{Bench, bearer, content};

fn auth(value: Value) -> Auth {
    serde_json::from_value(value).unwrap()
}

/// The five kinds that HTTP takes, each of which the origin below accepts.
fn kinds() -> [Auth; 4] {
    [
        bearer("good"),
        auth(json!({"type": "basic", "username": "me", "password": "good"})),
        auth(json!({"type": "header", "header_name": "X-Key", "header_value": "good"})),
        auth(json!({"type": "query", "query_param": "sig", "query_value": "good"})),
    ]
}

fn accepted(request: &Request) -> bool {
    matches!(
        request.header("authorization"),
        Some("Bearer good" | "Basic bWU6Z29vZA==")
    ) || request.header("x-key") == Some("good")
        || request.target.contains("sig=good")
}

/// F01: whatever HEAD answers that is no success, one byte of GET decides, and nothing is fetched
/// again.
#[tokio::test]
async fn head_says_no_and_get_says_yes() {
    for (head, validators) in [
        (401, 3),
        (403, 1),
        (404, 2),
        (405, 3),
        (429, 3),
        (500, 3),
        (302, 3),
        (0, 3),
    ] {
        let body = content(5000);
        let served = Arc::clone(&body);
        let origin = Origin::start(move |request, _| {
            if request.method == "HEAD" {
                return match head {
                    0 => Reply {
                        stall_after: Some(0),
                        delay: Some(std::time::Duration::from_millis(1)),
                        ..Reply::status(200).with("X-No", "\r\n\r\ngarbage")
                    },
                    302 => Reply::redirect("gopher://nowhere/"),
                    status => Reply::status(status),
                };
            }
            if !accepted(request) {
                return Reply::status(401);
            }
            let mut reply = Reply::file(request, &served, "\"v\"");
            // Length alone, or the date alone, is enough as well.
            if validators & 1 == 0 {
                reply.headers.retain(|(name, _)| name != "ETag");
                reply = reply.with("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT");
            }
            reply
        })
        .await;
        for (n, auth) in kinds().into_iter().enumerate() {
            let bench = Bench::new(&[]).await;
            let url = origin.url(&format!("/{n}.bin"));
            bench.get_as(&url, auth.clone()).await.unwrap();
            let before = origin.requests().len();
            assert!(bench.get_as(&url, auth).await.unwrap().cached, "{head} {n}");
            let asked = origin.requests().split_off(before);
            assert!(
                asked.iter().all(
                    |request| request.method == "HEAD" || request.range() == Some((0, Some(0)))
                ),
                "{head}: {asked:?}"
            );
            let error = bench.get_as(&url, bearer("bad")).await.unwrap_err();
            assert!(
                error.message.starts_with("Authentication required"),
                "{error}"
            );
        }
    }
}

/// F01: an origin without ranges answers with the whole file, which is not read.
#[tokio::test]
async fn a_body_longer_than_asked_for_is_not_read() {
    let body = content(1 << 20);
    let origin = Origin::start(move |request, _| match request.method.as_str() {
        "HEAD" => Reply::status(405),
        _ => Reply {
            trickle: request.range().map(|_| 100),
            body: Arc::clone(&body),
            ..Reply::status(200)
        },
    })
    .await;
    let bench = Bench::new(&[]).await;
    let url = origin.url("/m.bin");
    bench.get_as(&url, bearer("any")).await.unwrap();
    let began = std::time::Instant::now();
    assert!(bench.get_as(&url, bearer("any")).await.unwrap().cached);
    assert!(began.elapsed().as_secs() < 5, "the whole would take 50 s");
}

/// A01: a meaningless credential locks nobody out of a public file.
#[tokio::test]
async fn a_public_file_stays_public() {
    let body = content(5000);
    let origin = Origin::start(move |request, _| Reply::file(request, &body, "\"v\"")).await;
    let bench = Bench::new(&[]).await;
    let url = origin.url("/public.bin");
    bench.get_as(&url, bearer("nonsense")).await.unwrap();
    assert!(bench.get(&url).await.unwrap().cached);
    assert!(bench.get_as(&url, bearer("other")).await.unwrap().cached);
    let whole = |request: &&Request| request.method == "GET" && request.range().is_none();
    assert_eq!(origin.requests().iter().filter(whole).count(), 1);
}

/// A01: nobody waits for another one's credentials, and what both get is cached once.
#[tokio::test]
async fn credentials_that_are_served_slowly_hold_up_nobody() {
    let body = content(300_000);
    let served = Arc::clone(&body);
    let origin = Origin::start(move |request, _| Reply {
        delay: request
            .header("authorization")
            .map(|_| std::time::Duration::from_secs(3)),
        trickle: Some(20_000),
        ..Reply::file(request, &served, "\"v\"")
    })
    .await;
    let bench = Bench::new(&[]).await;
    let url = origin.url("/public.bin");
    let storage = bench.storage.clone();
    let slow = comfyui_api::storage::Fetch {
        auth: Some(bearer("tarpit")),
        ..crate::support::storage::fetch(&url)
    };
    let slow = tokio::spawn(async move { storage.fetch(slow).await });
    origin.wait_for(1).await;
    let began = std::time::Instant::now();
    assert_eq!(
        std::fs::read(bench.get(&url).await.unwrap().path).unwrap(),
        *body
    );
    assert!(began.elapsed().as_millis() < 2500, "{:?}", began.elapsed());
    assert_eq!(
        std::fs::read(slow.await.unwrap().unwrap().path).unwrap(),
        *body
    );
    assert_eq!(bench.names().len(), 2, "{:?}", bench.names());
    // Neither are two different files mixed up that come at the same time.
    let origin = Origin::start(move |request, _| {
        let text = request
            .header("authorization")
            .unwrap_or("nobody")
            .repeat(100);
        Reply {
            trickle: Some(50),
            ..Reply::ok(text.clone()).with("ETag", format!("\"{}\"", text.len()))
        }
    })
    .await;
    let url = origin.url("/m.bin");
    let (a, b, nobody) = tokio::join!(
        bench.get_as(&url, bearer("aa")),
        bench.get_as(&url, bearer("bbb")),
        bench.get(&url)
    );
    for (fetched, text) in [(a, "Bearer aa"), (b, "Bearer bbb"), (nobody, "nobody")] {
        let path = fetched.unwrap().path;
        assert_eq!(std::fs::read_to_string(path).unwrap(), text.repeat(100));
    }
}

/// A02: what one client's credential made the origin send is not another's file; not by links
/// either.
#[tokio::test]
async fn one_clients_bytes_are_not_anothers() {
    for validators in ["etag", "date", "length", "none"] {
        let origin = Origin::start(move |request, _| {
            let text = match request.header("x-tenant") {
                Some("evil") => "evil file",
                Some(_) => "good",
                None => "public!",
            };
            let body = Arc::new(text.as_bytes().to_vec());
            let mut reply = Reply::file(request, &body, &format!("\"{text}\""));
            if validators != "etag" {
                reply.headers.retain(|(name, _)| name != "ETag");
            }
            match validators {
                "date" => reply.with(
                    "Last-Modified",
                    format!("Thu, 0{} Jan 2026 00:00:00 GMT", text.len()),
                ),
                "none" => {
                    reply.headers.clear();
                    Reply {
                        until_close: true,
                        status: 200,
                        body,
                        ..reply
                    }
                }
                _ => reply,
            }
        })
        .await;
        let tenant = |name: &str| {
            auth(json!({"type": "header", "header_name": "X-Tenant", "header_value": name}))
        };
        let bench = Bench::new(&[]).await;
        let url = origin.url("/m.bin");
        let text =
            |fetched: comfyui_api::storage::Fetched| std::fs::read_to_string(fetched.path).unwrap();
        let evil = bench.get_as(&url, tenant("evil")).await.unwrap();
        let models = bench.dir.path().join("models");
        bench
            .storage
            .place_model(
                &evil,
                std::slice::from_ref(&models),
                "m.bin",
                Replace::Clients,
            )
            .await
            .unwrap();
        for _ in 0..2 {
            assert_eq!(
                text(bench.get_as(&url, tenant("b")).await.unwrap()),
                "good",
                "{validators}"
            );
            assert_eq!(
                text(bench.get(&url).await.unwrap()),
                "public!",
                "{validators}"
            );
            assert_eq!(
                text(bench.get_as(&url, tenant("evil")).await.unwrap()),
                "evil file"
            );
        }
        // Where the origin tells versions apart, each is fetched once.
        let whole = |request: &&Request| request.method == "GET" && request.range().is_none();
        if validators != "none" {
            assert_eq!(
                origin.requests().iter().filter(whole).count(),
                3,
                "{validators}"
            );
        }
        assert_eq!(
            std::fs::read_to_string(models.join("m.bin")).unwrap(),
            "evil file"
        );
        // And the other way round: what is public is not what the credential opens.
        let bench = Bench::new(&[]).await;
        assert_eq!(text(bench.get(&url).await.unwrap()), "public!");
        assert_eq!(
            text(bench.get_as(&url, tenant("b")).await.unwrap()),
            "good",
            "{validators}"
        );
        assert_eq!(text(bench.get(&url).await.unwrap()), "public!");
    }
}

/// F22: the origin's own words, and none of the secrets.
#[tokio::test]
async fn refusals_carry_the_origins_words() {
    let origin = Origin::start(|request, _| match request.target.as_str() {
        "/json" => Reply {
            status: 401,
            ..Reply::ok(
                "{\"error\": \"Unauthorized\", \"message\": \"log in, tok-secret is no good\"}",
            )
        },
        "/xml" => Reply {
            status: 403,
            ..Reply::ok("<Error><Code>Expired</Code><Message>Too late</Message></Error>")
        },
        "/header" => Reply::status(410).with("X-Error-Message", "it moved to a better place"),
        _ => Reply {
            status: 404,
            ..Reply::ok("<html><title>Nothing here</title>")
        },
    })
    .await;
    let bench = Bench::new(&[]).await;
    for (path, kind, said) in [
        ("/json", ErrorKind::Unauthorized, "log in, *** is no good"),
        ("/xml", ErrorKind::Unauthorized, "Expired: Too late"),
        ("/header", ErrorKind::NotFound, "it moved to a better place"),
        ("/page", ErrorKind::NotFound, "Nothing here"),
    ] {
        let error = bench
            .get_as(&origin.url(path), bearer("tok-secret"))
            .await
            .unwrap_err();
        assert_eq!(error.kind, kind, "{path}");
        assert!(
            error.message.contains(said) && !error.message.contains("secret"),
            "{error}"
        );
    }
}
