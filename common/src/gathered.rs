//! Writes of several tasks, gathered into one call to the system.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream whose writes wait for one turn of the scheduler.
///
/// An HTTP/2 connection is a task that writes for many others. Each of those wakes it as soon as it has something, and so it
/// would write once for each. Here the first write after a flush is put off until the tasks that were ready before have had
/// their turn; what they have goes with it. Where no other task is ready, nothing waits.
#[derive(Debug)]
pub struct Gathered<S> {
    stream: S,
    /// Whether the turn has been given: what is written now goes.
    given: bool,
}

impl<S> Gathered<S> {
    /// Gathers the writes to a stream.
    pub fn new(stream: S) -> Self {
        Self {
            stream,
            given: false,
        }
    }

    /// The stream.
    pub fn get_ref(&self) -> &S {
        &self.stream
    }

    /// Gives the others a turn, once before the writes that a flush ends.
    fn poll_turn(&mut self, cx: &Context<'_>) -> Poll<()> {
        if self.given {
            return Poll::Ready(());
        }
        self.given = true;
        // A task that wakes itself goes to the end of its queue.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gathered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gathered<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        std::task::ready!(self.poll_turn(cx));
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        std::task::ready!(self.poll_turn(cx));
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.given = false;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering::Relaxed},
        },
        task::Wake,
    };

    use super::*;

    #[derive(Debug, Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    fn write(stream: &mut Gathered<Vec<u8>>, cx: &mut Context<'_>, bytes: &[u8]) -> bool {
        let poll = Pin::new(stream).poll_write(cx, bytes);
        matches!(poll, Poll::Ready(Ok(written)) if written == bytes.len())
    }

    #[test]
    fn the_first_write_after_a_flush_waits_for_a_turn() {
        let wakes = Arc::new(Wakes::default());
        let counting = Arc::clone(&wakes).into();
        let mut cx = Context::from_waker(&counting);
        let mut stream = Gathered::new(Vec::new());
        for round in 1..=2 {
            assert!(!write(&mut stream, &mut cx, b"a"));
            assert_eq!(
                wakes.0.load(Relaxed),
                round,
                "a wake that nobody else gives"
            );
            assert!(write(&mut stream, &mut cx, b"a"));
            assert!(write(&mut stream, &mut cx, b"b"));
            assert!(Pin::new(&mut stream).poll_flush(&mut cx).is_ready());
        }
        assert_eq!(stream.get_ref(), b"abab");
    }
}
