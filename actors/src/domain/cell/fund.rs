//! The wallet's side of the money protocol: money goes out with an instruction, and comes back.

use stakehold_raft::{mistake, reached};

use super::{Cell, turn::Turn};
use crate::domain::{
    command::{CollectLine, CreditLine, Fund, Funded, Message, Verdict},
    ledger::Account,
    types::{AccountId, MarketId, Minor, Refusal},
    wallet::{LineKind, MAX_BALANCE},
};

impl Cell {
    /// Takes the money and sends it with the instruction. A wallet that cannot pay sends the
    /// instruction without: the market's cell alone decides, and its margin may suffice by then.
    pub(super) fn fund(&mut self, turn: &mut Turn<'_>, fund: Fund) -> Result<Verdict, Refusal> {
        let Fund { instruction, admission, attempt, amount } = fund;
        let (account, market) = (instruction.account(), instruction.market());
        if !self.holds_wallet(account) {
            return Err(Refusal::UnknownAccount);
        }
        let to = self.market_cell(market).ok_or(Refusal::UnknownMarket)?;
        if !amount.is_positive() || amount > MAX_BALANCE || attempt == 0 {
            return Err(Refusal::InvalidAmount);
        }
        if turn.congested(to) {
            return Ok(Verdict::Busy);
        }
        let taken = if turn.stamp > admission.good_until {
            Err(Refusal::Expired)
        } else {
            self.take_for_market(turn, account, market, amount)
        };
        let (amount, refusal) = match taken {
            Ok(()) => (amount, None),
            Err(refusal) => (Minor::ZERO, Some(refusal)),
        };
        let discount_bp = self.wallets.get(account).map_or(0, |wallet| wallet.discount_bp);
        let funded = Funded { instruction, admission, attempt, amount, refusal, discount_bp };
        reached!("fund.wallet_could_not_pay", refusal.is_some());
        if to == self.head.id {
            reached!("fund.within_a_cell");
            turn.post(Account::Wallet(account), Account::Held(market, account), amount);
            self.arrive(turn, funded);
        } else {
            reached!("fund.sent");
            turn.post(Account::Wallet(account), self.transit_to(to), amount);
            self.send(turn, to, Message::Funded(funded));
        }
        Ok(Verdict::Funding)
    }

    fn take_for_market(
        &mut self,
        turn: &Turn<'_>,
        account: AccountId,
        market: MarketId,
        amount: Minor,
    ) -> Result<(), Refusal> {
        self.wallets
            .change(account, |wallet| {
                let least = if mistake!("wallet.cap_refuses_what_fits") { amount + Minor(1) } else { amount };
                let above = wallet.cap.is_some_and(|cap| wallet.in_markets() + least > cap);
                if above && !mistake!("wallet.cap_not_checked") {
                    return Err(Refusal::AccountCap);
                }
                wallet.take(amount)?;
                wallet.moved(market, amount);
                wallet.note(turn.stamp, LineKind::Fund, amount, Some(market), None);
                Ok(())
            })
            .ok_or(Refusal::UnknownAccount)?
    }

    /// Money of a market has come back from another cell.
    pub(super) fn credits(
        &mut self,
        turn: &mut Turn<'_>,
        from: stakehold_raft::CellId,
        market: MarketId,
        lines: &[CreditLine],
    ) {
        for line in lines {
            self.credit_wallet(turn, self.transit_from(from), market, line);
        }
    }

    /// A market in another cell must have money.
    pub(super) fn collect(
        &mut self,
        turn: &mut Turn<'_>,
        from: stakehold_raft::CellId,
        market: MarketId,
        lines: &[CollectLine],
    ) {
        for line in lines {
            self.charge_wallet(turn, self.transit_from(from), market, line);
        }
    }

    /// The accounts have nothing in the market any more. One whose money is just on its way there
    /// keeps it in mind: the market will say so again when it sends that back.
    pub(super) fn left(&mut self, market: MarketId, accounts: &[AccountId]) {
        for account in accounts {
            self.wallets.change(*account, |wallet| wallet.left(market));
        }
    }
}
