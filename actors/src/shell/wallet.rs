//! The process of a wallet: takes in what concerns it in the order of arrival. What a wallet may
//! do is decided in its cell, not here.

use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use stakehold_raft::mistake;
use tokio::sync::oneshot;

use super::{
    admission::Permit,
    desk::{Busy, Desk},
    wire::Failure,
};
use crate::domain::command::{Command, Verdict};

pub(super) struct WalletMessage {
    pub command: Command,
    pub reply: oneshot::Sender<Result<Verdict, Failure>>,
    pub permit: Permit,
    pub busy: Busy,
}

pub(super) struct WalletActor;

impl Actor for WalletActor {
    type Msg = WalletMessage;
    type State = Arc<Desk>;
    type Arguments = Arc<Desk>;

    async fn pre_start(&self, _: ActorRef<Self::Msg>, desk: Arc<Desk>) -> Result<Self::State, ActorProcessingErr> {
        Ok(desk)
    }

    async fn handle(
        &self,
        _: ActorRef<Self::Msg>,
        message: WalletMessage,
        desk: &mut Arc<Desk>,
    ) -> Result<(), ActorProcessingErr> {
        let WalletMessage { command, reply, permit, busy } = message;
        let desk = desk.clone();
        tokio::spawn(async move {
            // The caller may have gone; the verdict stands all the same.
            if matches!(command, Command::Heartbeat { .. }) && mistake!("heartbeat.answered_before_commit") {
                let _ = reply.send(Ok(Verdict::Done));
                let _ = desk.propose(command).await;
            } else {
                let _ = reply.send(desk.propose(command).await);
            }
            busy.end(desk.world.clock.now_ms());
            drop(permit);
        });
        Ok(())
    }
}
