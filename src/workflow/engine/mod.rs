//! The JavaScript engine: isolates that each hold one workflow file, evaluated and ready to be
//! called.

mod exception;
mod host;
mod library;
mod loader;
mod memory;

use std::sync::Arc;
use std::time::Duration;

use rquickjs::context::EvalOptions;
use rquickjs::{Context, Ctx, Function, Object, Promise, Runtime};

pub use library::Library;
pub use memory::give_back as give_memory_back;

use super::schedule::{Limit, Meter, Slot};
use super::source::Fault;
use exception::{ScriptError, thrown};

/// Memory of one isolate (workflows.md); a large input may use as much again as it needs to be read
/// and written.
const MEMORY_LIMIT: usize = 128 * 1024 * 1024;
/// Copies of an input that exist at once while a call runs: text, value, echo, prompt, each up to
/// two bytes a character.
const INPUT_COPIES: usize = 8;
/// Stack of the engine; blocking threads have 2 MiB.
const STACK: usize = 1024 * 1024;

/// Everything that is evaluated before a workflow file, in order, in one scope.
const PARTS: [&str; 16] = [
    include_str!("prelude.js"),
    include_str!("../zod/issues.js"),
    include_str!("../zod/core.js"),
    include_str!("../zod/text.js"),
    include_str!("../zod/scalar.js"),
    include_str!("../zod/composite.js"),
    include_str!("../zod/collection.js"),
    include_str!("../zod/wrap.js"),
    include_str!("../zod/index.js"),
    include_str!("guards.js"),
    include_str!("buffer.js"),
    include_str!("node.js"),
    include_str!("modules.js"),
    include_str!("schema.js"),
    include_str!("integrity.js"),
    include_str!("entry.js"),
];

const WRAPPER_PREFIX: &str = "(function (exports, require, module, __filename, __dirname) {";
/// Characters that [`wrap_common_js`] puts before the first line.
const WRAPPER_PREFIX_LENGTH: u32 = 61;

/// A file that was opened.
#[derive(Debug)]
pub enum Opened {
    /// It holds a workflow; JSON with `summary`, `description`, `schema`, `table`.
    Workflow(String),
    /// It holds none; other files may import it.
    NoWorkflow,
}

/// How a call ended.
#[derive(Debug)]
pub enum Outcome {
    /// The parsed input and the graph, as JSON.
    Done {
        /// The input after the schema.
        input: String,
        /// The graph.
        prompt: String,
    },
    /// The schema's issues as JSON.
    Invalid(String),
    /// `generateWorkflow` threw, or was ended.
    Failed {
        /// Why, in the words of whoever threw.
        message: String,
        /// Where, for the log.
        at: Option<String>,
        /// The isolate may be damaged.
        discard: bool,
    },
}

/// One runtime with one workflow file in it.
pub struct Isolate {
    context: Context,
    runtime: Runtime,
    meter: Arc<Meter>,
    library: Arc<Library>,
    calls: usize,
    /// A call has changed something of the language that later calls would see.
    changed: bool,
}

impl Isolate {
    /// Makes a runtime and evaluates the file `id` in it. The turn comes back, for the call that
    /// may follow.
    ///
    /// # Errors
    /// When the file cannot be evaluated, with its place.
    pub fn open(
        library: &Arc<Library>,
        context_json: &Arc<str>,
        id: &str,
        turn: Slot,
    ) -> Result<(Self, Opened, Slot), Fault> {
        let fault = |message: String| Fault {
            message,
            file: id.to_owned(),
            line: 0,
            column: 0,
        };
        // Parsed first, so that a syntax error has the parser's place and not the engine's.
        library.prepared(id)?;
        let runtime = Runtime::new().map_err(|error| fault(error.to_string()))?;
        runtime.set_memory_limit(MEMORY_LIMIT);
        runtime.set_max_stack_size(STACK);
        let meter = Arc::new(Meter::default());
        let watched = Arc::clone(&meter);
        runtime.set_interrupt_handler(Some(Box::new(move || watched.tick())));
        runtime.set_loader(
            loader::Files(Arc::clone(library)),
            loader::Files(Arc::clone(library)),
        );
        let context = Context::full(&runtime).map_err(|error| fault(error.to_string()))?;
        let isolate = Self {
            context,
            runtime,
            meter,
            library: Arc::clone(library),
            calls: 0,
            changed: false,
        };
        isolate.meter.begin(turn);
        let opened = isolate
            .context
            .with(|ctx| isolate.evaluate(&ctx, context_json, id));
        let turn = isolate.meter.end();
        match (opened, turn) {
            (Ok(opened), Some(turn)) => Ok((isolate, opened, turn)),
            (Ok(_), None) => Err(fault("its turn was lost".to_owned())),
            (Err(thrown), turn) => {
                Err(isolate.fault_of(thrown, turn.and_then(|turn| turn.over()), id))
            }
        }
    }

    fn evaluate(
        &self,
        ctx: &Ctx<'_>,
        context_json: &Arc<str>,
        id: &str,
    ) -> Result<Opened, ScriptError> {
        let host = host::object(ctx, &self.library, context_json, id)
            .map_err(|error| thrown(ctx, error))?;
        let source = format!(
            "(function (host) {{\"use strict\";\n{}\n}})",
            PARTS.join("\n")
        );
        let mut options = EvalOptions::default();
        options.filename = Some("comfyui-api".to_owned());
        let setup: Function = ctx
            .eval_with_options(source, options)
            .map_err(|error| thrown(ctx, error))?;
        setup
            .call::<_, ()>((host,))
            .map_err(|error| thrown(ctx, error))?;
        let answer = self.ask(ctx, "open", id)?;
        match (answer.first().map(String::as_str), answer.get(1)) {
            (Some("ok"), Some(description)) => Ok(Opened::Workflow(description.clone())),
            (Some("none"), _) => Ok(Opened::NoWorkflow),
            (_, reason) => Err(ScriptError {
                message: reason.cloned().unwrap_or_default(),
                ..ScriptError::default()
            }),
        }
    }

    /// Runs the workflow on an input (JSON).
    pub fn call(&mut self, input: &str, turn: Slot) -> Outcome {
        self.calls += 1;
        self.runtime.set_memory_limit(
            MEMORY_LIMIT.saturating_add(input.len().saturating_mul(INPUT_COPIES)),
        );
        self.meter.begin(turn);
        let answer = self.context.with(|ctx| self.ask(&ctx, "call", input));
        self.changed = self
            .context
            .with(|ctx| api::<bool>(&ctx, "changed").unwrap_or(true));
        let limit = self.meter.end().and_then(|turn| turn.over());
        let mut answer = match answer {
            Ok(answer) => answer.into_iter(),
            Err(thrown) => return self.failed(thrown, limit),
        };
        match (answer.next().as_deref(), answer.next(), answer.next()) {
            (Some("ok"), Some(input), Some(prompt)) => Outcome::Done { input, prompt },
            (Some("invalid"), Some(issues), _) => Outcome::Invalid(issues),
            (_, kind, _) => Outcome::Failed {
                message: format!(
                    "generateWorkflow must return an object (node id -> node), it returned {}",
                    kind.unwrap_or_default()
                ),
                at: None,
                discard: false,
            },
        }
    }

    /// Whether the next call would meet what the last one did to the language.
    pub const fn changed(&self) -> bool {
        self.changed
    }

    /// How often it was called; one that leaks is replaced in time.
    pub const fn calls(&self) -> usize {
        self.calls
    }

    fn failed(&self, thrown: ScriptError, limit: Option<Limit>) -> Outcome {
        let message = match limit {
            Some(limit) => limit.sentence(),
            None if thrown.memory => format!(
                "it used more than {} MiB of memory",
                MEMORY_LIMIT / 1024 / 1024
            ),
            None => thrown.message.clone(),
        };
        let discard = limit.is_some() || thrown.memory || thrown.message.contains("stack");
        Outcome::Failed {
            message,
            at: exception::place(&self.library, &thrown)
                .map(|(file, line, column)| format!("{file}:{line}:{column}")),
            discard,
        }
    }

    fn fault_of(&self, thrown: ScriptError, limit: Option<Limit>, id: &str) -> Fault {
        if let Some(fault) = self
            .library
            .fault(&format!("{}\n{}", thrown.message, thrown.stack))
        {
            return fault;
        }
        if let Some(fault) = exception::unresolved(&thrown.message) {
            return fault;
        }
        // What has no place of its own is a matter of the whole file.
        let (file, line, column) =
            exception::place(&self.library, &thrown).unwrap_or_else(|| (id.to_owned(), 1, 1));
        Fault {
            message: limit.map_or(thrown.message, Limit::sentence),
            file,
            line,
            column,
        }
    }

    /// Calls a function of entry.js and waits for its promise.
    fn ask(&self, ctx: &Ctx<'_>, name: &str, argument: &str) -> Result<Vec<String>, ScriptError> {
        let promise: Promise = (|| {
            let api: Object = ctx.globals().get("__comfyui_api")?;
            let function: Function = api.get(name)?;
            function.call((argument,))
        })()
        .map_err(|error| thrown(ctx, error))?;
        self.settle(ctx, &promise)?;
        match promise.result::<Vec<String>>() {
            Some(result) => result.map_err(|error| thrown(ctx, error)),
            None => Err(ScriptError {
                message: "it awaits a promise that never settles".to_owned(),
                ..ScriptError::default()
            }),
        }
    }

    /// Runs jobs and timers until the promise is settled or nothing is left to run.
    fn settle(&self, ctx: &Ctx<'_>, promise: &Promise<'_>) -> Result<(), ScriptError> {
        loop {
            run_jobs(ctx);
            if let Some(limit) = self.meter.over() {
                return Err(ScriptError {
                    message: limit.sentence(),
                    ..ScriptError::default()
                });
            }
            if promise.result::<rquickjs::Value>().is_some() {
                return Ok(());
            }
            let Some(pause) = clock::<Option<f64>>(ctx, "next")? else {
                return Ok(());
            };
            if pause > 0.0
                && self
                    .meter
                    .sleep(Duration::from_secs_f64((pause / 1000.0).min(3600.0)))
            {
                continue;
            }
            clock::<()>(ctx, "run")?;
        }
    }
}

/// Calls a function of entry.js that answers at once.
fn api<'js, T: rquickjs::FromJs<'js>>(ctx: &Ctx<'js>, name: &str) -> rquickjs::Result<T> {
    let api: Object<'js> = ctx.globals().get("__comfyui_api")?;
    api.get::<_, Function<'js>>(name)?.call(())
}

/// Calls a function of the prelude's clock.
fn clock<'js, T: rquickjs::FromJs<'js>>(ctx: &Ctx<'js>, name: &str) -> Result<T, ScriptError> {
    let call = || {
        let api: Object<'js> = ctx.globals().get("__comfyui_api")?;
        api.get::<_, Object<'js>>("clock")?
            .get::<_, Function<'js>>(name)?
            .call(())
    };
    call().map_err(|error| thrown(ctx, error))
}

/// Runs promise jobs until none is left. A job that throws has rejected its promise; that is where
/// it is seen.
fn run_jobs(ctx: &Ctx<'_>) {
    while ctx.execute_pending_job() {}
}

/// A CommonJS file as the function that Node.js makes of it.
fn wrap_common_js<'js>(ctx: &Ctx<'js>, id: &str, code: &str) -> rquickjs::Result<Function<'js>> {
    let mut options = EvalOptions::default();
    options.strict = false;
    options.filename = Some(id.to_owned());
    ctx.eval_with_options(format!("{WRAPPER_PREFIX}{code}\n}})"), options)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_wrapper_prefix_has_the_length_that_columns_are_corrected_by() {
        assert_eq!(
            u32::try_from(super::WRAPPER_PREFIX.chars().count()).unwrap(),
            super::WRAPPER_PREFIX_LENGTH
        );
    }
}
