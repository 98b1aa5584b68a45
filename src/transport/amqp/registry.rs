//! What an instance tells the fleet about itself: register and unregister (amqp.md, "Registration
//! and heartbeat").

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use lapin::options::BasicPublishOptions;
use lapin::types::ShortString;
use lapin::{Channel, Connection};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::host_metrics::Vitals;
use crate::broker::confirming_channel;
use crate::broker::dial::describe;
use crate::broker::envelope::service;
use crate::broker::publisher::properties;
use crate::config::AmqpConfig;
use crate::net::retry::Pauses;

const FIRST_RETRY: Duration = Duration::from_millis(500);
const LAST_RETRY: Duration = Duration::from_secs(30);
/// For the confirm of the farewell.
const UNREGISTER_TIMEOUT: Duration = Duration::from_secs(5);

/// The instance's description.
pub(super) struct Registry {
    data: Value,
    metadata: Value,
    api_url: String,
    id: String,
    /// `INSTANCE_GPU_VRAM`, and whether `GPU_MEMORY` overrides what is measured.
    gpu_memory: Option<String>,
    gpu_vram: String,
    host_metrics: watch::Receiver<Vitals>,
    registered: watch::Sender<bool>,
}

impl Registry {
    pub(super) fn new(
        config: &AmqpConfig,
        id: &str,
        version: &str,
        metadata: &BTreeMap<String, String>,
        hostname: &str,
        host_metrics: watch::Receiver<Vitals>,
    ) -> Self {
        let instance = &config.instance;
        let mut metadata = metadata.clone();
        metadata.insert("container_id".to_owned(), hostname.to_owned());
        let data = json!({
            "instance_id": id,
            "server_url": instance.public_url,
            "ws_url": instance.public_ws_url,
            "api_url": instance.api_url,
            "type": instance_type(&instance.gpu_vram),
            "monopolize_type": if instance.dedicated_id.is_some() { 1 } else { 2 },
            "version": version,
            "capabilities": {
                "max_concurrent_tasks": config.prefetch,
                "supported_models": instance.supported_models,
                "gpu_memory": Value::Null,
            },
        });
        Self {
            data,
            metadata: json!(metadata),
            api_url: instance.api_url.clone(),
            id: id.to_owned(),
            gpu_memory: instance.gpu_memory.clone(),
            gpu_vram: instance.gpu_vram.clone(),
            host_metrics,
            registered: watch::Sender::new(false),
        }
    }

    /// True from the first registration on.
    pub(super) fn registered(&self) -> watch::Receiver<bool> {
        self.registered.subscribe()
    }

    /// What the instance says of itself.
    pub(super) async fn description(&self) -> Value {
        let mut data = self.data.clone();
        data["capabilities"]["gpu_memory"] = self.gpu_memory().await.into();
        data
    }

    /// Registers, again and again until the broker confirms.
    ///
    /// # Errors
    /// When the channel fails; the caller opens the next.
    pub(super) async fn register(
        &self,
        connection: &Connection,
        exchange: &ShortString,
        extend: impl Fn(&mut Value),
    ) -> lapin::Result<()> {
        let channel = confirming_channel(connection).await?;
        let mut pauses = Pauses::new(FIRST_RETRY, LAST_RETRY);
        loop {
            let mut data = self.description().await;
            extend(&mut data);
            let body = service("instance_register", data, Some(self.metadata.clone()));
            if publish(&channel, exchange, "service.instance.register", &body)
                .await?
                .is_ack()
            {
                self.registered.send_replace(true);
                // Nobody would notice if the broker closed it later.
                let _ = channel.close(200, "OK".into()).await;
                return Ok(());
            }
            let wait = pauses.peek();
            tracing::debug!(?wait, "the broker did not confirm the registration");
            pauses.wait().await;
        }
    }

    /// Says goodbye. An instance that never registered has none to say.
    ///
    /// # Errors
    /// A sentence, when the broker did not confirm it in time.
    pub(super) async fn unregister(
        &self,
        connection: &Connection,
        exchange: &ShortString,
        reason: &str,
    ) -> Result<(), String> {
        let data = json!({ "instance_id": self.id, "api_url": self.api_url, "reason": reason });
        let body = service("instance_unregister", data, None);
        let farewell = async {
            let channel = confirming_channel(connection).await?;
            publish(&channel, exchange, "service.instance.unregister", &body).await
        };
        match tokio::time::timeout(UNREGISTER_TIMEOUT, farewell).await {
            Ok(Ok(confirmation)) if confirmation.is_ack() => Ok(()),
            Ok(Ok(_)) => Err("the broker refused it".to_owned()),
            Ok(Err(error)) => Err(describe(&error)),
            Err(_) => Err("the broker did not confirm it in time".to_owned()),
        }
    }

    /// Configured, else measured, else what `INSTANCE_GPU_VRAM` claims.
    async fn gpu_memory(&self) -> String {
        if let Some(configured) = &self.gpu_memory {
            return configured.clone();
        }
        let mut host_metrics = self.host_metrics.clone();
        // The first look ends soon, with or without a GPU.
        let measured = match host_metrics
            .wait_for(|host_metrics| host_metrics.gpus_looked)
            .await
        {
            Ok(host_metrics) => host_metrics.gpus.first().map(|gpu| gpu.memory_total),
            Err(_) => None,
        };
        measured.map_or_else(
            || self.gpu_vram.clone(),
            |bytes| format!("{}G", (bytes + (1 << 29)) >> 30),
        )
    }
}

async fn publish(
    channel: &Channel,
    exchange: &ShortString,
    key: &str,
    body: &Bytes,
) -> lapin::Result<lapin::Confirmation> {
    channel
        .basic_publish(
            exchange.clone(),
            key.into(),
            BasicPublishOptions::default(),
            body,
            properties(true),
        )
        .await?
        .await
}

/// 3 for 70 GB, 2 for 40 or 35, else 1.
fn instance_type(gpu_vram: &str) -> u8 {
    match gpu_vram {
        vram if vram.contains("70") => 3,
        vram if vram.contains("40") || vram.contains("35") => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::instance_type;

    #[test]
    fn types_follow_the_memory() {
        assert_eq!(
            ["70G", "40G", "35g", "20G", ""].map(instance_type),
            [3, 2, 2, 1, 1]
        );
    }
}
