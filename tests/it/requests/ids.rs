//! D01: any text is an id.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;

use super::refused;
use crate::support::graphs::picture;
use crate::support::product::Product;

#[tokio::test]
async fn any_text_is_an_id_and_comes_back_as_it_was() {
    let product = Product::start(&[]).await;
    let long = "x".repeat(160);
    let longest = "é".repeat(256);
    for (id, file) in [
        ("user:42", Some("user:42")),
        ("a b", Some("a b")),
        ("job#1", Some("job#1")),
        ("é-1", Some("é-1")),
        ("user@example.com", Some("user@example.com")),
        ("50%", None),
        ("(1)", Some("(1)")),
        ("2026-01-01T00:00:00Z", Some("2026-01-01T00:00:00Z")),
        ("a/b\\c", None),
        ("..", None),
        (".hidden", None),
        (" [output]", Some(" [output]")),
        ("\"quoted\" 'id'", Some("\"quoted\" 'id'")),
        (&long, None),
        (&longest, None),
    ] {
        let body = json!({"id": id, "prompt": picture("sub/x"), "compress_outputs": "tar"});
        let (status, answer) = product.prompt(&body).await;
        assert_eq!(status, 200, "{id}: {answer}");
        assert_eq!(answer["id"], id);
        let prefix = answer["prompt"]["9"]["inputs"]["filename_prefix"]
            .as_str()
            .unwrap();
        let name = prefix
            .strip_prefix("sub/")
            .unwrap()
            .strip_suffix("_x")
            .unwrap();
        match file {
            Some(file) => assert_eq!(name, file),
            None => {
                let (_, mark) = name.rsplit_once('-').unwrap();
                assert!(
                    mark.len() == 8 && mark.bytes().all(|byte| byte.is_ascii_hexdigit()),
                    "{name}"
                );
                assert!(
                    name.len() <= 100 && !name.starts_with('.') && !name.contains(['/', '\\', '%']),
                    "{name}"
                );
            }
        }
        assert_eq!(
            answer["filenames"],
            json!([format!("{name}_outputs.tar")]),
            "{id}"
        );
        let encoded = utf8_percent_encode(id, NON_ALPHANUMERIC).to_string();
        // Clients take an encoded `..` for the folder above.
        if id != ".." {
            let (status, entry) = product.get(&format!("/prompt/{encoded}")).await;
            assert_eq!((status, &entry["id"]), (200, &json!(id)), "{entry}");
        }
        let (status, answer) = product.post("/interrupt", &json!({"id": id})).await;
        assert_eq!((status, &answer["id"]), (404, &json!(id)));
    }
    let (_, queue) = product.get("/queue").await;
    assert_eq!(queue["finished"].as_array().unwrap().len(), 15);
    for id in ["", "a\nb", "\u{7f}", &"x".repeat(257)] {
        let answer = product
            .prompt(&json!({"id": id, "prompt": picture("x")}))
            .await;
        refused(
            &format!("{id:?}"),
            &answer,
            (400, "invalid_request"),
            Some("id"),
            "256",
        );
    }
    product.until_clean().await;
}

/// Two ids whose file names are alike do not meet.
#[tokio::test]
async fn ids_that_look_alike_get_their_own_files() {
    let product = Product::start(&[]).await;
    let ids = ["a/b", "a\\b", "a%b", "a_b"];
    let later: Vec<_> = ids
        .iter()
        .enumerate()
        .map(|(n, id)| {
            let graph =
                crate::support::graphs::coloured("x", 0x40 * (u32::try_from(n).unwrap() + 1));
            product.prompt_later(json!({"id": id, "prompt": graph}))
        })
        .collect();
    for (n, answer) in later.into_iter().enumerate() {
        let (status, answer) = answer.await.unwrap();
        assert_eq!((status, &answer["id"]), (200, &json!(ids[n])), "{answer}");
        let blue = u8::try_from(0x40 * (n + 1) % 256).unwrap();
        assert_eq!(
            crate::support::graphs::colour_of(&answer["images"][0])[2],
            blue
        );
    }
    product.until_clean().await;
}
