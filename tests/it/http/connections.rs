//! Connections that say nothing, or begin in pieces.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::product::Product;

/// What comes back until the connection is closed, and after how long.
async fn until_closed(product: &Product, sent: &str) -> (String, Duration) {
    let mut stream = tokio::net::TcpStream::connect(product.url.strip_prefix("http://").unwrap())
        .await
        .unwrap();
    stream.write_all(sent.as_bytes()).await.unwrap();
    let began = Instant::now();
    let mut answer = Vec::new();
    let closed = tokio::time::timeout(Duration::from_secs(100), stream.read_to_end(&mut answer))
        .await
        .expect("the connection stays open");
    // What was sent and never read turns the close into a reset.
    assert!(
        closed.as_ref().map_or_else(
            |error| error.kind() == std::io::ErrorKind::ConnectionReset,
            |_| true
        ),
        "{closed:?}"
    );
    (String::from_utf8(answer).unwrap(), began.elapsed())
}

#[tokio::test]
async fn who_says_nothing_is_shown_the_door() {
    let product = Product::start(&[]).await;
    let half = "POST /prompt HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
                content-length: 100\r\nconnection: close\r\n\r\n{\"prompt";
    let ((silent, _), (letter, _), (head, _), (idle, waited), (body, _)) = tokio::join!(
        until_closed(&product, ""),
        // Could be HTTP/2 as well.
        until_closed(&product, "P"),
        until_closed(&product, "GET /health HTTP/1.1\r\nHo"),
        until_closed(&product, "GET /health HTTP/1.1\r\nhost: x\r\n\r\n"),
        until_closed(&product, half),
    );
    assert_eq!(
        (silent.as_str(), letter.as_str(), head.as_str()),
        ("", "", "")
    );
    assert!(
        idle.starts_with("HTTP/1.1 200") && waited > Duration::from_secs(60),
        "a client with a pool may pause: {waited:?} {idle}"
    );
    assert!(
        body.starts_with("HTTP/1.1 400") && body.contains("stopped coming"),
        "{body}"
    );
}

/// A50, A04: a beginning is kept, whatever it is, and both versions are spoken on what follows.
#[tokio::test]
async fn a_beginning_in_pieces_is_served() {
    let product = Product::start(&[]).await;
    let address = product.url.strip_prefix("http://").unwrap();
    for pieces in [
        &[
            "P",
            "OST /prompt HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
        ][..],
        &[
            "PR",
            "OPFIND / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
        ][..],
        &["GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"][..],
    ] {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        for piece in pieces {
            tokio::io::AsyncWriteExt::write_all(&mut stream, piece.as_bytes())
                .await
                .unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let mut answer = String::new();
        tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut answer)
            .await
            .unwrap();
        assert!(answer.starts_with("HTTP/1.1 "), "{pieces:?}: {answer}");
    }
    let client = reqwest::Client::builder()
        .no_proxy()
        .http2_prior_knowledge()
        .build()
        .unwrap();
    for _ in 0..3 {
        let answer = client
            .get(format!("{}/health", product.url))
            .send()
            .await
            .unwrap();
        assert_eq!(
            (answer.status().as_u16(), answer.version()),
            (200, reqwest::Version::HTTP_2)
        );
    }
}
