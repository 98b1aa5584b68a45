//! The files of the web console (console.md): where they are, their headers, and what opens them.
//! What they do in a browser is tested by `tests/console/`.

use reqwest::{Client, Method, Response, redirect};
use tempfile::tempdir;

use crate::support::product::{Product, Stage};

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' \
                      blob: data:; media-src 'self' blob:; connect-src 'self'; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";

async fn ask(product: &Product, method: Method, path: &str, headers: &[(&str, &str)]) -> Response {
    let client = Client::builder()
        .redirect(redirect::Policy::none())
        .build()
        .unwrap();
    let mut request = client.request(method, format!("{}{path}", product.url));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.send().await.unwrap()
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response
        .headers()
        .get(name)
        .map_or("", |value| value.to_str().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_open_and_say_what_a_page_may_do() {
    let product = Stage::new().env("API_KEYS", "secret").start().await;
    for path in ["/", "/console"] {
        let answer = ask(&product, Method::GET, path, &[]).await;
        assert_eq!(
            (answer.status().as_u16(), header(&answer, "location")),
            (307, "console/"),
            "{path}"
        );
    }
    for (path, kind) in [
        ("/console/", "text/html; charset=utf-8"),
        ("/console/app.js", "text/javascript; charset=utf-8"),
        ("/console/pages/queue.js", "text/javascript; charset=utf-8"),
        ("/console/style.css", "text/css; charset=utf-8"),
        ("/console/icon.svg", "image/svg+xml"),
    ] {
        for method in [Method::GET, Method::HEAD] {
            let answer = ask(&product, method, path, &[]).await;
            assert_eq!(answer.status(), 200, "{path}");
            for (name, value) in [
                ("content-type", kind),
                ("content-security-policy", POLICY),
                ("x-content-type-options", "nosniff"),
                ("referrer-policy", "no-referrer"),
                ("cross-origin-opener-policy", "same-origin"),
            ] {
                assert_eq!(header(&answer, name), value, "{path}");
            }
            let tag = header(&answer, "etag").to_owned();
            let again = ask(&product, Method::GET, path, &[("if-none-match", &tag)]).await;
            assert_eq!(again.status(), 304, "{path}");
            assert_eq!(header(&again, "etag"), tag);
            assert_eq!(header(&again, "content-security-policy"), POLICY);
            assert!(again.bytes().await.unwrap().is_empty());
            let other = ask(&product, Method::GET, path, &[("if-none-match", "\"x\"")]).await;
            assert_eq!(other.status(), 200, "{path}");
        }
    }
    for path in [
        "/console/nowhere.js",
        "/console/../Cargo.toml",
        "/console/%2e%2e/console.rs",
        "/console/pages/",
        "/console/..%2fconsole.rs",
    ] {
        let answer = ask(&product, Method::GET, path, &[]).await;
        assert!(matches!(answer.status().as_u16(), 401 | 404), "{path}");
    }
    let answer = ask(&product, Method::POST, "/console/", &[]).await;
    assert_eq!(answer.status(), 405);
    // The files are open, and nothing else is.
    assert_eq!(
        ask(&product, Method::GET, "/consoles", &[]).await.status(),
        401
    );
    assert_eq!(
        ask(&product, Method::GET, "/queue", &[]).await.status(),
        401
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn it_can_be_switched_off_and_come_from_a_folder() {
    let product = Stage::new()
        .env("CONSOLE", "false")
        .env("API_KEYS", "secret")
        .start()
        .await;
    for path in ["/", "/console", "/console/", "/console/app.js"] {
        assert_eq!(
            ask(&product, Method::GET, path, &[]).await.status(),
            404,
            "{path}"
        );
    }
    let folder = tempdir().unwrap();
    let file = folder.path().join("index.html");
    std::fs::write(&file, "one").unwrap();
    let directory = folder.path().to_str().unwrap().to_owned();
    let product = Stage::new().env("CONSOLE_DIR", directory).start().await;
    let first = ask(&product, Method::GET, "/console/", &[]).await;
    let tag = header(&first, "etag").to_owned();
    assert_eq!(header(&first, "content-security-policy"), POLICY);
    assert_eq!(first.text().await.unwrap(), "one");
    std::fs::write(&file, "two").unwrap();
    let second = ask(
        &product,
        Method::GET,
        "/console/",
        &[("if-none-match", &tag)],
    )
    .await;
    assert_eq!(second.text().await.unwrap(), "two");
    assert_eq!(
        ask(&product, Method::GET, "/console/app.js", &[])
            .await
            .status(),
        404
    );
}
