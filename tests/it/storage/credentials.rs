//! Which credentials are sent where.

use comfyui_api::storage::Fetch;
use serde_json::json;

use crate::support::origin::{Origin, Reply};
use crate::support::storage::{Bench, bearer, fetch, fetch_with};

async fn origin() -> Origin {
    Origin::start(|_, _| Reply::ok("x")).await
}

#[tokio::test]
async fn the_five_kinds_and_the_first_pattern_that_matches() {
    let origin = origin().await;
    let bench = Bench::new(&[
        ("HTTP_AUTH_HEADER_NAME", "X-Key"),
        ("HTTP_AUTH_HEADER_VALUE", "configured"),
    ])
    .await;
    let credentials = json!([
        {"url_pattern": "**/bearer", "auth": {"type": "bearer", "token": "t1"}},
        {"url_pattern": "**/basic", "auth": {"type": "basic", "username": "me", "password": "pw"}},
        {
            "url_pattern": "**/header",
            "auth": {"type": "header", "header_name": "X-Token", "header_value": "t2"}
        },
        {
            "url_pattern": "**/query",
            "auth": {"type": "query", "query_param": "sig", "query_value": "a/b"}
        },
        {"url_pattern": "**/bearer", "auth": {"type": "bearer", "token": "never"}},
    ]);
    for path in ["/bearer", "/basic", "/header", "/query", "/none"] {
        bench
            .storage
            .fetch(fetch_with(&origin.url(path), credentials.clone()))
            .await
            .unwrap();
    }
    let seen: Vec<_> = origin
        .requests()
        .iter()
        .map(|request| {
            let header = |name: &str| request.header(name).unwrap_or_default().to_owned();
            (
                request.target.clone(),
                header("authorization"),
                header("x-token"),
                header("x-key"),
            )
        })
        .collect();
    let row = |target: &str, authorization: &str, token: &str, key: &str| {
        (
            target.to_owned(),
            authorization.to_owned(),
            token.to_owned(),
            key.to_owned(),
        )
    };
    assert_eq!(
        seen,
        [
            row("/bearer", "Bearer t1", "", ""),
            row("/basic", "Basic bWU6cHc=", "", ""),
            row("/header", "", "t2", ""),
            row("/query?sig=a%2Fb", "", "", ""),
            row("/none", "", "", "configured"),
        ]
    );
    let s3 = serde_json::from_value(
        json!({"type": "s3", "access_key_id": "a", "secret_access_key": "marked"}),
    )
    .unwrap();
    let error = bench.get_as(&origin.url("/s3"), s3).await.unwrap_err();
    assert!(error.message.contains("s3") && !error.message.contains("marked"));
}

#[tokio::test]
async fn auth_of_the_download_comes_before_the_list_and_userinfo_before_the_configured_header() {
    let origin = origin().await;
    let bench = Bench::new(&[
        ("HTTP_AUTH_HEADER_NAME", "Authorization"),
        ("HTTP_AUTH_HEADER_VALUE", "configured"),
    ])
    .await;
    let with_userinfo = |path: &str| format!("http://me:pw@127.0.0.1:{}{path}", origin.port);
    let list = json!([{"url_pattern": "**", "auth": {"type": "bearer", "token": "list"}}]);
    bench
        .storage
        .fetch(Fetch {
            auth: Some(bearer("own")),
            ..fetch_with(&with_userinfo("/1"), list.clone())
        })
        .await
        .unwrap();
    bench
        .storage
        .fetch(fetch_with(&with_userinfo("/2"), list))
        .await
        .unwrap();
    bench
        .storage
        .fetch(fetch(&with_userinfo("/3")))
        .await
        .unwrap();
    bench.storage.fetch(fetch(&origin.url("/4"))).await.unwrap();
    let seen: Vec<_> = origin
        .requests()
        .iter()
        .map(|request| request.header("authorization").unwrap().to_owned())
        .collect();
    assert_eq!(
        seen,
        ["Bearer own", "Bearer list", "Basic bWU6cHc=", "configured"]
    );
    for name in bench.names().iter().filter(|name| name.ends_with(".meta")) {
        let text = std::fs::read_to_string(bench.cache.join(name)).unwrap();
        assert!(!text.contains("pw") && !text.contains("me:"), "{text}");
    }
}

#[tokio::test]
async fn credentials_stay_at_their_origin() {
    let elsewhere = Origin::start(|_, _| Reply::ok("x")).await;
    let to = elsewhere.url("/landed.bin");
    let back = to.clone();
    let origin = Origin::start(move |request, _| match request.target.as_str() {
        "/here" => Reply::redirect("/still-here"),
        "/still-here" => Reply::redirect(back.clone()),
        _ => Reply::ok("x"),
    })
    .await;
    let bench = Bench::new(&[
        ("HTTP_AUTH_HEADER_NAME", "X-Key"),
        ("HTTP_AUTH_HEADER_VALUE", "configured"),
    ])
    .await;
    bench
        .get_as(&origin.url("/here"), bearer("secret"))
        .await
        .unwrap();
    assert!(
        origin
            .requests()
            .iter()
            .all(|request| request.header("authorization") == Some("Bearer secret"))
    );
    assert_eq!(origin.requests().len(), 2);
    let landed = &elsewhere.requests()[0];
    assert_eq!(
        (landed.header("authorization"), landed.header("x-key")),
        (None, None)
    );

    // The configured header is a credential as well, and so is userinfo.
    bench
        .get(&format!("{}?2", origin.url("/here")))
        .await
        .unwrap();
    let userinfo = format!("http://me:pw@127.0.0.1:{}/still-here", origin.port);
    bench.get(&userinfo).await.unwrap();
    assert!(
        elsewhere
            .requests()
            .iter()
            .all(|request| request.header("authorization").is_none()
                && request.header("x-key").is_none())
    );
}

#[tokio::test]
async fn credentials_do_not_come_back_with_a_redirect_from_elsewhere() {
    let (port, origin_port) = (
        std::sync::Arc::new(std::sync::atomic::AtomicU16::new(0)),
        (),
    );
    let () = origin_port;
    let known = std::sync::Arc::clone(&port);
    let middle = Origin::start(move |_, _| {
        Reply::redirect(format!(
            "http://127.0.0.1:{}/chosen-by-another",
            known.load(std::sync::atomic::Ordering::SeqCst)
        ))
    })
    .await;
    let to = middle.url("/middle");
    let origin = Origin::start(move |request, _| {
        if request.target == "/start" {
            Reply::redirect(to.clone())
        } else {
            Reply::ok("x")
        }
    })
    .await;
    port.store(origin.port, std::sync::atomic::Ordering::SeqCst);
    let bench = Bench::new(&[]).await;
    bench
        .get_as(&origin.url("/start"), bearer("secret"))
        .await
        .unwrap();
    let seen: Vec<_> = origin
        .requests()
        .iter()
        .map(|request| request.header("authorization").map(str::to_owned))
        .collect();
    assert_eq!(seen, [Some("Bearer secret".to_owned()), None]);
}

/// D13: the operator's header goes where the operator lets it.
#[tokio::test]
async fn the_configured_header_goes_to_its_origins_only() {
    let (mine, other) = (origin().await, origin().await);
    let allowed = mine.url("");
    let bench = Bench::new(&[
        ("HTTP_AUTH_HEADER_NAME", "X-Key"),
        ("HTTP_AUTH_HEADER_VALUE", "configured"),
        ("HTTP_AUTH_ALLOWED_ORIGINS", &allowed),
    ])
    .await;
    bench.get(&mine.url("/a.bin")).await.unwrap();
    bench.get(&other.url("/a.bin")).await.unwrap();
    let path = bench.dir.path().join("f");
    std::fs::write(&path, "x").unwrap();
    for origin in [&mine, &other] {
        let target = comfyui_api::storage::Target::Http {
            url_prefix: origin.url("/up"),
        };
        let file = comfyui_api::storage::UploadFile {
            path: path.clone(),
            filename: "f".to_owned(),
            content_type: "image/png".to_owned(),
        };
        let cancel = tokio_util::sync::CancellationToken::new();
        bench
            .storage
            .upload(&target, &[file], false, None, &cancel)
            .await
            .unwrap();
    }
    let keys = |origin: &Origin| -> Vec<Option<String>> {
        let requests = origin.requests();
        requests
            .iter()
            .map(|request| request.header("x-key").map(str::to_owned))
            .collect()
    };
    assert_eq!(keys(&mine), vec![Some("configured".to_owned()); 2]);
    assert_eq!(keys(&other), vec![None; 2]);
}
