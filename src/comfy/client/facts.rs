//! What ComfyUI says of itself.

use serde_json::Value;

use super::{CallError, Client, strings};

impl Client {
    /// Every node class.
    ///
    /// # Errors
    /// When ComfyUI does not answer.
    pub async fn object_info(&self) -> Result<Value, CallError> {
        self.get("/object_info").await
    }

    /// One node class: `{class: info}`, empty for an unknown one.
    ///
    /// # Errors
    /// When ComfyUI does not answer.
    pub async fn class_info(&self, class: &str) -> Result<Value, CallError> {
        let class =
            percent_encoding::utf8_percent_encode(class, percent_encoding::NON_ALPHANUMERIC);
        self.get(&format!("/object_info/{class}")).await
    }

    /// Real directories per model folder, in search order.
    ///
    /// # Errors
    /// When ComfyUI does not answer or does not have the call.
    pub async fn folder_paths(&self) -> Result<Value, CallError> {
        self.get("/internal/folder_paths").await
    }

    /// Names of the model folders.
    ///
    /// # Errors
    /// When ComfyUI does not answer.
    pub async fn model_folders(&self) -> Result<Vec<String>, CallError> {
        Ok(strings(&self.get("/models").await?))
    }

    /// File names in a model folder.
    ///
    /// # Errors
    /// When ComfyUI does not answer or does not know the folder.
    pub async fn models(&self, folder: &str) -> Result<Vec<String>, CallError> {
        let folder =
            percent_encoding::utf8_percent_encode(folder, percent_encoding::NON_ALPHANUMERIC);
        Ok(strings(&self.get(&format!("/models/{folder}")).await?))
    }

    /// Version and devices.
    ///
    /// # Errors
    /// When ComfyUI does not answer.
    pub async fn system_stats(&self) -> Result<Value, CallError> {
        self.get("/system_stats").await
    }
}
