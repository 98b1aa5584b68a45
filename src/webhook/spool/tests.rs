use std::os::unix::fs::PermissionsExt;

use futures_util::TryStreamExt;

use super::*;

fn parcel() -> Parcel {
    Parcel {
        kind: Kind::V2,
        url: "https://u:p@h.example/x?token=1".parse().unwrap(),
        id: "an id".into(),
        context: None,
    }
}

#[tokio::test]
async fn what_is_kept_is_found_again_whole_and_private() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::new(dir.path().join("deep/spool"));
    let (claim, body) = spool
        .keep(
            &parcel(),
            &Body::Document(Document::from_text("{\"a\":\"\\n\"}")),
        )
        .await
        .unwrap();
    assert_eq!(
        body.stream()
            .try_collect::<Vec<_>>()
            .await
            .unwrap()
            .concat(),
        b"{\"a\":\"\\n\"}"
    );
    assert_eq!(
        std::fs::metadata(claim.path())
            .unwrap()
            .permissions()
            .mode()
            & 0o777,
        0o600
    );
    assert!(
        spool.names().unwrap().is_empty(),
        "a claimed file is nobody else's"
    );
    drop(claim);
    let name = spool.names().unwrap().pop().unwrap();
    let found = spool.claim(name).unwrap();
    let kept = found.open().unwrap();
    assert_eq!(
        (kept.parcel.id.as_str(), kept.parcel.url.as_str()),
        ("an id", "https://u:p@h.example/x?token=1")
    );
    assert_eq!(
        kept.body
            .stream()
            .try_collect::<Vec<_>>()
            .await
            .unwrap()
            .concat(),
        b"{\"a\":\"\\n\"}"
    );
    found.finish().await.unwrap();
    assert_eq!(std::fs::read_dir(spool.dir()).unwrap().count(), 0);
}

#[tokio::test]
async fn damage_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::new(dir.path().to_owned());
    let (claim, _) = spool
        .keep(&parcel(), &Body::Document(Document::from_text("{\"a\":1}")))
        .await
        .unwrap();
    let whole = std::fs::read(claim.path()).unwrap();
    for damaged in [
        &whole[..whole.len() - 1],
        &whole[..10],
        b"",
        b"no header\n{}",
        &[&whole[..], b"x"].concat(),
    ] {
        std::fs::write(claim.path(), damaged).unwrap();
        let reason = claim.open().unwrap_err().expect("damaged, not gone");
        assert!(!reason.contains("token"), "{reason}");
    }
    let aside = claim.set_aside().unwrap();
    assert!(aside.exists() && claim.open().unwrap_err().is_none());
}

#[tokio::test]
async fn an_unreadable_body_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::new(dir.path().to_owned());
    let body = Body::Spooled {
        path: "/nonexistent".into(),
        offset: 0,
        len: 3,
    };
    assert!(spool.keep(&parcel(), &body).await.is_err());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    assert!(spool.claimed.lock().is_empty());
}
