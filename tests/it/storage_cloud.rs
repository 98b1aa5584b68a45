//! storage_cloud
