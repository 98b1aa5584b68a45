//! What the JavaScript side may ask of Rust: log lines, random bytes, URLs, text encodings, and
//! modules.

use hmac::{KeyInit as _, Mac as _, SimpleHmac};
use rquickjs::{Ctx, Exception, Function, Module, Object, Promise, Result};

use sha2::Digest;
use sha2::digest::block_api::BlockSizeUser;

use super::library::Library;
use super::{run_jobs, wrap_common_js};
use std::sync::Arc;

/// Longest log line taken from a workflow, in characters.
const LOG_LINE: usize = 8192;

/// The `host` object.
pub fn object<'js>(
    ctx: &Ctx<'js>,
    library: &Arc<Library>,
    context: &Arc<str>,
    route: &str,
) -> Result<Object<'js>> {
    let host = Object::new(ctx.clone())?;
    let workflow = route.to_owned();
    host.set(
        "log",
        Function::new(ctx.clone(), move |level: String, text: String| {
            log(&workflow, &level, &text)
        })?,
    )?;
    host.set(
        "uuid",
        Function::new(ctx.clone(), || uuid::Uuid::new_v4().to_string())?,
    )?;
    host.set(
        "random",
        Function::new(ctx.clone(), |length: usize| -> Vec<u8> {
            (0..length.min(65_536)).map(|_| rand::random()).collect()
        })?,
    )?;
    host.set(
        "encode",
        Function::new(ctx.clone(), |text: String| text.into_bytes())?,
    )?;
    host.set(
        "decode",
        Function::new(ctx.clone(), |bytes: Vec<u8>, fatal: bool| {
            decode(&bytes, fatal)
        })?,
    )?;
    host.set(
        "url",
        Function::new(
            ctx.clone(),
            |url: String, base: Option<String>, part: Option<String>, value: Option<String>| {
                parse_url(&url, base, part, value)
            },
        )?,
    )?;
    host.set("hash", Function::new(ctx.clone(), hash)?)?;
    let context = Arc::clone(context);
    host.set(
        "context",
        Function::new(ctx.clone(), move || context.to_string())?,
    )?;
    modules(ctx, &host, library)?;
    Ok(host)
}

fn modules<'js>(ctx: &Ctx<'js>, host: &Object<'js>, library: &Arc<Library>) -> Result<()> {
    let files = Arc::clone(library);
    host.set(
        "resolve",
        Function::new(
            ctx.clone(),
            move |ctx: Ctx<'_>, base: String, name: String| {
                files
                    .resolve(&base, &name)
                    .map_err(|message| Exception::throw_message(&ctx, &message))
            },
        )?,
    )?;
    let files = Arc::clone(library);
    host.set(
        "kind",
        Function::new(ctx.clone(), move |ctx: Ctx<'_>, id: String| {
            Ok::<_, rquickjs::Error>(files.script(&ctx, &id)?.kind.as_str())
        })?,
    )?;
    let files = Arc::clone(library);
    host.set(
        "source",
        Function::new(ctx.clone(), move |ctx: Ctx<'_>, id: String| {
            Ok::<_, rquickjs::Error>(files.script(&ctx, &id)?.code.clone())
        })?,
    )?;
    let files = Arc::clone(library);
    host.set(
        "compile",
        Function::new(
            ctx.clone(),
            compiling(move |ctx, id| wrap_common_js(&ctx, &id, &files.script(&ctx, &id)?.code)),
        )?,
    )?;
    host.set("import", Function::new(ctx.clone(), importing(import_now))?)
}

// Closures whose result lives as long as the context need their type said.
fn compiling<F: for<'js> Fn(Ctx<'js>, String) -> Result<Function<'js>>>(closure: F) -> F {
    closure
}
fn importing<F: for<'js> Fn(Ctx<'js>, String) -> Result<Object<'js>>>(closure: F) -> F {
    closure
}

/// `require` of an ES module: works as long as that has no top-level await.
fn import_now<'js>(ctx: Ctx<'js>, id: String) -> Result<Object<'js>> {
    let promise: Promise<'js> = Module::import(&ctx, id.clone())?;
    run_jobs(&ctx);
    match promise.result::<Object<'js>>() {
        Some(result) => result,
        None => Err(Exception::throw_message(
            &ctx,
            &format!(
                "require() of {id}, which awaits at its top level, is not possible; use import"
            ),
        )),
    }
}

fn log(workflow: &str, level: &str, text: &str) {
    let text: String = text.chars().take(LOG_LINE).collect();
    match level {
        "error" => tracing::error!(workflow, "{text}"),
        "warn" => tracing::warn!(workflow, "{text}"),
        "debug" => tracing::debug!(workflow, "{text}"),
        _ => tracing::info!(workflow, "{text}"),
    }
}

/// The digest of `data`, or its HMAC with `key`; nothing for an algorithm that does not exist here.
fn hash(algorithm: String, data: Vec<u8>, key: Option<Vec<u8>>) -> Option<Vec<u8>> {
    match algorithm.replace('-', "").as_str() {
        "md5" => digest::<md5::Md5>(&data, key.as_deref()),
        "sha1" => digest::<sha1::Sha1>(&data, key.as_deref()),
        "sha224" => digest::<sha2::Sha224>(&data, key.as_deref()),
        "sha256" => digest::<sha2::Sha256>(&data, key.as_deref()),
        "sha384" => digest::<sha2::Sha384>(&data, key.as_deref()),
        "sha512" => digest::<sha2::Sha512>(&data, key.as_deref()),
        _ => None,
    }
}

fn digest<D: Digest + BlockSizeUser>(data: &[u8], key: Option<&[u8]>) -> Option<Vec<u8>> {
    let Some(key) = key else {
        return Some(D::digest(data).to_vec());
    };
    let mut mac = SimpleHmac::<D>::new_from_slice(key).ok()?;
    mac.update(data);
    Some(mac.finalize().into_bytes().to_vec())
}

fn decode(bytes: &[u8], fatal: bool) -> Option<String> {
    if fatal {
        std::str::from_utf8(bytes).ok().map(str::to_owned)
    } else {
        Some(String::from_utf8_lossy(bytes).into_owned())
    }
}

/// The parts of a URL as JSON, after `part` (if any) was set to `value`.
fn parse_url(
    text: &str,
    base: Option<String>,
    part: Option<String>,
    value: Option<String>,
) -> Option<String> {
    let mut url = match base {
        Some(base) => url::Url::parse(&base).ok()?.join(text).ok()?,
        None => url::Url::parse(text).ok()?,
    };
    if let (Some(part), Some(value)) = (part, value) {
        match part.as_str() {
            "query" => url.set_query(Some(value.as_str()).filter(|query| !query.is_empty())),
            "protocol" => url::quirks::set_protocol(&mut url, &value).ok()?,
            "username" => url::quirks::set_username(&mut url, &value).ok()?,
            "password" => url::quirks::set_password(&mut url, &value).ok()?,
            "host" => url::quirks::set_host(&mut url, &value).ok()?,
            "hostname" => url::quirks::set_hostname(&mut url, &value).ok()?,
            "port" => url::quirks::set_port(&mut url, &value).ok()?,
            "pathname" => url::quirks::set_pathname(&mut url, &value),
            "search" => url::quirks::set_search(&mut url, &value),
            "hash" => url::quirks::set_hash(&mut url, &value),
            _ => return None,
        }
    }
    let parts = serde_json::json!({
        "href": url::quirks::href(&url), "origin": url::quirks::origin(&url),
        "protocol": url::quirks::protocol(&url),
        "username": url::quirks::username(&url), "password": url::quirks::password(&url),
        "host": url::quirks::host(&url),
        "hostname": url::quirks::hostname(&url), "port": url::quirks::port(&url),
        "pathname": url::quirks::pathname(&url),
        "search": url::quirks::search(&url), "hash": url::quirks::hash(&url),
    });
    Some(parts.to_string())
}
