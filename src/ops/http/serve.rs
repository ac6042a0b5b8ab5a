//! The listener: a bounded number of connections, each served by a task of the ops thread.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};

use crate::view::View;

/// Scrapers, a browser, a person with curl: more is a mistake or an attack.
const CONNECTIONS_MAX: usize = 64;
/// A scraper asks every 15 s at most times; then it keeps its connection.
const IDLE: Duration = Duration::from_secs(30);
/// From the first byte of a question to the first of its answer, which is made within 5 s.
const QUESTION: Duration = Duration::from_secs(10);
/// From the first byte of an answer to its last: whoever reads slower has it cut off.
const ANSWER: Duration = Duration::from_secs(30);

/// Serves the pages until the runtime ends.
pub async fn serve(listener: TcpListener, view: Arc<dyn View>) -> io::Result<()> {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    axum::serve(Limited { listener, slots }, super::router(view)).await
}

/// Accepts only while a slot is free; the others wait in the backlog.
struct Limited {
    listener: TcpListener,
    slots: Arc<Semaphore>,
}

impl Listener for Limited {
    type Io = Slot<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Slot<TcpStream>, SocketAddr) {
        let permit = self.slots.clone().acquire_owned().await;
        let permit = permit.expect("the semaphore is never closed");
        let (stream, peer) = Listener::accept(&mut self.listener).await;
        (Slot::new(stream, permit), peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// One connection: it keeps its slot until it is closed, and is closed when it takes too long over
/// a step, however busy it looks with single bytes: nobody can keep the pages from the others.
struct Slot<S> {
    stream: S,
    step: Step,
    /// When the step must be over.
    due: Pin<Box<Sleep>>,
    _permit: OwnedSemaphorePermit,
}

/// What a connection is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Nothing was asked, or all of it is answered.
    Idle,
    /// Some of a question is there.
    Asking,
    /// Some of an answer is out.
    Answering,
}

impl<S> Slot<S> {
    fn new(stream: S, permit: OwnedSemaphorePermit) -> Slot<S> {
        Slot { stream, step: Step::Idle, due: Box::pin(sleep(IDLE)), _permit: permit }
    }

    /// A step has begun, unless it had already.
    fn begin(&mut self, step: Step, limit: Duration) {
        if self.step != step {
            self.step = step;
            self.due.as_mut().reset(Instant::now() + limit);
        }
    }

    fn overdue<T>(&mut self, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        self.due.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Slot<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if read.is_ready() {
            // What is asked while an answer is on its way does not give that one more time.
            if self.step == Step::Idle {
                self.begin(Step::Asking, QUESTION);
            }
            return read;
        }
        self.overdue(context)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Slot<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.begin(Step::Answering, ANSWER);
        match Pin::new(&mut self.stream).poll_write(context, bytes) {
            Poll::Pending => self.overdue(context),
            written => written,
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        // Everything that was to be written is in the socket.
        if flushed.is_ready() && self.step == Step::Answering {
            self.begin(Step::Idle, IDLE);
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    /// A connection in its slot, and its peer; so many bytes wait between them.
    async fn pair(bytes: usize) -> (Slot<DuplexStream>, DuplexStream) {
        let (here, there) = duplex(bytes);
        let permit = Arc::new(Semaphore::new(1)).acquire_owned().await.expect("it is open");
        (Slot::new(here, permit), there)
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_drips_a_question_is_cut_off_in_its_time() {
        let (mut slot, mut peer) = pair(64).await;
        sleep(IDLE / 2).await;
        let drips = tokio::spawn(async move {
            while peer.write_all(b"x").await.is_ok() {
                sleep(QUESTION / 5).await;
            }
        });
        let began = Instant::now();
        let mut byte = [0];
        let error = loop {
            if let Err(error) = slot.read_exact(&mut byte).await {
                break error;
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(began.elapsed() < QUESTION * 2, "{:?}", began.elapsed());
        drop(slot);
        drips.await.expect("it ends with the connection");
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_reads_no_answer_is_cut_off_in_its_time() {
        let (mut slot, mut peer) = pair(16).await;
        peer.write_all(b"?").await.expect("room");
        slot.read_exact(&mut [0]).await.expect("a question");
        let reads = tokio::spawn(async move {
            while peer.read_exact(&mut [0]).await.is_ok() {
                sleep(ANSWER / 5).await;
            }
        });
        let began = Instant::now();
        let error = slot.write_all(&[0; 64]).await.expect_err("nobody reads so slowly");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(began.elapsed() < ANSWER * 2, "{:?}", began.elapsed());
        drop(slot);
        reads.await.expect("it ends with the connection");
    }

    #[tokio::test(start_paused = true)]
    async fn a_scraper_keeps_its_connection() {
        let (mut slot, mut peer) = pair(64).await;
        for _ in 0..100 {
            sleep(IDLE / 2).await;
            peer.write_all(b"?").await.expect("it is open");
            slot.read_exact(&mut [0]).await.expect("a question");
            slot.write_all(b"!").await.expect("it reads");
            slot.flush().await.expect("it reads");
            peer.read_exact(&mut [0]).await.expect("an answer");
        }
    }
}
