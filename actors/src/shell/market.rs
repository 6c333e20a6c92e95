//! The process of a market: takes in what is asked of it in the order of arrival, joins retries of
//! a reference to the one in flight, serves the bet delay, and hands each order to [`super::order`].

use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use stakehold_raft::mistake;
use tokio::sync::oneshot;

use super::{
    admission::Permit,
    desk::{Busy, Desk, OrderReply},
    exchange::Exchange,
    order::{Line, Run},
    wire::Failure,
};
use crate::domain::{
    command::{Command, Instruction, OrderKey, Verdict},
    types::MarketId,
};

pub(super) enum MarketMessage {
    /// An order, or a new price for one.
    Execute {
        exchange: Arc<Exchange>,
        request_id: u64,
        instruction: Instruction,
        good_until: u64,
        line: Line,
        reply: OrderReply,
        permit: Permit,
        busy: Busy,
    },
    /// Anything else: it does not wait for a bet delay, nor for money.
    Command { command: Command, reply: oneshot::Sender<Result<Verdict, Failure>>, permit: Permit, busy: Busy },
}

pub(super) struct MarketActor;

impl Actor for MarketActor {
    type Msg = MarketMessage;
    type State = (Arc<Desk>, MarketId);
    type Arguments = (Arc<Desk>, MarketId);

    async fn pre_start(
        &self,
        _: ActorRef<Self::Msg>,
        arguments: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        Ok(arguments)
    }

    async fn handle(
        &self,
        _: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let (desk, market) = state;
        match message {
            MarketMessage::Execute { exchange, request_id, instruction, good_until, line, reply, mut permit, busy } => {
                if desk.take_off(&instruction, reply) {
                    let desk = desk.clone();
                    let run = Run::begin(&desk, request_id, instruction, good_until, line);
                    tokio::spawn(async move {
                        run.fly(&desk, &exchange, &mut permit).await;
                        busy.end(desk.world.clock.now_ms());
                        if mistake!("market.permit_leaked") {
                            std::mem::forget(permit);
                        } else {
                            drop(permit);
                        }
                    });
                } else {
                    busy.end(desk.world.clock.now_ms());
                }
            }
            MarketMessage::Command { mut command, reply, permit, busy } => {
                if let Command::Cancel {
                    account,
                    which: crate::api::WhichOrder::Reference(reference, index),
                    in_funding,
                    ..
                } = &mut command
                {
                    let key =
                        OrderKey { account: *account, market: *market, reference: reference.clone(), index: *index };
                    *in_funding = desk.in_flight(&key);
                }
                let desk = desk.clone();
                tokio::spawn(async move {
                    // The caller may have gone; the verdict stands all the same.
                    if matches!(command, Command::Suspend { .. }) && mistake!("market.answers_before_commit") {
                        let _ = reply.send(Ok(Verdict::Done));
                        let _ = desk.propose(command).await;
                    } else {
                        let _ = reply.send(desk.propose(command).await);
                    }
                    if !mistake!("market.stays_awake") {
                        busy.end(desk.world.clock.now_ms());
                    }
                    drop(permit);
                });
            }
        }
        Ok(())
    }
}
