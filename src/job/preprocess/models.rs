//! Model inputs that are URLs: downloaded into the right model folder, replaced by the file's name
//! (prompt.md, section 1).

use std::path::PathBuf;

use serde_json::{Map, Value};

use super::find::each_text;
use super::model_names::{distinct, listed_name, repository_name, stem, url_name};
use super::{Context, Done, Form, InputTask, ModelWork, PrepareContext, inputs};
use crate::comfy::Comfy;
use crate::comfy::catalogue::Catalogue;
use crate::error::{Code, Failure};
use crate::storage::{
    Fetched, MODEL_EXTENSIONS, PlacedModel, Replace, Storage, check_file_name, model_extension,
    model_name,
};

/// Names of a node's choices in the sentence that says which there are.
const CHOICES_SHOWN: usize = 5;
/// A name by its URL is tried under so many bytes.
const LONGEST_NAME: usize = 200;

/// What a prompt has put into model folders.
#[derive(Debug, Default)]
pub struct PlacedModels(Vec<Placed>);

#[derive(Debug)]
struct Placed {
    /// As the graph has it now.
    value: String,
    folder: String,
    model: PlacedModel,
}

impl PlacedModels {
    /// Nothing was placed.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn extend(&mut self, more: Self) {
        self.0.extend(more.0);
    }

    /// After ComfyUI has refused a graph: has it look again at the folders of those models that it
    /// names among what it does not know (attack.md, A54). Whether that has changed anything for
    /// them, so that another try makes sense.
    pub async fn shown_again(&self, comfy: &Comfy, node_errors: &Value) -> bool {
        let mut any = false;
        for placed in &self.0 {
            if !names(node_errors, &placed.value) {
                continue;
            }
            let PlacedModel { dir, name, .. } = &placed.model;
            any |= matches!(comfy.lists_model(&placed.folder, dir, name).await, Ok(true));
        }
        any
    }
}

/// The file of the first model that a graph loads.
pub fn first(graph: &Map<String, Value>, catalogue: &Catalogue) -> Option<String> {
    let of_model = |input: &super::Input<'_>| {
        let name = input.value.as_str()?;
        catalogue.model_folder(input.class, input.name)?;
        model_extension(name)?;
        Some(name.to_owned())
    };
    inputs(graph).find_map(|input| of_model(&input))
}

/// Whether a value is among those that ComfyUI did not find in its lists.
fn names(node_errors: &Value, value: &str) -> bool {
    let nodes = node_errors.as_object().into_iter().flat_map(Map::values);
    let errors = nodes.filter_map(|node| node.get("errors")?.as_array());
    errors.flatten().any(|error| {
        error.get("type").and_then(Value::as_str) == Some("value_not_in_list")
            && error
                .pointer("/extra_info/received_value")
                .and_then(Value::as_str)
                == Some(value)
    })
}

pub(super) async fn place(
    context: &Context<'_>,
    task: &InputTask,
    work: &ModelWork,
) -> Result<Done, Failure> {
    let url = task.value.as_str().unwrap_or_default();
    let fetched = context.fetch(url, &work.folder).await?;
    let cached_name = fetched
        .path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    let name = listed_name(model_name(&fetched, cached_name.as_deref()).await);
    let place = Place {
        context,
        folder: &work.folder,
        fetched: &fetched,
    };
    let mut placed = place.link(&name).await?;
    let value = match work.form {
        Form::Name => name.clone(),
        Form::Stem => stem(&name).to_owned(),
        Form::Listed => match place.as_listed(task, &name).await? {
            Choice::Is(value) => value,
            Choice::Not(offered) => {
                let (value, other) = place.by_url_name(task, url, &offered).await?;
                placed = other;
                value
            }
        },
    };
    let warnings = placed.kept.clone().into_iter().collect();
    let models = PlacedModels(vec![Placed {
        value: value.clone(),
        folder: work.folder.clone(),
        model: placed,
    }]);
    Ok(Done {
        value: Some(value.into()),
        fetched: vec![(url.to_owned(), fetched)],
        models,
        warnings,
    })
}

/// Whether a node offers a name.
enum Choice {
    /// In this form; or nothing is known of its list, and ComfyUI judges.
    Is(String),
    /// It offers others.
    Not(Vec<String>),
}

/// A file on its way into a model folder.
struct Place<'a> {
    context: &'a Context<'a>,
    folder: &'a str,
    fetched: &'a Fetched,
}

impl Place<'_> {
    /// Links it, and sees to it that ComfyUI lists it.
    async fn link(&self, name: &str) -> Result<PlacedModel, Failure> {
        let around = self.context.around;
        let dirs = model_dirs(around, self.folder);
        let placed = around
            .storage
            .place_model(self.fetched, &dirs, name, Replace::Nothing)
            .await
            .map_err(|error| self.context.failure(error))?;
        let seen = around
            .engine
            .lists_model(self.folder, &placed.dir, name)
            .await;
        if !matches!(seen, Ok(true)) {
            // The folder may be one of other extensions; what that means for the node, ComfyUI
            // says.
            tracing::debug!(
                folder = self.folder,
                name,
                ?seen,
                "ComfyUI does not list a model"
            );
        }
        Ok(placed)
    }

    /// The form in which the class's list has a name.
    async fn as_listed(&self, task: &InputTask, name: &str) -> Result<Choice, Failure> {
        let around = self.context.around;
        let Some(offered) = around.engine.choices(&task.class, &task.input).await? else {
            return Ok(Choice::Is(name.to_owned()));
        };
        let form = [name, stem(name)]
            .into_iter()
            .find(|form| offered.iter().any(|choice| choice == form));
        Ok(match form {
            Some(form) => Choice::Is(form.to_owned()),
            None => Choice::Not(offered),
        })
    }

    /// Under the name of its URL, for nodes that offer only certain names. That of another file is
    /// not touched.
    async fn by_url_name(
        &self,
        task: &InputTask,
        url: &str,
        offered: &[String],
    ) -> Result<(String, PlacedModel), Failure> {
        let plain = url_name(url).unwrap_or_else(|| self.fetched.origin_name.clone());
        let plain = listed_name(model_name(self.fetched, Some(&plain)).await);
        let refused = |offered: &[String]| {
            let names: Vec<String> = offered
                .iter()
                .take(CHOICES_SHOWN)
                .map(|name| name.chars().take(80).collect())
                .collect();
            let names = if names.is_empty() {
                "nothing".to_owned()
            } else {
                names.join(", ")
            };
            let shown: String = plain.chars().take(120).collect();
            Failure::new(
                Code::InvalidRequest,
                format!(
                    "{} does not offer \"{shown}\" although it is in {} now; it offers: {names}",
                    task.class.chars().take(80).collect::<String>(),
                    self.folder,
                ),
            )
        };
        if plain.len() > LONGEST_NAME || check_file_name(&plain).is_err() {
            return Err(refused(offered));
        }
        let mut placed = self.link(&plain).await?;
        if placed.kept.is_some() {
            placed = self.link(&distinct(&plain, url)).await?;
        }
        match self.as_listed(task, &placed.name).await? {
            Choice::Is(value) => Ok((value, placed)),
            Choice::Not(offered) => {
                if placed.new {
                    let storage = &self.context.around.storage;
                    storage.withdraw_model(self.fetched, &placed).await;
                }
                Err(refused(&offered))
            }
        }
    }
}

/// Where the models may be that a graph names by file: cached ones are not to be evicted while it
/// runs.
pub(super) fn named(graph: &Map<String, Value>, around: &PrepareContext<'_>) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    for input in inputs(graph) {
        each_text(&input, &mut |leaf| {
            let name = leaf.value.as_str().unwrap_or_default();
            if name.is_empty() || name.len() > 1024 || Storage::is_url(name) {
                return;
            }
            let known = leaf
                .path
                .is_empty()
                .then(|| around.catalogue.model_folder(input.class, input.name))
                .flatten();
            let Some(folder) = known.or_else(|| leaf.model().map(|(folder, _)| folder)) else {
                return;
            };
            paths.extend(possible(around.catalogue, folder, name));
        });
    }
    paths
}

/// Where a file of that name may be in a folder; without an extension it is a name as some nodes
/// write them.
fn possible(catalogue: &Catalogue, folder: &str, name: &str) -> Vec<PathBuf> {
    let dirs = catalogue.folders.get(folder).map(Vec::as_slice);
    let names = match model_extension(name) {
        Some(_) => vec![name.to_owned()],
        None => MODEL_EXTENSIONS.map(|end| format!("{name}.{end}")).to_vec(),
    };
    let within = |dir: &PathBuf| names.iter().map(|name| dir.join(name)).collect::<Vec<_>>();
    dirs.unwrap_or_default().iter().flat_map(within).collect()
}

pub(super) async fn clone(context: &Context<'_>, task: &InputTask) -> Result<Done, Failure> {
    let url = task.value.as_str().unwrap_or_default();
    let name = repository_name(url).ok_or_else(|| {
        Failure::new(
            Code::InvalidRequest,
            "the URL does not end with the name of a git repository",
        )
    })?;
    let dirs = model_dirs(context.around, "diffusers");
    let name = context
        .around
        .storage
        .clone_repository(url, &dirs, &name, &context.stop)
        .await
        .map_err(|error| context.failure(error))?;
    // The lists of models that others have are out of date.
    let models = PlacedModels(vec![Placed {
        value: name.clone(),
        folder: "diffusers".to_owned(),
        model: PlacedModel {
            dir: dirs.into_iter().next().unwrap_or_default(),
            name: name.clone(),
            new: true,
            kept: None,
        },
    }]);
    Ok(Done {
        value: Some(name.into()),
        models,
        ..Done::default()
    })
}

fn model_dirs(around: &PrepareContext<'_>, folder: &str) -> Vec<PathBuf> {
    let dirs = around.catalogue.model_dirs(folder);
    if dirs.is_empty() {
        vec![around.comfy.model_dir.join(folder)]
    } else {
        dirs
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_of_models_and_repositories() {
        assert_eq!(listed_name("abc.safetensors".into()), "abc.safetensors");
        assert_eq!(listed_name("abc.SFT".into()), "abc.SFT");
        assert_eq!(listed_name("abc".into()), "abc.safetensors");
        assert_eq!(listed_name("abc.php".into()), "abc.php.safetensors");
        assert_eq!((stem("a.b.PT"), stem("v1.5")), ("a.b", "v1.5"));
        assert_eq!(
            url_name("https://h/x/a%20b.pt?c=d").as_deref(),
            Some("a b.pt")
        );
        assert_eq!(url_name("https://h/x/..%2Fb.pt"), None);
        assert_eq!(
            repository_name("https://h/o/stable-diffusion.git").as_deref(),
            Some("stable-diffusion")
        );
        assert_eq!(
            repository_name("https://h/o/repo/").as_deref(),
            Some("repo")
        );
        assert_eq!(repository_name("https://h/"), None);
    }

    #[test]
    fn a_refusal_names_a_model_only_if_its_list_does_not_have_it() {
        let refusal = |kind: &str| {
            json!({
                "4": {"errors": [{"type": kind, "extra_info": {"received_value": "a.pt"}}]}
            })
        };
        assert!(names(&refusal("value_not_in_list"), "a.pt"));
        assert!(!names(&refusal("value_not_in_list"), "b.pt"));
        assert!(!names(&refusal("required_input_missing"), "a.pt"));
        assert!(!names(&Value::Null, "a.pt"));
    }
}
