//! Waking readers and those who wait for replies: a channel of this process in Redis, and who waits here.

use std::{collections::HashMap, sync::Arc, time::Duration};

use common::backoff::Backoff;
use futures_util::StreamExt as _;
use parking_lot::Mutex;
use protocol::MessageId;
use redis::RedisResult;
use tokio::{sync::Notify, time::sleep};

use crate::sessions::redis::{Place, Waits, Whereabouts, wire};

/// The first pause before listening again.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// What stands before a message's id on the channel; what has no such mark is a stream.
const REPLY: char = 'r';

/// Who waits.
#[derive(Debug)]
pub(super) struct Wakes {
    streams: Box<[Notify]>,
    replies: Mutex<HashMap<String, Arc<Notify>>>,
}

/// Waits for the replies to one message.
#[derive(Debug)]
pub(super) struct Waiter<'a> {
    wakes: &'a Wakes,
    id: String,
    replied: Arc<Notify>,
}

impl Wakes {
    pub(super) fn new(streams: u16) -> Self {
        Self {
            streams: (0..streams).map(|_| Notify::new()).collect(),
            replies: Mutex::default(),
        }
    }

    /// The stream may have something new.
    pub(super) fn wake(&self, stream: u16) {
        if let Some(stream) = self.streams.get(usize::from(stream)) {
            stream.notify_one();
        }
    }

    /// Waits until the stream may have something new.
    pub(super) async fn woken(&self, stream: u16) {
        match self.streams.get(usize::from(stream)) {
            Some(stream) => stream.notified().await,
            None => std::future::pending().await,
        }
    }

    /// Begins to wait for the replies to a message.
    pub(super) fn waiter(&self, id: MessageId) -> Waiter<'_> {
        let replied = Arc::new(Notify::new());
        let id = id.to_string();
        self.replies.lock().insert(id.clone(), Arc::clone(&replied));
        Waiter {
            wakes: self,
            id,
            replied,
        }
    }

    /// Listens to the channel for as long as it is polled.
    pub(super) async fn listen(&self, place: &Whereabouts, waits: &Waits, channel: &str) {
        let backoff = Backoff {
            base: FIRST_PAUSE,
            max: waits.pause,
            ..Backoff::short()
        };
        let mut failures = 0;
        loop {
            let place = place.now();
            match self.listen_once(&place, waits, channel).await {
                Ok(()) => failures = 0,
                Err(error) => {
                    tracing::debug!(%place, %error, "cannot listen for wake-ups");
                }
            }
            let delay = backoff.delay(failures, &mut rand::rng());
            sleep(delay).await;
            failures = failures.saturating_add(1);
        }
    }

    async fn listen_once(&self, place: &Place, waits: &Waits, channel: &str) -> RedisResult<()> {
        let mut messages = wire::subscribe(place, waits, channel).await?;
        // What was said before now was not heard.
        self.wake_all();
        while let Some(message) = messages.next().await {
            let text: String = message.get_payload()?;
            self.heard(&text);
        }
        Ok(())
    }

    fn heard(&self, text: &str) {
        if let Some(id) = text.strip_prefix(REPLY) {
            if let Some(replied) = self.replies.lock().get(id) {
                replied.notify_one();
            }
        } else if let Ok(stream) = text.parse() {
            self.wake(stream);
        }
    }

    fn wake_all(&self) {
        self.streams.iter().for_each(Notify::notify_one);
        self.replies
            .lock()
            .values()
            .for_each(|replied| replied.notify_one());
    }
}

impl Waiter<'_> {
    /// Waits until one more reply may be there.
    pub(super) async fn replied(&self) {
        self.replied.notified().await;
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.wakes.replies.lock().remove(&self.id);
    }
}

/// What is said on the channel of who waits for a reply.
pub(super) fn reply_to(id: MessageId) -> String {
    format!("{REPLY}{id}")
}
