//! The snapshot of a small cell with something of everything in it, and that of a meta cell: what the
//! program of today makes of the same log, byte by byte, and that it comes back from what older
//! versions have written. The bytes have the streams to other cells in front, then the machine.
//!
//! A cell of a later format gets a line of its own; that of an earlier one stays, for its nodes still
//! write it until all of them know the later one.

use stakehold_actors::{
    api::WhichOrder,
    domain::{
        cell::Cell,
        command::{Command, Effect, Fund, Instruction, Verdict},
        format,
        types::{
            AccountId, EventId, MarketDefinition, MarketId, MarketResult, Minor, OrderRequest, Persistence, Refusal,
            RunnerId, Side, WinFraction,
        },
    },
};
use stakehold_raft::{
    CellId, Cells, Machine, NodeId,
    ids::kind,
    meta::{Founding, Member, MetaCommand, MetaOr, MetaVerdict, WithMeta},
    replica::{Applied, Batch, Item, Origin, Outcome, Replica},
};

use crate::{commands::definition, lines::check, reference};

type Node = WithMeta<Cell>;
type Items = Vec<Item<MetaOr<MetaCommand, Command>>>;

const START: u64 = 1_700_000_000_000;
const HERE: CellId = CellId(0);
const THERE: CellId = CellId(1);

fn two() -> Cells {
    Cells::new(2).unwrap()
}

fn empty(cell: CellId) -> Replica<Node> {
    Replica::new(cell, WithMeta::Cell(Cell::new(cell, two())))
}

fn snapshot(replica: &Replica<Node>) -> Vec<u8> {
    replica.freeze().snapshot().flatten().collect()
}

/// What comes back from these bytes, and whether that is what `from` is.
fn same(from: &Replica<Node>, bytes: &[u8]) -> Result<(), String> {
    let restored = from.restore(bytes).map_err(|e| format!("does not come back: {e}"))?;
    if restored.digest() != from.digest() {
        return Err("comes back as another state".into());
    }
    if snapshot(&restored) != bytes {
        return Err("comes back, and is written differently then".into());
    }
    Ok(())
}

/// Two cells; each entry is a millisecond after the one before.
struct Pair {
    replicas: [Replica<Node>; 2],
    now: u64,
}

impl Pair {
    fn apply(&mut self, cell: CellId, items: Items) -> Applied<Node> {
        self.now += 1;
        let batch = Batch { stamp: self.now, origin: Origin::default(), acks: vec![], items };
        self.replicas[usize::from(cell.0)].apply(batch)
    }

    fn told(&mut self, cell: CellId, command: Command) -> (Verdict, Vec<Effect>) {
        let mut applied = self.apply(cell, vec![Item::Command(MetaOr::Cell(command))]);
        match applied.outcomes.pop() {
            Some(Outcome::Verdict(MetaOr::Cell(verdict))) => (verdict, applied.effects),
            other => panic!("a command has a verdict, not {other:?}"),
        }
    }

    fn run(&mut self, cell: CellId, command: Command) -> Verdict {
        self.told(cell, command).0
    }

    fn account(&mut self, cell: CellId, from: u64, name: &str) -> AccountId {
        let account = AccountId(placed(kind::ACCOUNT, cell, from));
        assert_eq!(self.run(cell, Command::CreateAccount { account, name: name.into() }), Verdict::Done);
        let deposit = Command::Deposit { account, amount: Minor(100_000), reference: reference("opening") };
        assert!(matches!(self.run(cell, deposit), Verdict::Wallet(_)));
        account
    }

    fn market(&mut self, name: &str, definition: MarketDefinition) -> MarketId {
        let create = Command::CreateMarket { definition: Box::new(definition), reference: reference(name) };
        let Verdict::MarketCreated(market) = self.run(HERE, create) else { panic!("no market") };
        assert_eq!(self.run(HERE, Command::Open { market }), Verdict::Done);
        market
    }

    /// Money goes out with an order, which is decided or waits in the same entry if it is all in one cell.
    fn bet(&mut self, cell: CellId, order: OrderRequest, amount: i64) -> Vec<Effect> {
        let market = self.replicas[0].machine().cell();
        let admission = market.admission(order.account, order.market, self.now + 1_000).unwrap();
        let fund = Fund { instruction: Instruction::Place(order), admission, attempt: 1, amount: Minor(amount) };
        let (verdict, effects) = self.told(cell, Command::Fund(fund));
        assert_eq!(verdict, Verdict::Funding);
        effects
    }

    /// Carries what waits from one cell to the other; nobody acknowledges it.
    fn carry(&mut self, from: CellId, to: CellId) {
        let replicas = &self.replicas;
        let after = replicas[usize::from(to.0)].acknowledgement(from).through;
        let delivery = replicas[usize::from(from.0)].outgoing(to, after, 100).expect("something waits");
        let applied = self.apply(to, vec![Item::Deliver(delivery)]);
        assert!(matches!(applied.outcomes[0], Outcome::Receipt(receipt) if !receipt.refused));
    }
}

fn placed(kind: u8, cell: CellId, from: u64) -> u64 {
    (from..).find(|key| two().cell_of(kind, *key) == cell).unwrap()
}

fn order(
    account: AccountId,
    market: MarketId,
    (runner, side): (u64, Side),
    price: u32,
    size: i64,
    name: &str,
) -> OrderRequest {
    OrderRequest {
        account,
        market,
        runner: RunnerId(runner),
        side,
        price,
        size: Minor(size),
        persistence: Persistence::Lapse,
        fill_or_kill: false,
        min_fill: None,
        post_only: false,
        reference: reference(name),
        index: 0,
    }
}

fn winner(runner: u64, of: &[u64]) -> MarketResult {
    let fraction = |id| WinFraction { numerator: u32::from(id == runner), denominator: 1 };
    MarketResult::Fractions(of.iter().map(|id| (RunnerId(*id), fraction(*id))).collect())
}

fn accepted(effects: &[Effect]) -> bool {
    effects.iter().any(|effect| matches!(effect, Effect::OrderDecided { outcome: Ok(_), .. }))
}

/// Wallets with lines of most kinds; a market with orders that rest, were matched
/// and were cut, and with money that is held; one that was settled after a non-runner, and one whose
/// settlement is due; references of every kind; an audit on its way, and streams both ways.
fn lived_in() -> Replica<Node> {
    lived_in_since(format::FIRST)
}

/// The same in cells that had this format before anything was in them.
fn lived_in_since(format: u16) -> Replica<Node> {
    use Side::{Back, Lay};
    let mut pair = Pair { replicas: [empty(HERE), empty(THERE)], now: START };
    if format > format::FIRST {
        for cell in [HERE, THERE] {
            assert_eq!(pair.run(cell, Command::Raise { format }), Verdict::Done);
        }
    }
    let ada = pair.account(HERE, 1, "Ada");
    let ben = pair.account(HERE, ada.0 + 1, "Ben");
    let eve = pair.account(THERE, 1, "Eve");
    for command in [
        Command::SetCap { account: ada, cap: Some(Minor(90_000)), reference: reference("cap") },
        Command::SetDiscount { account: ada, discount_bp: 1_000, reference: reference("discount") },
        Command::Heartbeat { account: ada, timeout_ms: 60_000 },
        Command::Withdraw { account: ben, amount: Minor(1_000), reference: reference("out") },
    ] {
        assert!(!matches!(pair.run(HERE, command), Verdict::Refused(_)));
    }
    let too_much = Command::Withdraw { account: ben, amount: Minor(900_000), reference: reference("too-much") };
    assert_eq!(pair.run(HERE, too_much), Verdict::Refused(Refusal::InsufficientFunds));

    let event = |from| EventId(placed(kind::EVENT, HERE, from));
    let first = event(1);
    let race = pair.market("race", MarketDefinition { event: first, winners: 1, ..definition() });
    let plain = |event| MarketDefinition { event, winners: 1, start: None, market_cap: None, ..definition() };
    let settled = pair.market("settled", plain(first));
    let due = pair.market("due", plain(event(first.0 + 1)));

    assert!(accepted(&pair.bet(HERE, order(ada, race, (301, Back), 350, 2_000, "back"), 2_000)));
    assert!(accepted(&pair.bet(HERE, order(ben, race, (301, Lay), 350, 1_200, "lay"), 3_000)));
    assert!(accepted(&pair.bet(HERE, order(ben, race, (302, Lay), 200, 500, "rest"), 500)));
    let cut = Command::Cancel {
        account: ada,
        market: race,
        which: WhichOrder::Reference(reference("back"), 0),
        reduction: Some(Minor(300)),
        in_funding: false,
    };
    assert!(matches!(pair.run(HERE, cut), Verdict::Cancelled { cancelled: Minor(300), .. }));
    pair.bet(THERE, order(eve, race, (302, Back), 200, 200, "far"), 200);
    pair.bet(THERE, order(eve, race, (301, Back), 1_000, 100, "farther"), 100);
    pair.carry(THERE, HERE);
    assert!(matches!(pair.run(HERE, Command::CancelAll { account: eve, market: race }), Verdict::CancelledAll { .. }));

    for (market, name) in [(settled, "s"), (due, "d")] {
        assert!(accepted(&pair.bet(HERE, order(ada, market, (302, Back), 300, 1_000, &format!("{name}1")), 1_000)));
        assert!(accepted(&pair.bet(HERE, order(ben, market, (302, Lay), 300, 1_000, &format!("{name}2")), 2_000)));
    }
    let remove = Command::RemoveRunner {
        market: settled,
        runner: RunnerId(303),
        factor: 10_000,
        reference: reference("remove"),
    };
    assert_eq!(pair.run(HERE, remove), Verdict::Done);
    let settle = |market, result| Command::Settle { market, result, reference: reference(&format!("settle-{market}")) };
    assert_eq!(pair.run(HERE, settle(settled, winner(302, &[301, 302]))), Verdict::Done);

    let waits = pair.bet(HERE, order(ben, race, (303, Back), 500, 30_000, "short"), 1_500);
    assert!(waits.iter().any(|effect| matches!(effect, Effect::OrderPending { .. })));
    let in_advance = Command::Cancel {
        account: ada,
        market: race,
        which: WhichOrder::Reference(reference("never"), 0),
        reduction: None,
        in_funding: true,
    };
    assert!(matches!(pair.run(HERE, in_advance), Verdict::Cancelled { order: None, .. }));
    assert_eq!(pair.run(HERE, Command::Marker { audit: 7 }), Verdict::Done);
    assert_eq!(pair.run(HERE, settle(due, winner(301, &[301, 302, 303]))), Verdict::Done);

    let [replica, _] = pair.replicas;
    let cell = replica.machine().cell();
    assert_eq!(cell.held(ben, race), Minor(1_500));
    assert_eq!(cell.audit(7), None, "a marker is still to come");
    assert_eq!(cell.market_view(settled).unwrap().settlement, 1);
    assert_eq!(cell.next_deadline(), Some(pair.now), "a settlement goes on");
    assert!(replica.outgoing(THERE, 0, 100).is_some() && replica.acknowledgement(THERE).through == 2);
    let lines = |account| cell.statement(account, None, 50).unwrap().into_iter().map(|line| line.kind);
    let mut kinds: Vec<String> = lines(ada).chain(lines(ben)).collect();
    kinds.sort();
    kinds.dedup();
    assert_eq!(kinds, ["deposit", "fund", "release", "settle", "withdraw"]);
    replica
}

fn founded() -> Replica<Node> {
    let mut replica = Replica::new(CellId::META, WithMeta::Meta(Default::default()));
    let member = |weight| Member { incarnation: 3, zone: "north".into(), weight };
    let put = |key| MetaCommand::Put { space: "token".into(), key: vec![key; 2], value: vec![1, 77], expect: None };
    let founding = Founding {
        cluster: "a-cluster".into(),
        cells: two(),
        members: [(NodeId(1), member(100)), (NodeId(2), member(50))].into(),
        placement: [(HERE, vec![NodeId(1), NodeId(2)]), (CellId::META, vec![NodeId(2)])].into(),
    };
    for (stamp, command) in (START..).zip([MetaCommand::Found(founding), put(5), put(6), put(5)]) {
        let items = vec![Item::Command(MetaOr::Meta(command))];
        let applied = replica.apply(Batch { stamp, origin: Origin::default(), acks: vec![], items });
        assert!(matches!(applied.outcomes[..], [Outcome::Verdict(MetaOr::Meta(MetaVerdict::Done(_)))]));
        assert!(applied.effects.is_empty() && applied.sent_to.is_empty());
    }
    replica
}

#[test]
#[cfg_attr(feature = "mispost", ignore = "a cell that can be misposted has a field more")]
fn a_snapshot_is_what_it_ever_was_and_comes_back() {
    check("snapshots.txt", include_str!("snapshots.txt"), |lines| {
        let raised = |format| {
            let mut replica = lived_in();
            let raise = Item::Command(MetaOr::Cell(Command::Raise { format }));
            replica.apply(Batch { stamp: START, origin: Origin::default(), acks: vec![], items: vec![raise] });
            replica
        };
        let cells = [
            ("cell of format 1", lived_in()),
            ("cell of format 2", raised(format::NAMES_IN_CHARACTERS)),
            ("cell of format 3 that was raised to it", raised(format::ANSWERS_BY_MARKET)),
            ("cell of format 3", lived_in_since(format::ANSWERS_BY_MARKET)),
            ("meta cell", founded()),
        ];
        for (name, replica) in cells {
            lines.read(name, &snapshot(&replica), |line| same(&replica, line));
            // Replicas of different versions must not take each other for diverged (I7).
            lines.read(&format!("hash of the {name}"), &replica.digest(), |_| Ok(()));
        }
    });
}
