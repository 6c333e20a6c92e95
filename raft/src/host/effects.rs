//! Effects as they are applied, for feeds and whoever else listens. Nothing is kept for nobody.

use std::{fmt, sync::Arc};

use tokio::sync::broadcast::{self, error::RecvError};

use super::error::EffectsError;

/// What one entry told the world, the same on every replica.
pub struct Effects<E> {
    /// Index of the entry in the cell's log.
    pub index: u64,
    pub effects: Arc<Vec<E>>,
}

impl<E> Clone for Effects<E> {
    fn clone(&self) -> Self {
        Self { index: self.index, effects: self.effects.clone() }
    }
}

impl<E: fmt::Debug> fmt::Debug for Effects<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Effects").field("index", &self.index).field("effects", &self.effects).finish()
    }
}

/// What a listener is sent.
pub(super) enum Told<E> {
    Effects(Effects<E>),
    /// A snapshot took the place of so many entries.
    Gap(u64),
}

impl<E> Clone for Told<E> {
    fn clone(&self) -> Self {
        match self {
            Told::Effects(effects) => Told::Effects(effects.clone()),
            Told::Gap(missed) => Told::Gap(*missed),
        }
    }
}

/// One listener's place in a cell's effects.
pub struct Subscription<E>(broadcast::Receiver<Told<E>>);

impl<E> fmt::Debug for Subscription<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("waiting", &self.0.len()).finish()
    }
}

impl<E> Subscription<E> {
    pub(super) fn new(receiver: broadcast::Receiver<Told<E>>) -> Self {
        Self(receiver)
    }

    /// The next entry that had effects.
    ///
    /// # Errors
    /// When entries were missed, because this listener was too slow or a snapshot took their place,
    /// or when the cell has stopped.
    pub async fn next(&mut self) -> Result<Effects<E>, EffectsError> {
        match self.0.recv().await {
            Ok(Told::Effects(effects)) => Ok(effects),
            Ok(Told::Gap(missed)) | Err(RecvError::Lagged(missed)) => Err(EffectsError::Lagged(missed)),
            Err(RecvError::Closed) => Err(EffectsError::Closed),
        }
    }
}
