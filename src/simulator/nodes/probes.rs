//! Texts, constants, and nodes for tests: they sleep, fail, crash, report strange things or write
//! much.

use std::io::Write as _;
use std::time::Duration;

use serde_json::json;

use super::call::{Call, Datum, Produced, Raised};
use super::files::SavePath;
use super::spec::{Class, boolean, class, float, int, plain, text};
use crate::simulator::python;

/// The classes of this file.
pub fn classes() -> Vec<Class> {
    let sim = |name, run| class(name, "simulator", run).in_module("custom_nodes.simulator");
    vec![
        class("PreviewAny", "utils", preview_any)
            .takes(plain("source", "*"))
            .saves()
            .in_module("comfy_extras.nodes_preview_any"),
        class("PrimitiveInt", "utils/primitive", constant)
            .takes(int("value", 0, -(1 << 53), 1 << 53))
            .gives("INT")
            .v3(),
        class("PrimitiveFloat", "utils/primitive", constant)
            .takes(float("value", 0.0, 0.0, 0.0))
            .gives("FLOAT")
            .v3(),
        class("PrimitiveString", "utils/primitive", constant)
            .takes(text("value", "", false))
            .gives("STRING")
            .v3(),
        class("PrimitiveBoolean", "utils/primitive", constant)
            .takes(boolean("value", false))
            .gives("BOOLEAN")
            .v3(),
        sim("SimSleep", sleep)
            .takes(float("seconds", 1.0, 0.0, 3600.0))
            .takes(int("steps", 1, 0, 1_000_000))
            .takes(plain("value", "*").optional())
            .gives("*")
            .saves()
            .changing(),
        sim("SimFail", fail)
            .takes(text("message", "The simulator was told to fail", true))
            .takes(text("exception", "RuntimeError", false).optional())
            .takes(plain("value", "*").optional())
            .gives("*")
            .saves()
            .changing(),
        sim("SimCrash", crash)
            .takes(int("code", 1, 0, 255))
            .takes(plain("value", "*").optional())
            .gives("*")
            .saves()
            .changing(),
        sim("SimNaN", nan)
            .takes(text("text", "", false).optional())
            .saves()
            .changing(),
        sim("SimBlob", blob)
            .takes(int("bytes", 1024, 0, 1 << 36))
            .takes(text("filename_prefix", "blob", false))
            .takes(text("extension", "bin", false).optional())
            .saves(),
        sim("SimSilentSave", silent)
            .takes(text("filename_prefix", "checkpoints/sim", false))
            .saves(),
        sim("SimBlocked", blocked)
            .takes(text("message", "blocked", false))
            .gives("*")
            .saves(),
    ]
}

fn preview_any(call: &mut Call<'_>) -> Result<Produced, Raised> {
    let shown = call.datum("source").map_or_else(
        || "None".to_owned(),
        |datum| python::display(&datum.shown()),
    );
    Ok(Produced::shown(json!({"text": [shown]}), vec![]))
}

fn constant(call: &mut Call<'_>) -> Result<Produced, Raised> {
    Ok(Produced::one(Datum::Json(call.value("value"))))
}

fn passed(call: &Call<'_>) -> Produced {
    Produced::one(call.datum("value").unwrap_or(Datum::Json(json!(null))))
}

fn sleep(call: &mut Call<'_>) -> Result<Produced, Raised> {
    let (seconds, steps) = (
        call.float("seconds", 1.0).clamp(0.0, 3600.0),
        u64::from(call.count("steps", 1)),
    );
    if steps == 0 {
        // One uninterruptible piece of work, as a video encode is.
        std::thread::sleep(Duration::from_secs_f64(seconds));
    }
    for step in 1..=steps {
        #[expect(clippy::cast_precision_loss, reason = "a count of steps")]
        std::thread::sleep(Duration::from_secs_f64(seconds / steps as f64));
        call.step(step, steps, |_| None)?;
    }
    Ok(passed(call))
}

fn fail(call: &mut Call<'_>) -> Result<Produced, Raised> {
    let kind = call.text("exception");
    Err(Raised::new(
        if kind.is_empty() {
            "RuntimeError".to_owned()
        } else {
            kind
        },
        call.text("message"),
    ))
}

fn crash(call: &mut Call<'_>) -> Result<Produced, Raised> {
    call.instance
        .crash(i32::try_from(call.count("code", 1)).unwrap_or(1));
    Ok(passed(call))
}

fn nan(call: &mut Call<'_>) -> Result<Produced, Raised> {
    Ok(Produced::shown(
        json!({"values": [python::nan()], "text": [call.text("text")]}),
        vec![],
    ))
}

fn blob(call: &mut Call<'_>) -> Result<Produced, Raised> {
    let mut path = SavePath::new(call, &call.text("filename_prefix"), "output", (0, 0))?;
    let extension = call.text("extension");
    let (file, about) = path.next(
        0,
        if extension.is_empty() {
            "bin"
        } else {
            &extension
        },
    );
    let block: Vec<u8> = (0..=u8::MAX).cycle().take(1 << 16).collect();
    let mut out = std::fs::File::create(file)?;
    let mut left = call.whole("bytes");
    while left > 0 {
        let piece = left.min(block.len() as u64);
        out.write_all(&block[..usize::try_from(piece).unwrap_or(0)])?;
        left -= piece;
    }
    Ok(Produced::shown(json!({"files": [about]}), vec![]))
}

fn silent(call: &mut Call<'_>) -> Result<Produced, Raised> {
    SavePath::new(call, &call.text("filename_prefix"), "output", (0, 0))?.write(
        0,
        "safetensors",
        b"simulated",
    )?;
    Ok(Produced::default())
}

/// A node that is blocked with a message: an `execution_error` goes out and the run continues.
fn blocked(call: &mut Call<'_>) -> Result<Produced, Raised> {
    if let Some(client) = &call.current.client_id {
        let report = json!({"prompt_id": call.current.prompt_id, "node_id": call.node,
        "node_type": call.class, "executed": call.current.executed(),
            "exception_message": format!(
                "Execution Blocked: {}",
                call.text("message")
            ), "exception_type": "ExecutionBlocked",
            "traceback": [], "current_inputs": [], "current_outputs": []});
        call.instance
            .hub
            .send("execution_error", &report, Some(client));
    }
    Ok(Produced::one(Datum::Json(json!(null))))
}
