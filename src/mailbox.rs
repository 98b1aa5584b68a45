//! A queue from many to one that takes no room while it is empty.
//!
//! A channel of tokio keeps room for 32 items from its beginning. Every job that waits has two or
//! three, nearly always empty, and thousands of jobs may wait.

use std::collections::VecDeque;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// See the module. Whoever puts and whoever takes share it.
#[derive(Debug)]
pub struct Mailbox<T> {
    items: Mutex<VecDeque<T>>,
    come: Notify,
}

impl<T> Default for Mailbox<T> {
    fn default() -> Self {
        Self {
            items: Mutex::default(),
            come: Notify::new(),
        }
    }
}

impl<T> Mailbox<T> {
    /// Never waits.
    pub fn put(&self, item: T) {
        self.put_after(item, |_| {});
    }

    /// The same, once `room` has removed what the item makes obsolete.
    pub fn put_after(&self, item: T, room: impl FnOnce(&mut VecDeque<T>)) {
        let mut items = self.items.lock();
        room(&mut items);
        items.push_back(item);
        drop(items);
        self.come.notify_one();
    }

    /// Waits until one of those that wait is wanted, without taking it. For the one taker, too: who
    /// takes looks before it waits, so that nothing is lost.
    pub async fn until_any(&self, wanted: impl Fn(&T) -> bool) {
        while !self.items.lock().iter().any(&wanted) {
            self.come.notified().await;
        }
    }

    /// The oldest item, if there is one.
    pub fn take(&self) -> Option<T> {
        let mut items = self.items.lock();
        let item = items.pop_front();
        if items.is_empty() {
            *items = VecDeque::new();
        }
        item
    }

    /// The oldest item, when there is one. Cancel-safe; for one taker at a time.
    pub async fn next(&self) -> T {
        loop {
            if let Some(item) = self.take() {
                return item;
            }
            self.come.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn everything_comes_in_its_order_whoever_gives_up_waiting_meanwhile() {
        let mailbox = Arc::new(Mailbox::default());
        let giving = mailbox.clone();
        let giving = tokio::spawn(async move {
            for number in 0..200 {
                giving.put(number);
                if number % 3 == 0 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
        });
        let mut taken = Vec::new();
        while taken.len() < 200 {
            let waiting = tokio::time::timeout(Duration::from_micros(300), mailbox.next());
            taken.extend(waiting.await.ok());
        }
        giving.await.unwrap();
        assert!(taken.into_iter().eq(0..200));
        assert_eq!(mailbox.take(), None);
    }
}
