//! The meta cell from an exchange's side: whose token is whose, and changes of its records through
//! whichever node leads it.

use std::sync::Arc;

use stakehold_raft::{
    CellId,
    meta::{MetaCommand, MetaOr, MetaVerdict},
    mistake, plain, timer,
};

use super::{
    desk::failure,
    exchange::{Exchange, RETRY},
    wire::{Answer, Ask, Failure},
};
use crate::api::{ApiError, Principal};

/// Name space of the meta cell's records that map a token's hash to a [`Principal`].
const TOKENS: &str = "token";

impl Exchange {
    /// Who the token with this hash belongs to, as far as this node knows.
    pub fn principal(&self, token_hash: &[u8; 32]) -> Option<Principal> {
        let meta = self.host.cell(CellId::META)?;
        meta.read(|replica| {
            let meta = replica.machine().meta();
            let record = match meta.record(TOKENS, token_hash) {
                None if mistake!("token.unknown_is_the_first") => meta.records(TOKENS).next()?.1,
                record => record?,
            };
            plain::read(&record.value).ok()
        })
    }

    /// Remembers a token by its hash.
    ///
    /// # Errors
    /// When the meta cell has no leader within the usual deadline.
    pub async fn create_token(self: &Arc<Self>, principal: Principal, token_hash: [u8; 32]) -> Result<(), ApiError> {
        let value = postcard::to_stdvec(&principal).expect("plain data");
        let command = MetaCommand::Put { space: TOKENS.into(), key: token_hash.to_vec(), value, expect: None };
        self.change_meta(command).await.map(|_| ())
    }

    /// Changes the meta cell, through whichever node leads it.
    ///
    /// # Errors
    /// What the meta cell says, that it has no leader within the usual deadline, or that the outcome is open.
    pub async fn change_meta(self: &Arc<Self>, command: MetaCommand) -> Result<u64, ApiError> {
        let good_until = self.usual_deadline();
        // What was asked before may have been carried out; a record that has changed may have changed by it.
        let mut open = false;
        loop {
            let failure = match self.host.leader_of(CellId::META) {
                Some(node) if node == self.world.node => match self.meta_here(command.clone()).await {
                    Ok(version) => return Ok(version),
                    Err(failure) => failure,
                },
                Some(node) => match self.ask(node, &Ask::Meta(command.clone()), good_until).await {
                    Ok(Answer::Meta(version)) => return Ok(version),
                    Ok(Answer::Failed(failure)) => failure,
                    Ok(_) => Failure::Api(ApiError::Unavailable),
                    Err(failure) => failure,
                },
                None => Failure::NotLeader(None),
            };
            match failure {
                Failure::Api(ApiError::Unknown) => open = true,
                Failure::NotLeader(_) | Failure::Api(ApiError::Unavailable) => {}
                Failure::Api(_) if open => return Err(ApiError::Unknown),
                Failure::Api(error) => return Err(error),
            }
            if self.world.clock.now_ms() >= good_until {
                return Err(if open { ApiError::Unknown } else { ApiError::Unavailable });
            }
            timer::sleep(RETRY).await;
        }
    }

    pub(super) async fn meta_here(&self, command: MetaCommand) -> Result<u64, Failure> {
        let meta = self.host.cell(CellId::META).ok_or(Failure::NotLeader(None))?;
        match meta.propose(MetaOr::Meta(command)).map_err(failure)?.await.map_err(failure)? {
            MetaOr::Meta(MetaVerdict::Done(version)) => Ok(version),
            MetaOr::Meta(MetaVerdict::Conflict(version)) => {
                Err(ApiError::Invalid(format!("the record has changed: its version is {version} now")).into())
            }
            MetaOr::Meta(MetaVerdict::Refused(sentence)) => Err(ApiError::Invalid(sentence).into()),
            MetaOr::Cell(_) => Err(Failure::Api(ApiError::Unavailable)),
        }
    }
}
