//! One block blob per file: in one request while it is small, else as staged blocks in parallel
//! that become visible together.

use std::sync::Arc;

use azure_core::Body;
use azure_storage_blobs::prelude::{BlobBlockType, BlobClient, BlockId, BlockList};
use tokio_util::sync::CancellationToken;

use super::body::SeekablePart;
use super::failure::from_sdk;
use crate::storage::cloud::{FilePart, Meter, in_parallel, size_of, supervised};
use crate::storage::{Progress, StorageError, UploadFile};

/// Above this, staged blocks.
const BLOCKS_ABOVE: u64 = 16 * 1024 * 1024;
/// Blocks at once; each holds one read buffer in memory, not the block.
const CONNECTIONS: usize = 4;
/// The service's limit.
const MAX_BLOCKS: u64 = 50_000;

/// Uploads a file. Blocks of an attempt that fails are never visible; the service drops them after
/// a week.
pub async fn upload(
    client: &BlobClient,
    shown: &str,
    file: &UploadFile,
    progress: Option<&Progress>,
    cancel: &CancellationToken,
) -> Result<(), StorageError> {
    let size = size_of(&file.path).await?;
    let meter = Meter::new(size, progress);
    let failed = |error: azure_core::Error| from_sdk(shown, &error);
    let work = async {
        let content_type = file.content_type.clone();
        if size <= BLOCKS_ABOVE {
            let whole = FilePart {
                path: file.path.clone(),
                offset: 0,
                length: size,
            };
            return client
                .put_block_blob(body(whole, &meter))
                .content_type(content_type)
                .await
                .map(drop)
                .map_err(failed);
        }
        let blocks = FilePart::split(
            &file.path,
            size,
            BLOCKS_ABOVE.max(size.div_ceil(MAX_BLOCKS)),
        );
        // An id of this attempt's own: two uploads to one blob must not mix their blocks.
        let attempt = uuid::Uuid::new_v4().simple().to_string();
        let blocks: Vec<_> = blocks
            .into_iter()
            .enumerate()
            .map(|(index, part)| (BlockId::new(format!("{attempt}-{index:06}")), part))
            .collect();
        let ids = in_parallel(blocks, CONNECTIONS, |(id, part)| {
            let request = client.put_block(id.clone(), body(part, &meter));
            async move { request.await.map(|_| id).map_err(failed) }
        });
        let list = BlockList {
            blocks: ids.await?.into_iter().map(BlobBlockType::Latest).collect(),
        };
        client
            .put_block_list(list)
            .content_type(content_type)
            .await
            .map(drop)
            .map_err(failed)
    };
    supervised(shown, &meter, cancel, work).await
}

fn body(part: FilePart, meter: &Arc<Meter>) -> Body {
    if part.length == 0 {
        return Body::Bytes(bytes::Bytes::new());
    }
    Body::SeekableStream(Box::new(SeekablePart::new(part, meter.clone())))
}
