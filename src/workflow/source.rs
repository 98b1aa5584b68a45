//! One source file made ready for the engine: TypeScript stripped, its module kind known, its last
//! expression handed out.

use std::path::Path;

use oxc::allocator::Allocator;
use oxc::ast::ast::{ExportNamedDeclaration, Program, Statement};
use oxc::codegen::{Codegen, CodegenOptions, CodegenReturn};
use oxc::diagnostics::{Diagnostics, Severity};
use oxc::parser::{ParseOptions, Parser};
use oxc::semantic::SemanticBuilder;
use oxc::span::{GetSpan, SourceType};
use oxc::transformer::{TransformOptions, Transformer};

/// How a file speaks to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `import` and `export`.
    Esm,
    /// `require` and `module.exports`, or a bare script with a last expression.
    CommonJs,
    /// Data.
    Json,
}

impl Kind {
    /// As the engine's JavaScript side names it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Esm => "esm",
            Self::CommonJs => "cjs",
            Self::Json => "json",
        }
    }
}

/// What is wrong with a file, and where.
#[derive(Debug, Clone)]
pub struct Fault {
    /// What happened.
    pub message: String,
    /// The file it happened in; may be another than the one being loaded.
    pub file: String,
    /// From 1; 0 when unknown.
    pub line: u32,
    /// From 1; 0 when unknown.
    pub column: u32,
}

impl Fault {
    /// A fault of a whole file.
    pub fn of_file(file: &Path, message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            file: file.display().to_string(),
            line: 0,
            column: 0,
        }
    }
}

/// Code for the engine, and the way back to the lines the user wrote.
#[derive(Debug)]
pub struct Script {
    /// How it speaks to others.
    pub kind: Kind,
    /// What the engine runs.
    pub code: String,
    /// Generated line and column to source line and column, all from 0, sorted; empty when they
    /// are the same.
    map: Vec<[u32; 4]>,
    /// Characters put before the user's first line.
    prefix: u32,
}

impl Script {
    /// Code that runs as it is, such as a package's.
    pub const fn verbatim(kind: Kind, code: String) -> Self {
        Self {
            kind,
            code,
            map: Vec::new(),
            prefix: 0,
        }
    }

    /// Where the user wrote what the engine calls `line` and `column` (all from 1).
    pub fn locate(&self, line: u32, column: u32) -> (u32, u32) {
        let column = if line == 1 {
            column.saturating_sub(self.prefix).max(1)
        } else {
            column
        };
        let wanted = [line.saturating_sub(1), column.saturating_sub(1)];
        let after = self
            .map
            .partition_point(|token| [token[0], token[1]] <= wanted);
        match after.checked_sub(1).and_then(|index| self.map.get(index)) {
            Some(token) if token[0] == wanted[0] => (token[2] + 1, token[3] + 1),
            _ if self.map.is_empty() => (line, column),
            Some(token) => (token[2] + 1, token[3] + 1),
            None => (1, 1),
        }
    }
}

/// Brackets open at once, beyond which a file is refused: the parser descends for each.
const DEEPEST: usize = 1000;
/// Stack for parsing; only what is used of it is ever real memory.
const STACK: usize = 256 * 1024 * 1024;

/// Prepares a user's file, on a thread of its own: parser and printer descend as deep as the source
/// is nested, and a stack that overflows would end the whole server.
///
/// # Errors
/// When it cannot be parsed, with the place of the first mistake.
pub fn prepare(path: &Path, text: &str) -> Result<Script, Fault> {
    if nesting(text) > DEEPEST {
        return Err(Fault::of_file(
            path,
            format!("it is nested more than {DEEPEST} brackets deep"),
        ));
    }
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("workflow-source".to_owned())
            .stack_size(STACK)
            .spawn_scoped(scope, || prepare_here(path, text));
        let prepared = thread
            .map_err(|error| error.to_string())
            .and_then(|thread| thread.join().map_err(|_| "the parser failed".to_owned()));
        prepared.unwrap_or_else(|message| Err(Fault::of_file(path, message)))
    })
}

/// The deepest nesting of brackets, those in strings included.
fn nesting(text: &str) -> usize {
    let mut depth = 0_usize;
    text.bytes().fold(0, |deepest, byte| {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest.max(depth)
    })
}

fn prepare_here(path: &Path, text: &str) -> Result<Script, Fault> {
    let extension = path
        .extension()
        .and_then(|extension| extension.to_str())
        .unwrap_or_default();
    let source_type = match extension {
        "json" => return Ok(Script::verbatim(Kind::Json, text.to_owned())),
        "ts" | "mts" | "cts" => SourceType::ts(),
        "mjs" => SourceType::mjs(),
        "cjs" => SourceType::cjs(),
        _ => SourceType::unambiguous(),
    };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let allocator = Allocator::default();
    let parsed = parse(&allocator, text, source_type);
    check(path, text, &parsed.diagnostics)?;
    let kind = match extension {
        "mjs" | "mts" => Kind::Esm,
        "cjs" | "cts" => Kind::CommonJs,
        _ if parsed.module_record.has_module_syntax => Kind::Esm,
        _ => Kind::CommonJs,
    };
    let edited = hand_out_last_expression(&parsed.program, text, kind);
    let text = edited.as_str();

    let parsed = parse(&allocator, text, source_type);
    check(path, text, &parsed.diagnostics)?;
    let mut program = parsed.program;
    let semantic = SemanticBuilder::new().with_enum_eval(true).build(&program);
    check(path, text, &semantic.diagnostics)?;
    let scoping = semantic.semantic.into_scoping();
    let prefix = match kind {
        Kind::Esm => common_js_names(path, |name| {
            scoping.root_unresolved_references().contains_key(name)
        }),
        _ => String::new(),
    };
    if !source_type.is_typescript() {
        let code = format!("{prefix}{text}");
        return Ok(Script {
            kind,
            code,
            map: Vec::new(),
            prefix: length(&prefix),
        });
    }
    let transformed = Transformer::new(&allocator, path, &TransformOptions::default())
        .build_with_scoping(scoping, &mut program);
    check(path, text, &transformed.diagnostics)?;
    let options = CodegenOptions {
        source_map_path: Some(path.to_path_buf()),
        ..CodegenOptions::default()
    };
    let generated = Codegen::new().with_options(options).build(&program);
    let map = positions(&generated);
    Ok(Script {
        kind,
        code: format!("{prefix}{}", generated.code),
        map,
        prefix: length(&prefix),
    })
}

/// Where each part of the code came from: its line and column, then those in the source.
fn positions(generated: &CodegenReturn<'_>) -> Vec<[u32; 4]> {
    let mut map: Vec<[u32; 4]> = generated
        .map
        .iter()
        .flat_map(|map| map.get_tokens())
        .map(|token| {
            [
                token.get_dst_line(),
                token.get_dst_col(),
                token.get_src_line(),
                token.get_src_col(),
            ]
        })
        .collect();
    map.sort_unstable();
    map
}

fn length(text: &str) -> u32 {
    u32::try_from(text.chars().count()).unwrap_or(u32::MAX)
}

fn parse<'a>(
    allocator: &'a Allocator,
    text: &str,
    source_type: SourceType,
) -> oxc::parser::ParserReturn<'a> {
    let text = allocator.alloc_str(text);
    let options = ParseOptions {
        allow_return_outside_function: true,
        ..ParseOptions::default()
    };
    Parser::new(allocator, text, source_type)
        .with_options(options)
        .parse()
}

fn check(path: &Path, text: &str, diagnostics: &Diagnostics) -> Result<(), Fault> {
    let Some(first) = diagnostics
        .iter()
        .find(|diagnostic| diagnostic.severity == Severity::Error)
    else {
        return Ok(());
    };
    let mut fault = Fault::of_file(path, first.message.to_string());
    if let Some(label) = first.labels.first() {
        let offset = usize::try_from(label.span().start)
            .unwrap_or(0)
            .min(text.len());
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        fault.line = u32::try_from(before.matches('\n').count() + 1).unwrap_or(0);
        fault.column = length(before.get(line_start..).unwrap_or_default()) + 1;
    }
    Err(fault)
}

/// A file may simply end with the workflow. The engine's function and module forms have no
/// completion value, so the expression becomes the function's result or the module's default
/// export. TypeScript's own CommonJS forms become what they mean.
fn hand_out_last_expression(program: &Program<'_>, text: &str, kind: Kind) -> String {
    // From, to, and what to put there; in the order of the text.
    let mut edits: Vec<(u32, u32, &str)> = Vec::new();
    for statement in &program.body {
        match statement {
            Statement::TSExportAssignment(export) => edits.push((
                export.span.start,
                export.expression.span().start,
                "module.exports = ",
            )),
            Statement::TSImportEqualsDeclaration(import) => {
                edits.push((import.span.start, import.id.span.start, "const "))
            }
            _ => {}
        }
    }
    let opening = match kind {
        Kind::CommonJs => Some("return ("),
        Kind::Esm if !program.body.iter().any(exports_default) => Some("export default ("),
        _ => None,
    };
    if let (Some(Statement::ExpressionStatement(last)), Some(opening)) =
        (program.body.last(), opening)
    {
        let span = last.expression.span();
        edits.push((span.start, span.start, opening));
        edits.push((span.end, span.end, ")"));
    }
    let mut edited = String::with_capacity(text.len() + 64);
    let mut done = 0;
    for (from, to, replacement) in edits {
        let (Ok(from), Ok(to)) = (usize::try_from(from), usize::try_from(to)) else {
            continue;
        };
        edited.push_str(text.get(done..from).unwrap_or_default());
        edited.push_str(replacement);
        done = to;
    }
    edited.push_str(text.get(done..).unwrap_or_default());
    edited
}

fn exports_default(statement: &Statement<'_>) -> bool {
    match statement {
        Statement::ExportDefaultDeclaration(_) | Statement::TSExportAssignment(_) => true,
        Statement::ExportNamedDeclaration(named) => names_default(named),
        _ => false,
    }
}

fn names_default(named: &ExportNamedDeclaration<'_>) -> bool {
    named
        .specifiers
        .iter()
        .any(|specifier| specifier.exported.name() == "default")
}

/// `import` and `module.exports` in one file work where TypeScript compiles to CommonJS; here the
/// module gets the names it misses.
fn common_js_names(path: &Path, is_missing: impl Fn(&str) -> bool) -> String {
    let missing: Vec<&str> = ["module", "exports", "require"]
        .into_iter()
        .filter(|name| is_missing(name))
        .collect();
    if missing.is_empty() {
        return String::new();
    }
    let id = serde_json::Value::from(path.display().to_string());
    let mut prefix =
        format!("const __comfyui_api_module = globalThis.__comfyui_api.commonJsOf({id});");
    for name in missing {
        let value = if name == "module" {
            String::new()
        } else {
            format!(".{name}")
        };
        prefix.push_str(&format!("const {name} = __comfyui_api_module{value};"));
    }
    prefix
}
