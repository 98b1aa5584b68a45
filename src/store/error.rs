//! What may go wrong in the store, in words fit for clients.

/// Why the store cannot do something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// No room, not even after eviction.
    #[error(
        "the store has no room: {needed} bytes are needed and {free} are free; delete assets or \
         jobs, or raise V2_STORE_MAX_GB"
    )]
    Full {
        /// Bytes.
        needed: u64,
        /// Bytes.
        free: u64,
    },
    /// An idempotency key was used before, and this is what it made.
    #[error("the idempotency key was used before")]
    KeyReuse(String),
    /// As many jobs that have not ended as there may be.
    #[error("there are as many unfinished jobs as V2_MAX_JOBS allows")]
    TooManyJobs,
    /// There is no such record, or not any more.
    #[error("there is no such record")]
    NotFound,
    /// The record is there, its bytes are not.
    #[error("the bytes are gone")]
    Gone,
    /// An output of a job that has not ended.
    #[error("the asset belongs to a job that has not ended")]
    InUse,
    /// Anything else.
    #[error("the store cannot do it: {0}")]
    Failed(String),
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error {
            rusqlite::Error::QueryReturnedNoRows => Self::NotFound,
            rusqlite::Error::SqliteFailure(code, _)
                if code.code == rusqlite::ErrorCode::DiskFull =>
            {
                Self::Full {
                    needed: 4096,
                    free: 0,
                }
            }
            other => Self::Failed(other.to_string()),
        }
    }
}

impl From<std::io::Error> for StoreError {
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::StorageFull {
            return Self::Full {
                needed: 4096,
                free: 0,
            };
        }
        Self::Failed(error.to_string())
    }
}
