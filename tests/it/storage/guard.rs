//! Where requests may reach: on the first hop and on every redirect.

use comfyui_api::storage::{ErrorKind, Target};

use crate::support::origin::{Origin, Reply};
use crate::support::storage::Bench;

const CLOSED: (&str, &str) = ("ALLOW_PRIVATE_NETWORKS", "false");

#[tokio::test]
async fn private_addresses_are_refused_by_default() {
    let origin = Origin::start(|_, _| Reply::ok("secret")).await;
    let bench = Bench::new(&[CLOSED]).await;
    for host in ["127.0.0.1", "localhost", "0x7f.1", "[::ffff:127.0.0.1]"] {
        let error = bench
            .get(&format!("http://{host}:{}/x.bin", origin.port))
            .await
            .unwrap_err();
        assert_eq!(error.kind, ErrorKind::Invalid, "{host}: {error}");
        assert!(
            error.message.contains("HTTP_TRUSTED_ORIGINS")
                && error.message.contains("ALLOW_PRIVATE_NETWORKS"),
            "{error}"
        );
        let target = Target::Http {
            url_prefix: format!("http://{host}:{}/up", origin.port),
        };
        assert!(
            bench
                .storage
                .check_target(&target, false)
                .await
                .unwrap_err()
                .message
                .contains("HTTP_TRUSTED_ORIGINS")
        );
        let repository = format!("http://{host}:{}/r.git", origin.port);
        let cloned = bench
            .storage
            .clone_repository(
                &repository,
                &[bench.dir.path().to_owned()],
                "clone",
                &Default::default(),
            )
            .await;
        assert_eq!(cloned.unwrap_err().kind, ErrorKind::Invalid, "{host}");
    }
    assert!(origin.requests().is_empty());
    assert!(bench.names().is_empty());
}

#[tokio::test]
async fn redirects_are_judged_hop_by_hop() {
    let inside = Origin::start(|_, _| Reply::ok("secret")).await;
    let targets = [
        inside.url("/direct"),
        format!("http://localhost:{}/named", inside.port),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
    ];
    let targets_served = targets.clone();
    let outside = Origin::start(move |request, _| {
        let n: usize = request.target.trim_start_matches('/').parse().unwrap();
        Reply::redirect(targets_served[n].clone())
    })
    .await;
    let trusted = format!("http://127.0.0.1:{}", outside.port);
    let bench = Bench::new(&[CLOSED, ("HTTP_TRUSTED_ORIGINS", &trusted)]).await;
    for n in 0..targets.len() {
        let error = bench.get(&outside.url(&format!("/{n}"))).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Invalid);
        assert!(error.message.contains("HTTP_TRUSTED_ORIGINS"), "{error}");
    }
    assert_eq!(outside.requests().len(), targets.len());
    assert!(inside.requests().is_empty());
}

#[tokio::test]
async fn a_trusted_origin_is_reached() {
    let origin = Origin::start(|_, _| Reply::ok("x")).await;
    let bench = Bench::new(&[
        CLOSED,
        (
            "HTTP_TRUSTED_ORIGINS",
            &format!("http://localhost:{}", origin.port),
        ),
    ])
    .await;
    assert!(
        bench
            .get(&format!("http://localhost:{}/x", origin.port))
            .await
            .is_ok()
    );
    assert!(bench.get(&origin.url("/x")).await.is_err());
}

#[tokio::test]
async fn redirects_have_an_end_and_stay_on_the_web() {
    let origin = Origin::start(|request, _| match request.target.as_str() {
        "/file" => Reply::redirect("file:///etc/passwd"),
        "/bad" => Reply::redirect("http://[::bad"),
        _ => Reply::redirect("/loop"),
    })
    .await;
    let bench = Bench::new(&[]).await;
    for (path, says) in [
        ("/file", "file://"),
        ("/bad", "not a URL"),
        ("/loop", "more than 10"),
    ] {
        let error = bench.get(&origin.url(path)).await.unwrap_err();
        assert!(
            error.kind == ErrorKind::Failed && error.message.contains(says),
            "{error}"
        );
    }
    for url in ["file:///etc/passwd", "ftp://h/x", "nonsense", "http://"] {
        assert_eq!(
            bench.get(url).await.unwrap_err().kind,
            ErrorKind::Invalid,
            "{url}"
        );
    }
}
