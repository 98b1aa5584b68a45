use serde_json::json;

use super::*;

#[tokio::test]
async fn files_take_the_place_of_their_placeholders() {
    let dir = tempfile::tempdir().unwrap();
    let sizes = [0, 1, 2, 3, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 7];
    let mut files = Vec::new();
    let mut expected = Vec::new();
    for (index, size) in sizes.iter().enumerate() {
        let bytes: Vec<u8> = (0..*size)
            .map(|i| u8::try_from(i * 31 % 251).unwrap())
            .collect();
        let path = dir.path().join(index.to_string());
        std::fs::write(&path, &bytes).unwrap();
        files.push(EmbeddedFile {
            path,
            size: *size as u64,
            content: None,
        });
        expected.push(base64(&bytes));
    }
    let images: Vec<String> = (0..sizes.len()).map(|i| placeholder("mark", i)).collect();
    let document = Document::with_files(
        &json!({"a": "mark:99 \"mark:", "images": images, "z": 1}),
        "mark",
        &files,
        None,
    );
    let text = document.collect().await.unwrap();
    assert_eq!(text.len() as u64, document.len());
    let value: Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(
        value,
        json!({"a": "mark:99 \"mark:", "images": expected, "z": 1})
    );
    assert_eq!(
        document.collect().await.unwrap(),
        text,
        "it can be streamed again"
    );
    let brief = document.without_files();
    let text = brief.collect().await.unwrap();
    assert_eq!(text.len() as u64, brief.len());
    assert_eq!(
        serde_json::from_slice::<Value>(&text).unwrap(),
        json!({"a": "mark:99 \"mark:", "images": [], "z": 1})
    );
}

#[tokio::test]
async fn a_vanished_file_is_an_error() {
    let files = [EmbeddedFile {
        path: "/nonexistent/file".into(),
        size: 5,
        content: None,
    }];
    let document = Document::with_files(&json!([placeholder("m", 0)]), "m", &files, None);
    assert!(document.collect().await.is_err());
}
