//! ES modules: names resolved and sources given to the engine.

use std::sync::Arc;

use rquickjs::loader::{ImportAttributes, Loader, Resolver};
use rquickjs::module::Declared;
use rquickjs::{Ctx, Error, Function, Module, Object, Result};

use super::library::Library;
use crate::workflow::source::Kind;

/// Resolver and loader over one library.
pub struct Files(pub Arc<Library>);

impl Resolver for Files {
    fn resolve<'js>(
        &mut self,
        _: &Ctx<'js>,
        base: &str,
        name: &str,
        _: Option<ImportAttributes<'js>>,
    ) -> Result<String> {
        self.0
            .resolve(base, name)
            .map_err(|message| Error::new_resolving_message(base, name, message))
    }
}

impl Loader for Files {
    fn load<'js>(
        &mut self,
        ctx: &Ctx<'js>,
        id: &str,
        _: Option<ImportAttributes<'js>>,
    ) -> Result<Module<'js, Declared>> {
        let script = self.0.script(ctx, id)?;
        if script.kind == Kind::Esm {
            return Module::declare(ctx.clone(), id, script.code.as_str());
        }
        Module::declare(ctx.clone(), id, wrapper(ctx, id)?)
    }
}

/// An ES module around what `require` gives: its names are known once it has run, which it does
/// here.
fn wrapper(ctx: &Ctx<'_>, id: &str) -> Result<String> {
    let api: Object = ctx.globals().get("__comfyui_api")?;
    let names: Vec<String> = api.get::<_, Function>("namesOf")?.call((id,))?;
    let quoted = serde_json::Value::from(id);
    let mut code = format!(
        "const api = globalThis.__comfyui_api; const all = api.load({quoted}); export default \
         api.defaultOf({quoted});"
    );
    for (index, name) in names.iter().enumerate() {
        code.push_str(&format!(
            "const v{index} = all.{name}; export {{ v{index} as {name} }};"
        ));
    }
    Ok(code)
}
