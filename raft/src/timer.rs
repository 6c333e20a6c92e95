//! Waiting for time to pass. In a node these are tokio's timers and nothing else; a simulation is told
//! when one goes off, and where in the code it was set. No other code of replication or of the actors
//! sets a timer, but the disk in memory, whose operations are told anyway: a test reads the sources.

#[cfg(not(feature = "simulation"))]
pub use tokio::time::{Sleep, Timeout, sleep, sleep_until, timeout, timeout_at};

#[cfg(feature = "simulation")]
pub use told::{Sleep, Timeout, sleep, sleep_until, timeout, timeout_at};

#[cfg(feature = "simulation")]
mod told {
    use std::{
        future::Future,
        panic::Location,
        pin::Pin,
        task::{Context, Poll, ready},
        time::Duration,
    };

    use tokio::time::{self, Instant, error::Elapsed};

    use crate::points;

    type Set = &'static Location<'static>;

    #[derive(Debug)]
    pub struct Sleep {
        set: Set,
        timer: Pin<Box<time::Sleep>>,
    }

    impl Sleep {
        pub fn reset(mut self: Pin<&mut Self>, deadline: Instant) {
            self.timer.as_mut().reset(deadline);
        }
    }

    impl Future for Sleep {
        type Output = ();

        fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
            ready!(self.timer.as_mut().poll(cx));
            points::timer(self.set);
            Poll::Ready(())
        }
    }

    #[track_caller]
    pub fn sleep(duration: Duration) -> Sleep {
        Sleep { set: Location::caller(), timer: Box::pin(time::sleep(duration)) }
    }

    #[track_caller]
    pub fn sleep_until(deadline: Instant) -> Sleep {
        Sleep { set: Location::caller(), timer: Box::pin(time::sleep_until(deadline)) }
    }

    /// What may take no longer than until a timer goes off.
    #[derive(Debug)]
    pub struct Timeout<F> {
        set: Set,
        work: Pin<Box<time::Timeout<F>>>,
    }

    impl<F: Future> Future for Timeout<F> {
        type Output = Result<F::Output, Elapsed>;

        fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
            let result = ready!(self.work.as_mut().poll(cx));
            if result.is_err() {
                points::timer(self.set);
            }
            Poll::Ready(result)
        }
    }

    #[track_caller]
    pub fn timeout<F: IntoFuture>(duration: Duration, work: F) -> Timeout<F::IntoFuture> {
        Timeout { set: Location::caller(), work: Box::pin(time::timeout(duration, work)) }
    }

    #[track_caller]
    pub fn timeout_at<F: IntoFuture>(deadline: Instant, work: F) -> Timeout<F::IntoFuture> {
        Timeout { set: Location::caller(), work: Box::pin(time::timeout_at(deadline, work)) }
    }
}
