//! Limits: endless loops, memory, fairness, and what is left afterwards.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{file, loaded};
use crate::support::memory;

const LOOPING: &str = "if (input.loop) { for (;;) {} } return { 1: { inputs: input } }";
const SCHEMA: &str = "z.object({ loop: z.boolean().default(false), n: z.number().default(0) })";

fn resident_kib() -> u64 {
    memory::resident() / 1024
}

#[tokio::test]
async fn an_endless_loop_ends_and_the_next_call_works() {
    let (_dir, workflows) = loaded(&[("w.ts", &file(SCHEMA, LOOPING))]).await;
    let started = Instant::now();
    let failure = workflows
        .generate("w", json!({"loop": true}))
        .await
        .unwrap_err();
    assert!(
        started.elapsed() < Duration::from_secs(30),
        "{:?}",
        started.elapsed()
    );
    assert!(
        failure
            .message
            .starts_with("Failed to generate workflow prompt: it "),
        "{}",
        failure.message
    );
    assert_eq!(failure.status.as_u16(), 400);
    assert!(workflows.generate("w", json!({})).await.is_ok());
}

#[tokio::test]
async fn every_kind_of_loop_ends() {
    let bodies = [
        "while (true) { try { throw 1 } catch {} finally { continue } }",
        "const f = (): any => Promise.resolve().then(f); return f()",
        "const f = (): any => setTimeout(f, 0); return new Promise(() => f())",
        "return /^(a+)+$/.test('a'.repeat(40) + 'b') as any",
        "return new Promise((done) => setTimeout(done, 3600000))",
    ];
    let waiting = bodies.map(|body| async move {
        let (_dir, workflows) = loaded(&[("w.ts", &file("z.object({})", body))]).await;
        let started = Instant::now();
        let failure = workflows.generate("w", json!({})).await.unwrap_err();
        assert!(started.elapsed() < Duration::from_secs(40), "{body}");
        assert!(
            failure
                .message
                .starts_with("Failed to generate workflow prompt: "),
            "{body}: {}",
            failure.message
        );
    });
    futures_util::future::join_all(waiting).await;
}

#[tokio::test]
async fn native_functions_do_not_work_on_what_only_claims_to_be_long() {
    let calls = [
        "[].sort.call({ length: 2 ** 53 - 1 })",
        "new Array(2 ** 32 - 1).sort()",
        "new Array(2 ** 32 - 1).reverse()",
        "[].flat.call({ length: 2 ** 53 - 1 })",
        "new Array(2 ** 32 - 1).flat()",
        "[new Array(2 ** 32 - 1)].flat()",
        "[].concat(new Array(2 ** 32 - 1))",
        "new Array(2 ** 32 - 1).join('x')",
        "String(new Array(2 ** 32 - 1))",
        "new Array(2 ** 32 - 1).slice(1)",
        "new Array(2 ** 32 - 1).shift()",
    ];
    for call in calls {
        let (_dir, workflows) = loaded(&[(
            "w.ts",
            &file("z.object({})", &format!("{call}; return {{}}")),
        )])
        .await;
        let began = Instant::now();
        let failure = workflows.generate("w", json!({})).await.unwrap_err();
        assert!(
            failure
                .message
                .starts_with("Failed to generate workflow prompt: "),
            "{failure}"
        );
        assert!(began.elapsed() < Duration::from_secs(20), "{call}");
    }
    // Those of an honest size work as ever.
    let body = "return { sorted: [3, 1, 2].sort(), back: [1, 2].reverse(), flat: [[1], [2, \
                [3]]].flat(Infinity), by: [2, 1].sort((a, b) => a - b), text: `${[1, 2]}` }";
    let (_dir, workflows) = loaded(&[("w.ts", &file("z.object({})", body))]).await;
    let prompt = workflows.generate("w", json!({})).await.unwrap().prompt;
    assert_eq!(
        prompt,
        json!({"sorted": [1, 2, 3], "back": [2, 1], "flat": [1, 2, 3], "by": [1, 2], "text": "1,2"})
    );
}

#[tokio::test]
async fn a_message_about_memory_is_the_workflows_own() {
    let (_dir, workflows) = loaded(&[(
        "w.ts",
        &file(
            "z.object({})",
            "throw new Error('50 frames would run out of memory')",
        ),
    )])
    .await;
    let failure = workflows.generate("w", json!({})).await.unwrap_err();
    assert_eq!(
        failure.message,
        "Failed to generate workflow prompt: 50 frames would run out of memory"
    );
}

#[tokio::test]
async fn a_loop_in_the_file_itself_stops_only_that_file() {
    let good = file("z.object({})", "return {}");
    let (_dir, workflows) =
        loaded(&[("bad.ts", "for (;;) {}\nexport {};"), ("good.ts", &good)]).await;
    assert_eq!(super::routes(&workflows), ["/workflow/good"]);
}

#[tokio::test]
async fn memory_and_depth_are_limited() {
    let bodies = [
        (
            "const all: any[] = []; for (;;) all.push(new Uint8Array(1 << 20))",
            "it used more than 128 MiB of memory",
        ),
        ("let s = 'x'; for (;;) s += s + Math.random();", ""),
        (
            "const f = (n: number): number => 1 + f(n); return f(1) as any",
            "",
        ),
    ];
    for (body, message) in bodies {
        let text = file(
            "z.object({ go: z.boolean() })",
            &format!("if (!input.go) return {{}}; {body}"),
        );
        let (_dir, workflows) = loaded(&[("w.ts", &text)]).await;
        let failure = workflows
            .generate("w", json!({"go": true}))
            .await
            .unwrap_err();
        assert!(
            failure
                .message
                .starts_with("Failed to generate workflow prompt: ")
                && failure.message.contains(message),
            "{body}: {}",
            failure.message
        );
        assert!(
            workflows.generate("w", json!({"go": false})).await.is_ok(),
            "{body}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn among_a_thousand_calls_fifty_endless_loops_starve_nobody() {
    let (_dir, workflows) = loaded(&[
        ("w.ts", &file(SCHEMA, LOOPING)),
        ("other.ts", &file(SCHEMA, LOOPING)),
    ])
    .await;
    for n in 0..50 {
        workflows.generate("w", json!({"n": n})).await.unwrap();
    }
    let before = resident_kib();
    let started = Instant::now();
    let calls: Vec<_> = (0..1000)
        .map(|n| {
            let workflows = workflows.clone();
            tokio::spawn(async move {
                let endless = n % 20 == 0;
                let outcome = workflows
                    .generate(
                        if n % 3 == 0 { "other" } else { "w" },
                        json!({"loop": endless, "n": n}),
                    )
                    .await;
                (endless, outcome, started.elapsed())
            })
        })
        .collect();
    let mut slowest = Duration::ZERO;
    let mut ended = 0;
    for call in calls {
        let (endless, outcome, elapsed) = call.await.unwrap();
        if endless {
            assert_eq!(outcome.unwrap_err().status.as_u16(), 400);
            ended += 1;
        } else {
            outcome.unwrap();
            slowest = slowest.max(elapsed);
        }
    }
    assert_eq!(ended, 50);
    println!(
        "950 calls done after {slowest:?}, all after {:?}",
        started.elapsed()
    );
    // The loops alone would take 250 s of one core; the others take one or two seconds, more when
    // the machine is shared.
    assert!(
        slowest < Duration::from_secs(20),
        "the slowest good call took {slowest:?}"
    );
    // The last of the threads may still be giving back what it had.
    let deadline = Instant::now() + Duration::from_secs(5);
    while resident_kib() > before + 30 * 1024 && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let grown = resident_kib().saturating_sub(before);
    println!("resident memory grew by {grown} KiB");
    // Other tests run in this process too; 50 runtimes kept by mistake would be three times this
    // with their inputs.
    assert!(grown < 400 * 1024, "resident memory grew by {grown} KiB");
}

#[tokio::test]
async fn a_caller_that_leaves_ends_its_call() {
    let (_dir, workflows) = loaded(&[("w.ts", &file(SCHEMA, LOOPING))]).await;
    for _ in 0..8 {
        let call = workflows.generate("w", json!({"loop": true}));
        assert!(
            tokio::time::timeout(Duration::from_millis(100), call)
                .await
                .is_err()
        );
    }
    let started = Instant::now();
    workflows.generate("w", json!({})).await.unwrap();
    assert!(
        started.elapsed() < Duration::from_secs(4),
        "{:?}",
        started.elapsed()
    );
}
