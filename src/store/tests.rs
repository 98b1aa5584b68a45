use std::path::Path;
use std::time::Duration;

use super::*;

fn limits() -> Limits {
    Limits {
        retention: Duration::from_secs(3600),
        asset_retention: Duration::from_secs(3600),
        max_bytes: 1 << 30,
        max_jobs: 1000,
        reserve: 0,
    }
}

fn open(dir: &Path) -> Store {
    let (store, notes) = Store::open(Some(dir), limits()).unwrap();
    assert!(notes.is_empty(), "{notes:?}");
    store
}

fn job(id: &str, key: Option<&str>) -> NewJob {
    NewJob {
        id: id.into(),
        source: "v2",
        metadata: None,
        labels: vec![("who".into(), id.into()), ("all".into(), "1".into())],
        priority: None,
        request: "{}".into(),
        blobs: Vec::new(),
        needs_secrets: false,
        base_url: String::new(),
        key: key.map(str::to_owned),
        workflow: None,
        resumes: true,
        created_at: None,
        trace: None,
    }
}

fn ended(status: JobStatus) -> jobs::JobUpdate {
    jobs::JobUpdate {
        status,
        started_at: None,
        completed_at: Some(now_ms()),
        error: None,
        attempts: 1,
        outputs_reused: false,
        outputs_count: 0,
        progress: None,
    }
}

fn upload(path: &str) -> NewAsset {
    NewAsset {
        file_path: path.into(),
        content_type: "text/plain".into(),
        tags: None,
        expires_in: None,
        key: None,
    }
}

async fn add(store: &Store, text: &str, path: &str) -> assets::Stored {
    let incoming = store.incoming();
    std::fs::write(incoming.path(), text).unwrap();
    let hash = blake3::hash(text.as_bytes()).to_hex().to_string();
    store
        .add_upload(incoming, hash, text.len() as u64, upload(path))
        .await
        .unwrap()
}

#[tokio::test]
async fn one_of_many_gets_the_key_and_it_survives() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut tries = Vec::new();
    for n in 0..50 {
        let store = store.clone();
        tries.push(tokio::spawn(async move {
            store.create_job(job(&format!("j{n}"), Some("k"))).await
        }));
    }
    let mut made = Vec::new();
    for one in tries {
        match one.await.unwrap() {
            Ok(job) => made.push(job.id),
            Err(StoreError::KeyReuse(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(made.len(), 1);
    drop(store);
    let store = open(dir.path());
    let again = store.create_job(job("other", Some("k"))).await;
    assert_eq!(again.unwrap_err(), StoreError::KeyReuse(made[0].clone()));
    store.revoke_job(&made[0]).await.unwrap();
    store.create_job(job("other", Some("k"))).await.unwrap();
    assert_eq!(store.unfinished().await.unwrap().len(), 1);
}

#[tokio::test]
async fn pages_show_every_job_once_whatever_happens_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for n in 0..25 {
        store.create_job(job(&format!("j{n}"), None)).await.unwrap();
    }
    let (mut seen, mut before) = (Vec::new(), None);
    loop {
        let query = ListQuery {
            labels: vec![("all".into(), "1".into())],
            before,
            limit: 10,
            ..ListQuery::default()
        };
        let (page, more) = store.list_jobs(query).await.unwrap();
        before = page.last().map(|job| job.seq);
        seen.extend(page.into_iter().map(|job| job.id));
        store
            .create_job(job(&format!("new{}", seen.len()), None))
            .await
            .unwrap();
        if !more {
            break;
        }
    }
    let expected: Vec<String> = (0..25).rev().map(|n| format!("j{n}")).collect();
    assert_eq!(seen, expected);
    let rare = ListQuery {
        labels: vec![("all".into(), "1".into()), ("who".into(), "j3".into())],
        limit: 10,
        ..ListQuery::default()
    };
    assert_eq!(store.list_jobs(rare).await.unwrap().0[0].id, "j3");
    let cursor = store.cursor(7);
    assert_eq!(store.place(&cursor), Some(7));
    for foreign in ["", "7", "8-0123456789abcdef", &cursor.replacen('7', "8", 1)] {
        assert_eq!(store.place(foreign), None, "{foreign}");
    }
}

#[tokio::test]
async fn blobs_are_shared_and_go_with_their_last_record() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let first = add(&store, "hello", "a.txt").await;
    assert!(first.new_bytes && first.new_record);
    let same = add(&store, "hello", "a.txt").await;
    assert!(!same.new_bytes && !same.new_record && same.asset.id == first.asset.id);
    let other = add(&store, "hello", "b.txt").await;
    assert!(!other.new_bytes && other.new_record);
    let path = store.content(&first.asset).unwrap();
    store.delete_asset(&first.asset.id).await.unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"hello");
    assert_eq!(
        store.delete_asset(&first.asset.id).await.unwrap_err(),
        StoreError::NotFound
    );
    let made = store.create_job(job("j", None)).await.unwrap();
    let new = assets::NewOutput {
        job_id: made.id.clone(),
        node_id: "9".into(),
        name: "x.txt".into(),
        kind: "text",
        content_type: "text/plain".into(),
        position: 0,
        remote_url: None,
    };
    let file = dir.path().join("made");
    std::fs::write(&file, "hello").unwrap();
    let output = store.commit_output(&file, true, || Ok(new)).await.unwrap();
    assert_eq!(output.hash, other.asset.hash);
    assert_eq!(
        store.delete_asset(&output.id).await.unwrap_err(),
        StoreError::InUse
    );
    store.delete_asset(&other.asset.id).await.unwrap();
    assert!(path.exists());
    store
        .update_job("j", ended(JobStatus::Succeeded))
        .await
        .unwrap()
        .unwrap();
    store.delete_job("j").await.unwrap();
    store.settled().await;
    assert!(!path.exists() && store.asset(&output.id).await.unwrap().is_none());
}

#[tokio::test]
async fn a_full_store_forgets_what_was_used_least_but_nothing_in_flight() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(
        Some(dir.path()),
        Limits {
            max_bytes: 2 << 20,
            ..limits()
        },
    )
    .unwrap();
    let big = |n: u8| String::from_utf8(vec![b'a' + n; 800_000]).unwrap();
    let first = add(&store, &big(0), "0").await.asset;
    let second = add(&store, &big(1), "1").await.asset;
    let _held = store.hold(first.hash.as_deref().unwrap());
    let third = add(&store, &big(2), "2").await.asset;
    assert!(store.content(&first).is_ok() && store.content(&third).is_ok());
    assert_eq!(store.content(&second).unwrap_err(), StoreError::Gone);
    let mut in_flight = job("busy", None);
    in_flight.blobs = vec![third.hash.clone().unwrap()];
    store.create_job(in_flight).await.unwrap();
    let incoming = store.incoming();
    std::fs::write(incoming.path(), "x").unwrap();
    let full = store
        .add_upload(incoming, "0".repeat(64), 1_500_000, upload("y"))
        .await;
    assert!(
        matches!(
            full,
            Err(StoreError::Full {
                needed: 1_500_000,
                ..
            })
        ),
        "{full:?}"
    );
    assert!(store.content(&third).is_ok());
    assert_eq!(
        std::fs::read_dir(dir.path().join("incoming"))
            .unwrap()
            .count(),
        0
    );
}

#[tokio::test]
async fn what_is_past_its_time_is_gone_at_once_and_soon_off_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let short = Limits {
        retention: Duration::from_millis(50),
        asset_retention: Duration::from_millis(50),
        ..limits()
    };
    let (store, _) = Store::open(Some(dir.path()), short).unwrap();
    let asset = add(&store, "soon gone", "a").await.asset;
    let path = store.content(&asset).unwrap();
    store.create_job(job("j", None)).await.unwrap();
    store
        .update_job("j", ended(JobStatus::Failed))
        .await
        .unwrap()
        .unwrap();
    tokio::time::sleep(Duration::from_millis(60)).await;
    assert!(
        store.job("j").await.unwrap().is_none() && store.asset(&asset.id).await.unwrap().is_none()
    );
    let cleaning = tokio::spawn({
        let store = store.clone();
        async move { store.keep_clean().await }
    });
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while path.exists() {
        assert!(std::time::Instant::now() < deadline, "still there");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    cleaning.abort();
}

#[tokio::test]
async fn a_damaged_database_is_set_aside_and_a_used_directory_is_not_shared() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("state.db"), vec![7_u8; 8192]).unwrap();
    let (store, notes) = Store::open(Some(dir.path()), limits()).unwrap();
    assert!(
        notes.len() == 1 && notes[0].contains("set aside"),
        "{notes:?}"
    );
    store.create_job(job("j", None)).await.unwrap();
    let (second, notes) = Store::open(Some(dir.path()), limits()).unwrap();
    assert!(
        notes[0].contains("temporary") && second.dir() != dir.path(),
        "{notes:?}"
    );
    let temporary = second.dir().to_owned();
    drop(second);
    assert!(!temporary.exists());
    drop(store);
    let connection = rusqlite::Connection::open(dir.path().join("state.db")).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    drop(connection);
    let (_, notes) = Store::open(Some(dir.path()), limits()).unwrap();
    assert!(notes[0].contains("newer version"), "{notes:?}");
    let kept = std::fs::read_dir(dir.path()).unwrap().flatten();
    assert_eq!(
        kept.filter(|entry| entry.file_name().to_string_lossy().contains("set-aside"))
            .count(),
        2
    );
}

#[tokio::test]
async fn what_a_killed_process_left_is_cleaned() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let kept = add(&store, "kept", "a").await.asset;
    let lost = add(&store, "lost", "b").await.asset;
    std::fs::remove_file(store.content(&lost).unwrap()).unwrap();
    drop(store);
    for orphan in ["incoming/half", "pending/nobody"] {
        std::fs::write(dir.path().join(orphan), "x").unwrap();
    }
    let store = open(dir.path());
    assert!(store.content(&kept).is_ok() && store.content(&lost).is_err());
    assert!(!store.has_blob(lost.hash.as_deref().unwrap()).await.unwrap());
    assert!(
        !dir.path().join("incoming/half").exists() && !dir.path().join("pending/nobody").exists()
    );
    assert_eq!(
        store.inner.used.load(std::sync::atomic::Ordering::Relaxed),
        4
    );
    let again = add(&store, "lost", "b").await;
    assert!(again.new_bytes && !again.new_record && again.asset.id == lost.id);
}
