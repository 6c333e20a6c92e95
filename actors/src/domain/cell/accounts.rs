//! Commands of a wallet that concern nothing but itself: create, deposit, withdraw, cap, discount. Each that
//! moves money has one effect and one answer per reference.

use stakehold_raft::mistake;

use super::{Cell, turn::Turn};
use crate::{
    api::WalletReceipt,
    domain::{
        command::Verdict,
        content::content,
        format,
        ledger::Account,
        references::{Key, Known, Stored},
        settlement::BASIS_POINTS,
        types::{AccountId, Minor, Reference, Refusal},
        wallet::{LineKind, MAX_BALANCE, MAX_NAME},
    },
};

/// How the reference of a deposit begins that credits a penny too much, so that a test can see the
/// audit find it.
#[cfg(any(test, feature = "mispost"))]
const MISPOST: &str = "mispost";

/// Keeps one reference's calls of different kinds apart.
#[derive(serde::Serialize)]
enum Call {
    Deposit(Minor),
    Withdraw(Minor),
    Cap(Option<Minor>),
    Discount(u32),
}

impl Cell {
    pub(super) fn create_account(&mut self, account: AccountId, name: &str) -> Result<Verdict, Refusal> {
        if !self.holds_wallet(account) || !account.is_allowed() {
            return Err(Refusal::UnknownAccount);
        }
        let characters = self.format >= format::NAMES_IN_CHARACTERS || mistake!("format.rule_before_its_time");
        let length = if characters { name.chars().count() } else { name.len() };
        if length > MAX_NAME && !mistake!("account.name_of_any_length") {
            return Err(Refusal::InvalidDefinition);
        }
        self.wallets.create(account, name)?;
        Ok(Verdict::Done)
    }

    pub(super) fn deposit(
        &mut self,
        turn: &mut Turn<'_>,
        account: AccountId,
        amount: Minor,
        reference: &Reference,
    ) -> Result<Verdict, Refusal> {
        let stamp = turn.stamp;
        self.wallet_call(account, reference, &Call::Deposit(amount), amount, |cell| {
            check_amount(amount)?;
            let split = cell
                .wallets
                .change(account, |wallet| {
                    if wallet.available() + amount > MAX_BALANCE {
                        return Err(Refusal::InvalidAmount);
                    }
                    let split = wallet.credit(amount);
                    wallet.note(stamp, LineKind::Deposit, amount, None, Some(reference));
                    Ok(split)
                })
                .ok_or(Refusal::UnknownAccount)??;
            cell.head.books.measured.external -= i128::from(amount.0);
            turn.post(Account::External, Account::Wallet(account), split.available);
            turn.post(Account::External, Account::Owed(account), split.owed);
            #[cfg(any(test, feature = "mispost"))]
            if reference.as_str().starts_with(MISPOST) {
                cell.mispost(account);
            }
            Ok(())
        })
    }

    /// A penny out of nowhere: in the wallet, in no posting.
    #[cfg(any(test, feature = "mispost"))]
    fn mispost(&mut self, account: AccountId) {
        self.wallets.change(account, |wallet| wallet.credit(Minor(1)));
        self.head.books.misposted += 1;
    }

    pub(super) fn withdraw(
        &mut self,
        turn: &mut Turn<'_>,
        account: AccountId,
        amount: Minor,
        reference: &Reference,
    ) -> Result<Verdict, Refusal> {
        let stamp = turn.stamp;
        self.wallet_call(account, reference, &Call::Withdraw(amount), amount, |cell| {
            check_amount(amount)?;
            cell.wallets
                .change(account, |wallet| {
                    wallet.take(amount)?;
                    wallet.note(stamp, LineKind::Withdraw, amount, None, Some(reference));
                    Ok(())
                })
                .ok_or(Refusal::UnknownAccount)??;
            cell.head.books.measured.external += i128::from(amount.0);
            turn.post(Account::Wallet(account), Account::External, amount);
            Ok(())
        })
    }

    pub(super) fn set_cap(
        &mut self,
        account: AccountId,
        cap: Option<Minor>,
        reference: &Reference,
    ) -> Result<Verdict, Refusal> {
        self.wallet_call(account, reference, &Call::Cap(cap), cap.unwrap_or_default(), |cell| {
            if cap.is_some_and(|cap| cap.is_negative() || cap > MAX_BALANCE) {
                return Err(Refusal::InvalidAmount);
            }
            cell.wallets.change(account, |wallet| wallet.cap = cap).ok_or(Refusal::UnknownAccount)
        })
    }

    pub(super) fn set_discount(
        &mut self,
        account: AccountId,
        discount_bp: u32,
        reference: &Reference,
    ) -> Result<Verdict, Refusal> {
        self.wallet_call(account, reference, &Call::Discount(discount_bp), Minor::ZERO, |cell| {
            if i128::from(discount_bp) > BASIS_POINTS {
                return Err(Refusal::InvalidAmount);
            }
            cell.wallets.change(account, |wallet| wallet.discount_bp = discount_bp).ok_or(Refusal::UnknownAccount)
        })
    }

    /// Runs `act` if the reference is new, and remembers what came of it; else gives the first answer.
    fn wallet_call(
        &mut self,
        account: AccountId,
        reference: &Reference,
        call: &Call,
        amount: Minor,
        act: impl FnOnce(&mut Self) -> Result<(), Refusal>,
    ) -> Result<Verdict, Refusal> {
        if !self.holds_wallet(account) {
            return Err(Refusal::UnknownAccount);
        }
        let (key, content) = (Key::wallet(account, reference), content(call));
        let verdict = match self.called(key, content) {
            Known::Reused => return Err(Refusal::ReferenceReused),
            Known::Same(verdict) => verdict,
            Known::New => {
                let verdict = match act(self) {
                    Err(refusal) => Stored::Refused(refusal),
                    Ok(()) => {
                        let available = self.wallets.get(account).map_or(Minor::ZERO, |wallet| wallet.available());
                        Stored::Wallet { amount, available }
                    }
                };
                if !mistake!("wallet.reference_not_remembered") {
                    self.remember_call(key, content, &verdict);
                }
                verdict
            }
        };
        match verdict {
            Stored::Wallet { amount, available } => {
                Ok(Verdict::Wallet(WalletReceipt { account, reference: reference.clone(), amount, available }))
            }
            Stored::Refused(refusal) => Err(refusal),
            _ => Err(Refusal::ReferenceReused),
        }
    }
}

/// An amount that someone asks for.
fn check_amount(amount: Minor) -> Result<(), Refusal> {
    if amount.is_positive() && amount <= Minor::MAX_AMOUNT { Ok(()) } else { Err(Refusal::InvalidAmount) }
}
