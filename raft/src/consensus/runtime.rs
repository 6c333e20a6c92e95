//! tokio for openraft, with randomness from the seam.
//!
//! openraft draws election timeouts and tick phases from `thread_rng()`. Here it comes from the
//! node's [`Entropy`], which a task-local carries from each task to those it spawns: several nodes
//! can live in one runtime, and a seed decides everything.

use std::{convert::Infallible, fmt, future::Future, pin::Pin, sync::Arc, task, time::Duration};

use openraft_rt::{AsyncRuntime, Instant};
use openraft_rt_tokio::{TokioInstant, TokioMpsc, TokioMutex, TokioOneshot, TokioRuntime, TokioWatch};
use rand::TryRng;

use crate::{mistake, seam::Entropy, timer};

tokio::task_local! {
    static ENTROPY: Arc<dyn Entropy>;
}

/// Runs `future`, and every task openraft spawns from it, with this randomness.
pub(crate) fn with_entropy<F: Future>(entropy: Arc<dyn Entropy>, future: F) -> impl Future<Output = F::Output> {
    ENTROPY.scope(entropy, future)
}

/// Random numbers of the node whose task this is.
pub(crate) struct NodeRng(Arc<dyn Entropy>);

impl TryRng for NodeRng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok((self.0.next_u64() >> 32) as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.0.next_u64())
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.0.next_u64().to_le_bytes()[..chunk.len()]);
        }
        Ok(())
    }
}

/// A sleep; or for the microsecond in which openraft gathers flush notifications, which must not become
/// a timer's millisecond, one turn of the scheduler.
///
/// What must hold: nothing but that wakes early. openraft's ticks are on a grid; one that came before
/// its line would be followed by another for the same line, at once.
pub(crate) enum Sleep {
    Turn { asked: tokio::time::Instant, deadline: tokio::time::Instant, turned: bool },
    Timer(Pin<Box<timer::Sleep>>),
}

const GATHERING: Duration = Duration::from_micros(1);

impl Sleep {
    #[track_caller]
    fn until(deadline: tokio::time::Instant) -> Self {
        let asked = tokio::time::Instant::now();
        let early = deadline.saturating_duration_since(asked) < Duration::from_micros(500);
        let deadline = if early && mistake!("tick.before_its_line") { asked } else { deadline };
        if deadline.saturating_duration_since(asked) <= GATHERING {
            Sleep::Turn { asked, deadline, turned: false }
        } else {
            Sleep::Timer(Box::pin(timer::sleep_until(deadline)))
        }
    }

    #[track_caller]
    fn during(duration: Duration) -> Self {
        let now = tokio::time::Instant::now();
        Self::until(if duration <= GATHERING { now } else { now + duration })
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> task::Poll<()> {
        if let Sleep::Turn { asked, deadline, turned } = *self {
            let now = tokio::time::Instant::now();
            let whole = deadline.saturating_duration_since(asked) == GATHERING;
            if turned && (now >= deadline || whole) {
                return task::Poll::Ready(());
            }
            if !turned || now > asked {
                *self = Sleep::Turn { asked, deadline, turned: true };
                cx.waker().wake_by_ref();
                return task::Poll::Pending;
            }
            // Virtual time, which does not pass while anybody is awake.
            *self = Sleep::Timer(Box::pin(timer::sleep_until(deadline)));
        }
        match &mut *self {
            Sleep::Turn { .. } => task::Poll::Pending,
            Sleep::Timer(sleep) => sleep.as_mut().poll(cx),
        }
    }
}

pub(crate) struct SeededRuntime(TokioRuntime);

impl fmt::Debug for SeededRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl AsyncRuntime for SeededRuntime {
    type JoinError = tokio::task::JoinError;
    type JoinHandle<T: Send + 'static> = tokio::task::JoinHandle<T>;
    type Sleep = Sleep;
    type Instant = TokioInstant;
    type TimeoutError = tokio::time::error::Elapsed;
    type Timeout<R, T: Future<Output = R> + Send> = timer::Timeout<T>;
    type ThreadLocalRng = NodeRng;
    type Mpsc = TokioMpsc;
    type Watch = TokioWatch;
    type Oneshot = TokioOneshot;
    type Mutex<T: Send + 'static> = TokioMutex<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + Send + 'static,
        T::Output: Send + 'static,
    {
        match ENTROPY.try_with(Arc::clone) {
            Ok(entropy) => tokio::spawn(ENTROPY.scope(entropy, future)),
            Err(_) => tokio::spawn(future),
        }
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        Sleep::during(duration)
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        let wait = deadline.saturating_duration_since(TokioInstant::now());
        Sleep::until(tokio::time::Instant::now() + wait)
    }

    fn timeout<R, F: Future<Output = R> + Send>(duration: Duration, future: F) -> Self::Timeout<R, F> {
        timer::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + Send>(deadline: Self::Instant, future: F) -> Self::Timeout<R, F> {
        let wait = deadline.saturating_duration_since(TokioInstant::now());
        timer::timeout(wait, future)
    }

    fn is_panic(error: &Self::JoinError) -> bool {
        error.is_panic()
    }

    /// # Panics
    /// Outside of [`with_entropy`]: the host starts every group inside of it.
    fn thread_rng() -> Self::ThreadLocalRng {
        NodeRng(ENTROPY.with(Arc::clone))
    }

    /// openraft calls these two only in its own tests; the host is started by its caller's runtime.
    fn new(threads: usize) -> Self {
        Self(TokioRuntime::new(threads))
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        self.0.block_on(future)
    }
}
