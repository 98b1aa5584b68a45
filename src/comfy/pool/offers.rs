//! What all ComfyUI together offer. As a rule they are the same; where one has more, a graph may
//! use it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use parking_lot::RwLock;
use serde_json::{Map, Value};

use super::Pool;
use crate::comfy::Comfy;
use crate::comfy::catalogue::Catalogue;
use crate::comfy::client::CallError;
use crate::error::Failure;
use crate::graph::catalogue::NodeClasses;
use crate::graph::ui::Conversion;

/// What was put together last; empty where there is only one.
#[derive(Default)]
pub(super) struct Offers(RwLock<Option<Arc<Catalogue>>>);

impl Pool {
    /// What the last start of each offered, all together.
    pub fn catalogue(&self) -> Arc<Catalogue> {
        let together = self.inner.offers.0.read();
        let together = together.clone();
        together.unwrap_or_else(|| self.instance(0).catalogue())
    }

    /// One was started anew and asked.
    pub fn set_catalogue(&self, comfy: &Comfy, catalogue: Catalogue) {
        comfy.set_catalogue(catalogue);
        if self.several() {
            let all: Vec<_> = self.instances().iter().map(Comfy::catalogue).collect();
            let mut together = self.inner.offers.0.write();
            *together = Some(Catalogue::together(&all));
            drop(together);
            self.models_changed();
        }
    }

    /// The node classes of all; None while they are not known yet.
    pub fn node_classes(&self) -> Option<Arc<NodeClasses>> {
        if !self.several() {
            return self.instance(0).node_classes();
        }
        let together = self.catalogue().node_classes.clone();
        (!together.is_empty()).then_some(together)
    }

    /// A model was put in place: lists of models are out of date.
    pub fn models_changed(&self) {
        self.instance(0).models_changed();
    }

    /// A number that changes with [`Pool::models_changed`].
    pub fn models_version(&self) -> u64 {
        self.instance(0).models_version()
    }

    /// Converts a workflow as the editor saves it, with the classes of the first ComfyUI that has
    /// all of them. `field` is where it stands in the request.
    ///
    /// # Errors
    /// 503 while nothing is known of ComfyUI's nodes; 400 when it cannot be converted.
    pub async fn convert(
        &self,
        workflow: Arc<Map<String, Value>>,
        field: &str,
    ) -> Result<Conversion, Failure> {
        let mut refused = None;
        let known = |comfy: &&Comfy| !self.several() || comfy.node_classes().is_some();
        for comfy in self.instances().iter().filter(known) {
            match comfy.convert(workflow.clone(), field).await {
                Ok(conversion) => return Ok(conversion),
                // Details are there when a class is missing.
                Err(failure) if failure.details.is_some() => refused = refused.or(Some(failure)),
                Err(failure) => return Err(failure),
            }
        }
        Err(refused.unwrap_or_else(crate::comfy::conversion::unknown_yet))
    }

    /// `{folder: [names]}` for every folder that ComfyUI knows; of `custom_nodes` only the names of
    /// plug-ins.
    ///
    /// # Errors
    /// When no ComfyUI answers.
    pub async fn list_models(&self) -> Result<BTreeMap<String, Vec<String>>, CallError> {
        let mut answer = self.any().list_models().await;
        for comfy in self.up() {
            if answer.is_ok() {
                break;
            }
            answer = comfy.list_models().await;
        }
        answer
    }

    /// Whether every ComfyUI that is up lists a model that was put in place as `dir/name`; each is
    /// made to look.
    ///
    /// # Errors
    /// When none answers.
    pub async fn lists_model(
        &self,
        folder: &str,
        dir: &Path,
        name: &str,
    ) -> Result<bool, CallError> {
        let (mut listed, mut error) = (None, None);
        for comfy in self.up() {
            match comfy.lists_model(folder, dir, name).await {
                Ok(lists) => listed = Some(listed.unwrap_or(true) && lists),
                Err(failed) => error = Some(failed),
            }
        }
        match (listed, error) {
            (Some(listed), _) => Ok(listed),
            (None, Some(error)) => Err(error),
            (None, None) => Ok(false),
        }
    }

    /// What an input of a class offers at this moment; `None` where its class does not say.
    ///
    /// # Errors
    /// When no ComfyUI answers.
    pub async fn choices(
        &self,
        class: &str,
        input: &str,
    ) -> Result<Option<Vec<String>>, CallError> {
        let up = self.up();
        let knows = |comfy: &&&Comfy| comfy.catalogue().knows(class);
        let comfy = up.iter().find(knows).or(up.first());
        match comfy {
            Some(comfy) => comfy.choices(class, input).await,
            None => self.instance(0).choices(class, input).await,
        }
    }
}
