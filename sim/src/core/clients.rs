//! Clients that repeat themselves, and market actors that forget.

use std::mem::discriminant;

use stakehold_actors::{
    api::WhichOrder,
    domain::{
        cell::views::Needed,
        command::{Admission, Command, Fund, Instruction, OrderKey, Replacement, Verdict},
        types::{
            AccountId, MarketId, MarketStatus, Minor, OrderId, OrderRequest, Persistence, Reference, RunnerId, Side,
        },
    },
};
use stakehold_raft::CellId;

use super::{Intent, REMEMBERED, Run, operator};
use crate::extremes;

impl Run {
    /// The actor hears that an instruction is short, if it is still alive.
    pub(super) fn fund_more(&mut self, key: &OrderKey, short: Minor, attempt: u8) {
        let known = self.instructions.iter().rev().find(|(instruction, _)| instruction.key() == *key);
        if let Some((instruction, good_until)) = known.cloned() {
            self.fund(instruction, good_until, short, attempt + 1);
        }
    }

    pub(super) fn fund(&mut self, instruction: Instruction, good_until: u64, amount: Minor, attempt: u8) {
        let Some(admission) = self.admission(&instruction, good_until) else { return };
        let cell = self.world.wallet_cell(instruction.account());
        if self.exacting {
            self.cap_it(cell, instruction.account(), amount);
        }
        let fund = Command::Fund(Fund { instruction, admission, attempt, amount });
        self.intents.push_back(Intent::Propose(cell, fund));
    }

    /// Of few amounts: from now on the account may have exactly that much more in markets, or a penny less.
    fn cap_it(&mut self, cell: CellId, account: AccountId, amount: Minor) {
        const SELDOM: i64 = 64;
        let less = amount.0 % SELDOM;
        let Some(wallet) = self.world.books.cell(cell).account_view(account).filter(|_| matches!(less, 0 | 1)) else {
            return;
        };
        let (cap, reference) = (wallet.in_markets + amount - Minor(less), self.reference());
        if cap.is_positive() {
            self.call(cell, Command::SetCap { account, cap: Some(cap), reference });
        }
    }

    pub(super) fn admission(&mut self, instruction: &Instruction, good_until: u64) -> Option<Admission> {
        let market = instruction.market();
        let cell = CellId(market.cell().filter(|cell| *cell < self.world.books.cells.count())?);
        let unknown = Admission { epoch: 1, cancel_epoch: 0, good_until };
        let account = instruction.account();
        Some(self.world.books.cell(cell).admission(account, market, good_until).unwrap_or(unknown))
    }

    /// One of the things that are meant happens, is lost, or happens and will happen again.
    pub(super) fn act(&mut self) {
        if self.intents.is_empty() {
            return self.order();
        }
        let which = self.rng.below(self.intents.len().min(8) as u64) as usize;
        let intent = self.intents.remove(which).unwrap();
        if self.rng.percent(10) {
            self.intents.push_back(intent.clone());
            self.intents.truncate(REMEMBERED);
        } else if self.rng.percent(5) {
            return;
        }
        match intent {
            Intent::Propose(cell, command) => {
                self.propose(cell, command);
            }
            Intent::Try(instruction) => self.attempt(instruction),
        }
    }

    /// What a market actor does with an order.
    pub(super) fn attempt(&mut self, instruction: Instruction) {
        let known = self.instructions.iter().rev().find(|(known, _)| *known == instruction);
        let good_until = known.map_or(self.now + 5_000, |(_, good_until)| *good_until);
        let Some(admission) = self.admission(&instruction, good_until) else { return };
        let cell = CellId(instruction.market().cell().unwrap());
        let needed = self.world.books.cell(cell).needed(&instruction);
        match needed {
            Needed::Funds(amount) if amount > Minor::ZERO => {
                // Sometimes the actor knew too little, and not enough comes.
                let amount =
                    if self.rng.percent(15) { Minor(1 + self.rng.below(amount.0 as u64) as i64) } else { amount };
                self.fund(instruction, good_until, amount, 1);
            }
            Needed::More { short, attempt } => self.fund(instruction, good_until, short, attempt + 1),
            Needed::Funds(_) | Needed::Verdict(_) => {
                let execute = Command::Execute { instruction: instruction.clone(), admission };
                if self.rng.percent(20) {
                    return self.intents.push_back(Intent::Propose(cell, execute));
                }
                self.propose(cell, execute);
            }
        }
    }

    /// The actor has the answer, and does what it asks for.
    pub(super) fn executed(&mut self, instruction: &Instruction, good_until: u64, verdict: &Verdict) {
        match verdict {
            Verdict::Accepted(_) if matches!(instruction, Instruction::Replace(_)) => self.count("replaced"),
            Verdict::NeedsFunds(amount) => self.fund(instruction.clone(), good_until, *amount, 1),
            Verdict::Pending { short, attempt } => self.fund(instruction.clone(), good_until, *short, attempt + 1),
            _ => {}
        }
    }

    /// Something that somebody means to tell this cell.
    pub(super) fn meant_for(&mut self, cell: CellId) -> Option<Command> {
        let for_it = |intent: &Intent| match intent {
            Intent::Try(instruction) => instruction.market().cell() == Some(cell.0),
            Intent::Propose(to, _) => *to == cell,
        };
        let at = self.intents.iter().position(for_it)?;
        match self.intents.remove(at)? {
            Intent::Propose(_, command) => Some(command),
            Intent::Try(instruction) => {
                let good_until = self.now + 5_000;
                let admission = self.admission(&instruction, good_until)?;
                Some(Command::Execute { instruction, admission })
            }
        }
    }

    pub(super) fn reference(&mut self) -> Reference {
        self.count += 1;
        Reference::new(&format!("r{}", self.count)).unwrap()
    }

    pub(super) fn account(&mut self) -> AccountId {
        *self.rng.pick(&self.accounts)
    }

    pub(super) fn market(&mut self) -> MarketId {
        if self.markets.is_empty() || self.rng.percent(1) {
            return MarketId::new(0, 999);
        }
        *self.rng.pick(&self.markets)
    }

    /// Mostly one that is open.
    pub(super) fn open_market(&mut self) -> MarketId {
        for _ in 0..3 {
            let market = self.market();
            let cell = self.world.books.cell(CellId(market.cell().unwrap()));
            if cell.market(market).is_some_and(|market| market.status() == MarketStatus::Open) {
                return market;
            }
        }
        self.market()
    }

    /// Mostly one that was not removed, and mostly one of the first two.
    fn runner(&mut self, market: MarketId) -> RunnerId {
        let any = self.some_runner();
        let view = market.cell().and_then(|cell| self.world.books.cell(CellId(cell)).market_view(market));
        let live = view.into_iter().flat_map(|view| view.runners).filter(|r| r.removed.is_none()).map(|r| r.runner);
        let live: Vec<RunnerId> = live.take(if self.rng.percent(90) { 2 } else { 4 }).collect();
        if live.is_empty() || self.rng.percent(5) { any } else { *self.rng.pick(&live) }
    }

    pub(super) fn remember(&mut self, instruction: Instruction) {
        let life = match self.rng.percent(10) {
            true => 400,
            // Longer than money is kept for an order that waits for more.
            false if self.exacting && self.count.is_multiple_of(2) => 60_000,
            false => 10_000,
        };
        self.instructions.push_back((instruction.clone(), self.now + 300 + self.rng.below(life)));
        if self.instructions.len() > REMEMBERED {
            self.instructions.pop_front();
        }
        self.intents.push_back(Intent::Try(instruction));
    }

    pub(super) fn order(&mut self) {
        const PRICES: [u32; 24] = [
            101, 150, 180, 196, 198, 198, 198, 198, 200, 200, 200, 200, 200, 200, 202, 202, 202, 202, 204, 220, 300,
            301, 400, 1000,
        ];
        let (account, reference) = (self.account(), self.reference());
        let market = self.open_market();
        if self.rng.percent(8) {
            return self.replace(account, market, reference);
        }
        let reference = self.used_elsewhere(account, market).unwrap_or(reference);
        let size = match self.rng.below(100) {
            0 => 0,
            1 => -5,
            2 => Minor::MAX_AMOUNT.0 + 1,
            _ => self.rng.between(1, 400),
        };
        // Exactly as much as may be.
        let size = if self.exacting && size > 0 && size % 16 == 0 { operator::MOST.0 } else { size };
        let fill_or_kill = self.rng.percent(15);
        let request = OrderRequest {
            account,
            market,
            runner: self.runner(market),
            side: if self.rng.percent(50) { Side::Back } else { Side::Lay },
            price: *self.rng.pick(&PRICES),
            size: Minor(size),
            persistence: if self.rng.percent(50) { Persistence::Lapse } else { Persistence::Persist },
            fill_or_kill,
            min_fill: (fill_or_kill && self.rng.percent(50)).then_some(Minor(1)),
            post_only: self.rng.percent(5),
            reference,
            index: self.rng.below(3) as u16,
        };
        self.remember(Instruction::Place(request));
    }

    /// A reference under which the account has ordered something in another market: here it means something else.
    fn used_elsewhere(&self, account: AccountId, market: MarketId) -> Option<Reference> {
        let mut said = self.instructions.iter().map(|(instruction, _)| instruction);
        let own = said.rfind(|said| said.account() == account && said.market() != market)?;
        (self.exacting && self.count.is_multiple_of(8)).then(|| own.reference().0.clone())
    }

    pub(super) fn own_order(&mut self, account: AccountId, market: MarketId) -> Option<OrderId> {
        let cell = CellId(market.cell()?);
        let orders = self.world.books.cell(cell).orders_of(account, Some(market));
        let open: Vec<_> = orders.into_iter().filter(|order| order.remaining.is_positive()).collect();
        if open.is_empty() { None } else { Some(self.rng.pick(&open).order) }
    }

    pub(super) fn replace(&mut self, account: AccountId, market: MarketId, reference: Reference) {
        let Some(order) = self.own_order(account, market) else { return };
        let price = [150, 198, 200, 202, 250, 500][self.rng.below(6) as usize];
        // Now and then between two steps of the ladder, or where what is left is too small to stand to gain a penny.
        let price = match self.count % 8 {
            0 if self.exacting => 301,
            2 | 4 | 6 if self.exacting => 101,
            _ => price,
        };
        self.remember(Instruction::Replace(Replacement { account, market, order, price, reference }));
    }

    /// Somebody repeats himself, through another node and perhaps with other words.
    pub(super) fn again(&mut self) {
        if self.rng.percent(30) {
            let which = self.rng.below(self.calls.len().max(1) as u64) as usize;
            let Some((cell, mut command)) = self.calls.get(which).cloned() else { return };
            if let (Command::Deposit { amount, .. } | Command::Withdraw { amount, .. }, true) =
                (&mut command, self.rng.percent(20))
            {
                *amount += Minor(1);
            }
            self.propose(cell, command);
            return;
        }
        let which = self.rng.below(self.instructions.len().max(1) as u64) as usize;
        let Some((mut instruction, good_until)) = self.instructions.get(which).cloned() else { return };
        if self.rng.percent(10) {
            in_other_words(&mut instruction);
        }
        match self.rng.below(3) {
            // Someone who believes that it must be funded again.
            0 => {
                let (amount, attempt) = (Minor(self.rng.between(1, 400)), 1 + self.rng.below(3) as u8);
                self.fund(instruction, good_until, amount, attempt);
            }
            _ => self.intents.push_back(Intent::Try(instruction)),
        }
    }

    /// Somebody sends what was said before with something in it that makes no sense. What is said seldom, as
    /// results are, comes as often as what is said all the time.
    pub(super) fn extreme(&mut self) {
        let mut kinds: Vec<Vec<&(CellId, Command)>> = vec![];
        for said in &self.said {
            match kinds.iter_mut().find(|kind| discriminant(&kind[0].1) == discriminant(&said.1)) {
                Some(kind) => kind.push(said),
                None => kinds.push(vec![said]),
            }
        }
        if kinds.is_empty() {
            return;
        }
        let kind = self.odd.below(kinds.len() as u64) as usize;
        let (cell, command) = (*self.odd.pick(&kinds[kind])).clone();
        if let Some(command) = extremes::twisted_command(&command, &mut self.odd) {
            self.count("extreme");
            // It may be twisted again, and what it makes is used like anything else.
            if let Verdict::MarketCreated(market) = self.propose(cell, command) {
                self.markets.push(market);
                self.propose(cell, Command::Open { market });
            }
        }
    }

    /// A call with a reference, sent once now, perhaps again later.
    pub(super) fn call(&mut self, cell: CellId, command: Command) -> Verdict {
        self.calls.push_back((cell, command.clone()));
        if self.calls.len() > REMEMBERED {
            self.calls.pop_front();
        }
        self.propose(cell, command)
    }

    pub(super) fn cash(&mut self) {
        let (account, reference) = (self.account(), self.reference());
        let cell = self.world.wallet_cell(account);
        let command = match self.rng.below(10) {
            0..4 => Command::Deposit { account, amount: Minor(self.rng.between(1, 600)), reference },
            4 => Command::Deposit { account, amount: Minor(self.rng.between(-1, 0)), reference },
            5..7 => Command::Withdraw { account, amount: Minor(self.rng.between(1, 900)), reference },
            // All there is: a corrected result will find nothing.
            7..9 => {
                let wallet = self.world.books.cell(cell).account_view(account).unwrap();
                Command::Withdraw { account, amount: wallet.available, reference }
            }
            _ if self.rng.percent(40) => {
                let discount_bp = self.rng.between(0, 10_400) as u32;
                Command::SetDiscount { account, discount_bp, reference }
            }
            _ => {
                let cap = self.rng.percent(40).then(|| Minor(self.rng.between(100, 2000)));
                Command::SetCap { account, cap, reference }
            }
        };
        self.call(cell, command);
    }

    pub(super) fn cancel(&mut self) {
        let (account, market) = (self.account(), self.market());
        let by_id = self.own_order(account, market).filter(|_| self.rng.percent(40)).map(WhichOrder::Id);
        let which = by_id.or_else(|| {
            let which = self.rng.below(self.instructions.len().max(1) as u64) as usize;
            let key = self.instructions.get(which)?.0.key();
            Some(WhichOrder::Reference(key.reference, key.index))
        });
        let Some(which) = which else { return };
        // By reference it is mostly the account's own, but the reference says nothing of the account.
        let owner = match &which {
            WhichOrder::Id(_) => (account, market),
            WhichOrder::Reference(reference, index) => {
                let mut keys = self.instructions.iter().map(|(instruction, _)| instruction.key());
                let key = keys.find(|key| key.reference == *reference && key.index == *index).unwrap();
                (key.account, key.market)
            }
        };
        let reduction = self.rng.percent(30).then(|| Minor(self.rng.between(-1, 200)));
        let in_funding = self.rng.percent(50);
        let Some(cell) = owner.1.cell().map(CellId) else { return };
        if let (WhichOrder::Reference(reference, index), true) = (&which, in_funding && self.exacting) {
            self.meant_anyway(reference, *index);
        }
        let cancel = Command::Cancel { account: owner.0, market: owner.1, which, reduction, in_funding };
        self.propose(cell, cancel);
    }

    /// What is cancelled comes all the same, and something else under its reference.
    fn meant_anyway(&mut self, reference: &Reference, index: u16) {
        let said = self.instructions.iter().map(|(instruction, _)| instruction);
        let of_it = |instruction: &&Instruction| instruction.reference() == (reference, index);
        let Some(instruction) = said.rev().find(of_it).cloned() else { return };
        let mut other = instruction.clone();
        in_other_words(&mut other);
        self.intents.extend([instruction, other].map(Intent::Try));
    }

    /// An order is to stay in play, or not to; now and then it is somebody else's.
    pub(super) fn persist(&mut self) {
        let (account, market) = (self.account(), self.market());
        let Some(order) = self.own_order(account, market) else { return };
        let account = if self.rng.percent(5) { self.account() } else { account };
        let persistence = if self.rng.percent(50) { Persistence::Lapse } else { Persistence::Persist };
        let Some(cell) = market.cell().map(CellId) else { return };
        self.propose(cell, Command::SetPersistence { account, market, order, persistence });
    }

    pub(super) fn cancel_many(&mut self) {
        let (account, market) = (self.account(), self.market());
        if self.rng.percent(50) {
            self.propose(self.world.wallet_cell(account), Command::CancelEverywhere { account });
        } else {
            self.propose(CellId(market.cell().unwrap()), Command::CancelAll { account, market });
        }
    }

    pub(super) fn heartbeat(&mut self) {
        let account = self.account();
        let timeout_ms = [0, 500, 2000, 10][self.rng.below(4) as usize];
        self.propose(self.world.wallet_cell(account), Command::Heartbeat { account, timeout_ms });
    }
}

/// Another content under the same reference.
fn in_other_words(instruction: &mut Instruction) {
    match instruction {
        Instruction::Place(order) => order.size += Minor(1),
        Instruction::Replace(replacement) => replacement.price = 300,
    }
}
