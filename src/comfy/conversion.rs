//! The editor's workflows, converted with what the running ComfyUI says of its nodes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use serde_json::{Map, Value};

use super::Comfy;
use super::client::Client;
use crate::error::{Code, Failure};
use crate::graph::catalogue::NodeClasses;
use crate::graph::ui::{self, Conversion, ConversionError, Moment};

/// A class that is missing may have been installed since: asked again no more often than this.
const ASK_AGAIN: Duration = Duration::from_secs(10);

/// The node classes of the running ComfyUI.
#[derive(Default)]
pub(super) struct KnownClasses {
    now: RwLock<Option<Arc<NodeClasses>>>,
    asked: tokio::sync::Mutex<Option<Instant>>,
}

impl KnownClasses {
    pub(super) fn now(&self) -> Option<Arc<NodeClasses>> {
        self.now.read().clone()
    }

    pub(super) fn set(&self, classes: Arc<NodeClasses>) {
        *self.now.write() = Some(classes);
    }

    /// Other classes than those in which something was missing, if there are any now.
    async fn others(&self, client: &Client, than: &Arc<NodeClasses>) -> Option<Arc<NodeClasses>> {
        let mut asked = self.asked.lock().await;
        if let Some(now) = self.now().filter(|now| !Arc::ptr_eq(now, than)) {
            return Some(now);
        }
        if asked.is_some_and(|asked| asked.elapsed() < ASK_AGAIN) {
            return None;
        }
        *asked = Some(Instant::now());
        let info = client.object_info().await.ok()?;
        let read = tokio::task::spawn_blocking(move || NodeClasses::read(&info))
            .await
            .ok()?;
        if read.is_empty() {
            return None;
        }
        let read = Arc::new(read);
        self.set(read.clone());
        Some(read)
    }
}

impl Comfy {
    /// What the running ComfyUI says of its node classes; None while that is not known yet.
    pub fn node_classes(&self) -> Option<Arc<NodeClasses>> {
        self.classes.now()
    }

    /// Converts a workflow as the editor saves it. `field` is where it stands in the request.
    ///
    /// # Errors
    /// 503 while nothing is known of ComfyUI's nodes; 400 when it cannot be converted.
    pub async fn convert(
        &self,
        workflow: Arc<Map<String, Value>>,
        field: &str,
    ) -> Result<Conversion, Failure> {
        let classes = self.node_classes().ok_or_else(unknown_yet)?;
        let error = match converted(&workflow, &classes).await? {
            Ok(conversion) => return Ok(conversion),
            Err(error) => error,
        };
        if error.details.is_none() {
            return Err(failure(error, field));
        }
        // A class is missing.
        match self.classes.others(&self.client, &classes).await {
            Some(classes) => converted(&workflow, &classes)
                .await?
                .map_err(|error| failure(error, field)),
            None => Err(failure(error, field)),
        }
    }
}

async fn converted(
    workflow: &Arc<Map<String, Value>>,
    classes: &Arc<NodeClasses>,
) -> Result<Result<Conversion, ConversionError>, Failure> {
    let (workflow, classes) = (workflow.clone(), classes.clone());
    let converting =
        tokio::task::spawn_blocking(move || ui::convert(&workflow, &classes, Moment::now()));
    converting.await.map_err(|_| {
        Failure::new(
            Code::Internal,
            "the workflow could not be converted; this is a defect of the server, please report it",
        )
    })
}

/// A workflow that cannot be converted, as an answer.
pub fn failure(error: ConversionError, field: &str) -> Failure {
    let location = match (field.is_empty(), error.location.is_empty()) {
        (false, false) => format!("{field}.{}", error.location),
        (false, true) => field.to_owned(),
        (true, _) => error.location,
    };
    let mut failure = Failure::new(Code::InvalidPrompt, error.message).at(location);
    failure.details = error.details;
    failure
}

/// ComfyUI has not said yet which nodes it has.
pub fn unknown_yet() -> Failure {
    Failure::new(
        Code::ComfyuiUnavailable,
        "which nodes ComfyUI has is not known yet (it is starting, or no instance of the fleet \
         has said so yet), so the workflow cannot be converted; send it again",
    )
}
