//! What travels from cell to cell: it waits in outboxes, in snapshots too, and may be older than the
//! program that takes it in.

use stakehold_actors::domain::{
    command::{CollectKind, CollectLine, CreditKind, CreditLine, Funded, Message},
    types::{AccountId, Minor, Refusal},
};

use crate::{
    ACCOUNT, MARKET, admission,
    lines::{check, variants},
    place, replace,
};

#[test]
fn a_message_between_cells_is_what_it_ever_was() {
    let credit = |kind, amount| CreditLine { account: ACCOUNT, amount: Minor(amount), kind, left_market: Minor(90) };
    let collect = |kind| CollectLine { account: ACCOUNT, amount: Minor(250), kind };
    check("messages.txt", include_str!("messages.txt"), |lines| {
        variants!(lines, Message {
            "funded": Message::Funded(_) => Message::Funded(Funded {
                instruction: place(),
                admission: admission(),
                attempt: 1,
                amount: Minor(5_000),
                refusal: None,
                discount_bp: 2_500,
            }),
            "not funded": Message::Funded(_) => Message::Funded(Funded {
                instruction: replace(),
                admission: admission(),
                attempt: 3,
                amount: Minor(0),
                refusal: Some(Refusal::InsufficientFunds),
                discount_bp: 0,
            }),
            "credits": Message::Credits { .. } => Message::Credits {
                market: MARKET,
                lines: vec![
                    credit(CreditKind::Release, 100),
                    credit(CreditKind::Return, 200),
                    credit(CreditKind::Settlement, 300),
                    credit(CreditKind::Correction, -400),
                ],
            },
            "collect": Message::Collect { .. } => Message::Collect {
                market: MARKET,
                lines: vec![collect(CollectKind::NonRunner), collect(CollectKind::Correction)],
            },
            "cancel all": Message::CancelAll { .. } => Message::CancelAll { account: ACCOUNT, market: MARKET },
            "left": Message::Left { .. } => Message::Left { market: MARKET, accounts: vec![ACCOUNT, AccountId(78)] },
            "marker": Message::Marker { .. } => Message::Marker { audit: 300 },
        });
    });
}
