//! The worker that sends system events to `SYSTEM_WEBHOOK_URL`, in order, with a bounded queue (events.md).
