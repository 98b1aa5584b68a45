//! The queue transport against a real RabbitMQ. The runner behind it is a scripted one: what a task
//! does stands in its body.

mod attempts;
mod broker_trouble;
mod channels;
pub mod client;
mod events;
mod fleet;
pub mod results;
mod returned;
pub mod stage;
mod tasks;
