//! Each oracle is shown something that must not be, and says so. The cells themselves do right: what
//! is shown of their entries is altered, or a cell is exchanged for one with another past.

mod doctored;
mod parts;

use stakehold_actors::{
    api::WhichOrder,
    domain::{
        cell::Cell,
        command::{Admission, Command, Effect, Fund, Instruction, Verdict},
        types::{
            AccountId, EventId, MarketDefinition, MarketId, MarketResult, Minor, OrderRequest, Persistence, Reference,
            RunnerId, Side, WinFraction,
        },
    },
};
use stakehold_raft::{
    CellId, Cells,
    ids::kind,
    replica::{Ack, Applied, Batch, Item, Origin, Outcome},
};

use super::{Oracles, Violation};
use crate::books::{Books, Entry};

/// Wallets are in the first cell, the market in the second.
const WALLETS: CellId = CellId(0);
const MARKETS: CellId = CellId(1);

/// An entry as the oracles will be shown it.
struct Shown {
    acks: Vec<Ack>,
    items: Vec<Item<Command>>,
    outcomes: Vec<Outcome<Cell>>,
    effects: Vec<Effect>,
}

struct Case {
    books: Books,
    oracles: Oracles,
    stamp: u64,
    index: u64,
    count: u64,
    market: MarketId,
    /// Two accounts with 10,000 each.
    one: AccountId,
    two: AccountId,
}

fn reference(text: &str) -> Reference {
    Reference::new(text).expect("visible")
}

fn winner(runner: u64) -> MarketResult {
    let share = |n| WinFraction { numerator: u32::from(n == runner), denominator: 1 };
    MarketResult::Fractions((1..=3).map(|n| (RunnerId(n), share(n))).collect())
}

impl Case {
    fn new() -> Self {
        let cells = Cells::new(2).expect("a power of two");
        let placed = |kind, cell, from: u64| (from..).find(|key| cells.cell_of(kind, *key) == cell).expect("numbers");
        let one = placed(kind::ACCOUNT, WALLETS, 1);
        let two = placed(kind::ACCOUNT, WALLETS, one + 1);
        let definition = MarketDefinition {
            min_stake: Minor(1),
            max_stake: Minor(10_000),
            ..MarketDefinition::win(
                EventId(placed(kind::EVENT, MARKETS, 1)),
                "event",
                (1..=3).map(|n| (n, n.to_string())),
            )
        };
        let mut case = Self {
            books: Books::new(cells, |id| Cell::new(id, cells)),
            oracles: Oracles::new(cells),
            stamp: 1_000,
            index: 0,
            count: 0,
            market: MarketId(0),
            one: AccountId(one),
            two: AccountId(two),
        };
        for account in [case.one, case.two] {
            case.command(WALLETS, Command::CreateAccount { account, name: "u".into() });
            case.deposit(account, 10_000);
        }
        let create = Command::CreateMarket { definition: Box::new(definition), reference: reference("market") };
        let Verdict::MarketCreated(market) = case.command(MARKETS, create) else { panic!("no market") };
        case.market = market;
        case.command(MARKETS, Command::Open { market });
        case
    }

    /// Applies an entry and shows the oracles what `alter` makes of it.
    fn altered(
        &mut self,
        cell: CellId,
        acks: Vec<Ack>,
        items: Vec<Item<Command>>,
        alter: impl FnOnce(&mut Shown),
    ) -> Result<Shown, Violation> {
        let batch = Batch { stamp: self.stamp, origin: Origin::default(), acks, items };
        let bytes = postcard::to_stdvec(&batch).expect("plain data");
        let Applied { outcomes, effects, .. } =
            self.books.apply(cell, postcard::from_bytes(&bytes).expect("as written"));
        let mut shown = Shown { acks: batch.acks, items: batch.items, outcomes, effects };
        alter(&mut shown);
        self.index += 1;
        let entry = Entry {
            cell,
            term: 1,
            index: self.index,
            stamp: self.books.replica(cell).stamp(),
            acks: &shown.acks,
            items: &shown.items,
            outcomes: &shown.outcomes,
            effects: &shown.effects,
        };
        self.oracles.entry(&self.books, &entry)?;
        Ok(shown)
    }

    /// The oracle that finds what `alter` does to an entry, and what it says.
    fn caught(&mut self, cell: CellId, items: Vec<Item<Command>>, alter: impl FnOnce(&mut Shown)) -> Violation {
        self.altered(cell, vec![], items, alter).err().expect("this must be found")
    }

    fn items(&mut self, cell: CellId, items: Vec<Item<Command>>) -> Vec<Outcome<Cell>> {
        self.altered(cell, vec![], items, |_| {}).unwrap_or_else(|violation| panic!("{violation}")).outcomes
    }

    fn command(&mut self, cell: CellId, command: Command) -> Verdict {
        match self.items(cell, vec![Item::Command(command)]).remove(0) {
            Outcome::Verdict(verdict) => verdict,
            other => panic!("{other:?}"),
        }
    }

    fn name(&mut self) -> Reference {
        self.count += 1;
        reference(&format!("r{}", self.count))
    }

    fn deposit(&mut self, account: AccountId, amount: i64) {
        let reference = self.name();
        self.command(WALLETS, Command::Deposit { account, amount: Minor(amount), reference });
    }

    fn order(&mut self, account: AccountId, side: Side, price: u32, size: i64) -> Instruction {
        Instruction::Place(OrderRequest {
            account,
            market: self.market,
            runner: RunnerId(1),
            side,
            price,
            size: Minor(size),
            persistence: Persistence::Lapse,
            fill_or_kill: false,
            min_fill: None,
            post_only: false,
            reference: self.name(),
            index: 0,
        })
    }

    fn admission(&self, account: AccountId) -> Admission {
        self.books.cell(MARKETS).admission(account, self.market, self.stamp + 1_000).expect("the market is there")
    }

    /// Sends the money for an order on its way.
    fn fund(&mut self, instruction: &Instruction, amount: i64) {
        let admission = self.admission(instruction.account());
        let fund = Fund { instruction: instruction.clone(), admission, attempt: 1, amount: Minor(amount) };
        self.command(WALLETS, Command::Fund(fund));
    }

    /// What the wallets' cell has sent and the market's has not taken in, or the other way around.
    fn waiting(&self, from: CellId, to: CellId) -> Item<Command> {
        let watermark = self.books.replica(to).acknowledgement(from).through;
        Item::Deliver(self.books.replica(from).outgoing(to, watermark, 100).expect("something is under way"))
    }

    /// Places an order with so much money and carries everything there and back.
    fn place(&mut self, account: AccountId, side: Side, price: u32, size: i64) -> Instruction {
        let order = self.order(account, side, price, size);
        self.fund(&order, 5_000);
        let there = self.waiting(WALLETS, MARKETS);
        self.items(MARKETS, vec![there]);
        let back = self.waiting(MARKETS, WALLETS);
        self.items(WALLETS, vec![back]);
        order
    }

    fn execute(&mut self, instruction: &Instruction) -> Item<Command> {
        let admission = self.admission(instruction.account());
        Item::Command(Command::Execute { instruction: instruction.clone(), admission })
    }

    fn cancel(&self, order: &Instruction) -> Item<Command> {
        let which = WhichOrder::Reference(order.reference().0.clone(), 0);
        let (account, market) = (order.account(), self.market);
        Item::Command(Command::Cancel { account, market, which, reduction: None, in_funding: false })
    }

    fn settle(&mut self) {
        let settle = Command::Settle { market: self.market, result: winner(1), reference: self.name() };
        self.command(MARKETS, settle);
    }
}
