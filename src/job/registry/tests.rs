use super::*;
use crate::job::policy::Submission;
use crate::job::request::Source;
use crate::limits::MAX_QUEUE_ENTRY;

#[test]
fn a_prompt_that_outlived_a_cancellation_is_stopped_by_the_next() {
    let jobs = JobRegistry::default();
    let job = jobs
        .begin_as(
            &"a".into(),
            &"a".into(),
            true,
            Submission::new(Source::Http),
        )
        .unwrap();
    assert!(!job.outlives_cancelling().is_cancelled());
    job.stop(Failure::new(Code::ExecutionInterrupted, "first"));
    let later = job.outlives_cancelling();
    assert!(!later.is_cancelled());
    job.stop(Failure::new(Code::ShuttingDown, "second"));
    assert!(later.is_cancelled());
    assert_eq!(job.stop_reason().code, Code::ShuttingDown);
    assert!(
        job.outlives_cancelling().is_cancelled(),
        "a shutdown is not outlived"
    );
}

/// A11
#[test]
fn entries_are_small_whatever_is_in_them() {
    let jobs = JobRegistry::default();
    let id: Arc<str> = "\"".repeat(256).into();
    let job = jobs
        .begin_as(&id, &id, true, Submission::new(Source::Http))
        .unwrap();
    job.progress(Progress {
        node: Some("ü\"".repeat(100_000)),
        ..Progress::default()
    });
    let mut failure = Failure::new(Code::Internal, "");
    failure.message = "ü\n\"".repeat(1_000_000);
    jobs.finish(&job, Some(&failure));
    let written = serde_json::to_string(&jobs.lists().2).unwrap();
    assert!(written.len() <= MAX_QUEUE_ENTRY, "{}", written.len());
}

/// D01
#[test]
fn files_of_two_prompts_never_have_the_same_names() {
    let jobs = JobRegistry::default();
    let begin = |id: &str| {
        let file_id = crate::job::request::file_name(id).into();
        jobs.begin_as(&id.into(), &file_id, true, Submission::new(Source::Http))
    };
    let first = begin("a/b").unwrap();
    let twin = first.file_id.to_string();
    assert!(begin(&twin).is_err_and(|failure| failure.code == Code::Conflict));
    jobs.finish(&first, None);
    assert!(begin(&twin).is_ok());
}

#[test]
fn positions_follow_the_order_of_acceptance() {
    let jobs = JobRegistry::default();
    let begin = |id: &str| {
        jobs.begin_as(&id.into(), &id.into(), true, Submission::new(Source::Http))
            .unwrap()
    };
    let [first, second, third] = ["b", "c", "a"].map(begin);
    assert!(
        jobs.begin_as(
            &"a".into(),
            &"a".into(),
            true,
            Submission::new(Source::Http)
        )
        .is_err_and(|failure| failure.code == Code::Conflict)
    );
    [&first, &second, &third]
        .into_iter()
        .for_each(|job| jobs.accepted(job));
    let reader = third.streams.attach(false);
    jobs.started(&first);
    jobs.started(&first);
    let (running, pending, _) = jobs.lists();
    let ids = |entries: &[JobSnapshot]| {
        entries
            .iter()
            .map(|entry| (entry.id.to_string(), entry.position))
            .collect::<Vec<_>>()
    };
    assert_eq!(ids(&running), [("b".to_owned(), None)]);
    assert_eq!(
        ids(&pending),
        [("c".to_owned(), Some(1)), ("a".to_owned(), Some(2))]
    );
    let told = reader.waiting();
    assert_eq!(told.len(), 1, "told once that it has moved up: {told:?}");
    assert!(told[0].contains(r#""position":2"#), "{told:?}");
    jobs.finish(&first, None);
    assert_eq!(
        jobs.entry("b").map(|entry| entry.status),
        Some(Status::Succeeded)
    );
    assert!(!jobs.is_superseded("b", first.number));
    assert!(
        !begin("z").repeated && begin("b").repeated,
        "an id that comes again is known"
    );
    assert!(jobs.is_superseded("b", first.number) && !jobs.is_superseded("c", second.number));
}

#[tokio::test]
async fn a_crowd_is_told_its_newest_places_and_not_each() {
    let jobs = JobRegistry::default();
    let all: Vec<_> = (0..FEW + 40)
        .map(|number| {
            let id = number.to_string();
            let submission = Submission::new(Source::Http);
            let job = jobs
                .begin_as(&id.as_str().into(), &id.as_str().into(), true, submission)
                .unwrap();
            jobs.accepted(&job);
            job
        })
        .collect();
    let reader = all[FEW + 39].streams.attach(false);
    let beginning = async {
        for job in &all[..30] {
            jobs.started(job);
            sleep(Duration::from_millis(1)).await;
        }
        sleep(OFTEN * 3).await;
    };
    tokio::select! {
        () = jobs.keep_telling_positions() => {}
        () = beginning => {}
    }
    let told = reader.waiting();
    assert!(told.len() < 20, "{}", told.len());
    let place = format!(r#""position":{}"#, FEW + 10);
    assert!(told.last().unwrap().contains(&place), "{told:?}");
}
