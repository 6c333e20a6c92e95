//! SIGTERM and Ctrl-C: the first asks the program to finish, the second ends it at once.

use std::{io, process};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
};

/// What shells and service managers expect of a program that a signal ended: 128 + SIGINT.
const INTERRUPTED: i32 = 130;

/// Takes both signals over from now on, and tells when the first one came. The second ends the
/// process on the spot, whatever it is doing.
///
/// # Errors
/// When the system does not let signals be handled. Must be called on a tokio runtime.
pub fn leave() -> io::Result<Leave> {
    let (tell, told) = watch::channel(false);
    let (term, interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::spawn(watch_signals(term, interrupt, tell));
    Ok(Leave(told))
}

async fn watch_signals(mut term: Signal, mut interrupt: Signal, tell: watch::Sender<bool>) {
    for first in [true, false] {
        tokio::select! {
            biased;
            _ = term.recv() => {}
            _ = interrupt.recv() => {}
        }
        if first {
            tracing::info!("stopping: finishing what is in flight; a second signal ends the program at once");
            tell.send_replace(true);
        } else {
            process::exit(INTERRUPTED);
        }
    }
}

/// Resolves when the program was asked to finish. Clones resolve together.
#[derive(Clone, Debug)]
pub struct Leave(watch::Receiver<bool>);

impl Leave {
    pub async fn asked(mut self) {
        // The sender is gone only when the runtime is.
        let _ = self.0.wait_for(|asked| *asked).await;
    }
}
