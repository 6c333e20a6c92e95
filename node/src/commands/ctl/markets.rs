//! `ctl markets`.

use clap::{Args, Subcommand};
use stakehold_actors::{
    api::{BookView, MarketSummary, MarketView, Request, Response},
    domain::types::{
        EventId, MarketDefinition, MarketId, MarketResult, Minor, Reference, RunnerDefinition, RunnerId, WinFraction,
    },
};

use super::{Output, Session, parse, show, unexpected};
use crate::{client::ClientError, http::json::markets::outright};

#[derive(Debug, Subcommand)]
pub enum MarketsCommand {
    /// Create a market.
    #[command(
        after_help = "Example:\n  stakehold ctl markets create --name Winner --runner 'Bold Venture' --runner Omaha \
                            --commission 5 --open"
    )]
    Create(Box<CreateArgs>),
    /// All markets.
    List,
    /// A market with its state and runners.
    Show {
        /// The market's number.
        #[arg(value_parser = parse::market)]
        market: MarketId,
    },
    /// What is on offer.
    Book {
        /// The market's number.
        #[arg(value_parser = parse::market)]
        market: MarketId,
        /// Levels to show on each side.
        #[arg(long, default_value_t = 3)]
        depth: usize,
    },
    /// Open a market, or open it again.
    Open {
        /// The market's number.
        #[arg(value_parser = parse::market)]
        market: MarketId,
    },
    /// Suspend a market: no new orders, cancels still work.
    Suspend {
        /// The market's number.
        #[arg(value_parser = parse::market)]
        market: MarketId,
    },
    /// Turn a market in-play, which cancels its LAPSE orders.
    InPlay {
        /// The market's number.
        #[arg(value_parser = parse::market)]
        market: MarketId,
        /// Seconds a new order waits; the definition's if left out.
        #[arg(long, value_name = "SECONDS")]
        bet_delay: Option<u16>,
    },
    /// Settle a market with its result.
    #[command(after_help = "Examples:\n  stakehold ctl markets settle 100000001 --winner 1\n  \
                            stakehold ctl markets settle 100000001 --fraction 1=1/2 --fraction 2=1/2 --fraction 3=0")]
    Settle(SettleArgs),
    /// Correct a settlement that is not final.
    Resettle(SettleArgs),
    /// Give everyone back what they put in.
    Void {
        /// The market's number.
        #[arg(value_parser = parse::market)]
        market: MarketId,
        /// Makes a retry safe: the same reference voids only once.
        #[arg(long, value_parser = parse::reference)]
        reference: Option<Reference>,
    },
    /// Remove a non-runner, with its reduction factor in per cent.
    #[command(after_help = "Example:\n  stakehold ctl markets remove-runner 100000001 3 --factor 16.2")]
    RemoveRunner {
        /// The market's number.
        #[arg(value_parser = parse::market)]
        market: MarketId,
        /// The runner's number in this market.
        #[arg(value_parser = parse::runner)]
        runner: RunnerId,
        /// What is taken off the odds of bets matched before, such as 16.2.
        #[arg(long, value_name = "PER CENT", value_parser = parse::thousandths)]
        factor: u32,
        /// Makes a retry safe: the same reference removes only once.
        #[arg(long, value_parser = parse::reference)]
        reference: Option<Reference>,
    },
    /// Make a settlement final: the market forgets its orders and can be resettled no more.
    Finalise {
        /// The market's number.
        #[arg(value_parser = parse::market)]
        market: MarketId,
    },
}

#[derive(Debug, Args)]
pub struct CreateArgs {
    /// What people call it.
    #[arg(long)]
    name: String,
    /// Number of the event; its markets live together.
    #[arg(long, default_value_t = 1)]
    event: u64,
    /// What people call the event.
    #[arg(long, default_value = "")]
    event_name: String,
    /// What is bet on, in a word, such as MATCH_ODDS.
    #[arg(long, default_value = "WIN")]
    market_type: String,
    /// NAME, or NUMBER=NAME; once for each runner.
    #[arg(long = "runner", required = true, value_parser = parse::named_runner)]
    runners: Vec<(Option<RunnerId>, String)>,
    /// How many runners win.
    #[arg(long, default_value_t = 1)]
    winners: u16,
    /// A runner that is not listed may win.
    #[arg(long)]
    incomplete: bool,
    /// Seconds a new order waits in play.
    #[arg(long, default_value_t = 0, value_name = "SECONDS")]
    bet_delay: u16,
    /// The smallest stake of an order.
    #[arg(long, default_value = "1.00", value_parser = parse::amount)]
    min_stake: Minor,
    /// The largest stake of an order.
    #[arg(long, default_value = "10000000000.00", value_parser = parse::amount)]
    max_stake: Minor,
    /// Of a positive net, in per cent.
    #[arg(long, default_value = "0", value_name = "PER CENT", value_parser = parse::basis_points)]
    commission: u32,
    /// When it suspends itself, in milliseconds since the Unix epoch.
    #[arg(long)]
    start: Option<u64>,
    /// Largest exposure of an account in this market.
    #[arg(long, value_parser = parse::amount)]
    market_cap: Option<Minor>,
    /// Largest exposure of an account over the markets of the event.
    #[arg(long, value_parser = parse::amount)]
    event_cap: Option<Minor>,
    /// Open it at once.
    #[arg(long)]
    open: bool,
    /// Makes a retry safe: the same reference creates only once.
    #[arg(long, value_parser = parse::reference)]
    reference: Option<Reference>,
}

#[derive(Debug, Args)]
pub struct SettleArgs {
    /// The market's number.
    #[arg(value_parser = parse::market)]
    market: MarketId,
    #[command(flatten)]
    result: ResultArgs,
    /// Makes a retry safe: the same reference settles only once.
    #[arg(long, value_parser = parse::reference)]
    reference: Option<Reference>,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct ResultArgs {
    /// This runner won outright; all that are not named lost. Several for several places.
    #[arg(long = "winner", value_name = "RUNNER", value_parser = parse::runner)]
    winners: Vec<RunnerId>,
    /// RUNNER=SHARE such as 3=1/2, for each runner, in a dead heat.
    #[arg(long = "fraction", value_name = "RUNNER=SHARE", value_parser = parse::fraction)]
    fractions: Vec<(RunnerId, WinFraction)>,
    /// Give everyone back what they put in.
    #[arg(long)]
    void: bool,
}

impl CreateArgs {
    /// Runners without a number get the lowest that is free, in order.
    fn definition(self) -> MarketDefinition {
        let taken: Vec<RunnerId> = self.runners.iter().filter_map(|(id, _)| *id).collect();
        let mut free = (1..).map(RunnerId).filter(|id| !taken.contains(id));
        let runner = |(id, name): (Option<RunnerId>, String)| RunnerDefinition {
            id: id.or_else(|| free.next()).unwrap_or(RunnerId(0)),
            name,
        };
        MarketDefinition {
            event: EventId(self.event),
            event_name: self.event_name,
            name: self.name,
            market_type: self.market_type,
            runners: self.runners.into_iter().map(runner).collect(),
            winners: self.winners,
            complete: !self.incomplete,
            bet_delay_s: self.bet_delay,
            min_stake: self.min_stake,
            max_stake: self.max_stake,
            commission_bp: self.commission,
            start: self.start,
            market_cap: self.market_cap,
            event_cap: self.event_cap,
        }
    }
}

pub async fn run(session: &Session<'_>, command: MarketsCommand) -> Result<Output, ClientError> {
    let request = match command {
        MarketsCommand::Create(args) => {
            let (open, reference) = (args.open, session.reference(args.reference.clone()));
            let definition = Box::new(args.definition());
            let view = view(session, Request::CreateMarket { definition, reference }).await?;
            if !open {
                return Ok(Output::new(market(&view), Response::Market(Box::new(view))));
            }
            Request::OpenMarket { market: view.summary.market }
        }
        MarketsCommand::List => return list(session).await,
        MarketsCommand::Show { market } => Request::GetMarket { market },
        MarketsCommand::Book { market, depth } => return book(session, market, depth).await,
        MarketsCommand::Open { market } => Request::OpenMarket { market },
        MarketsCommand::Suspend { market } => Request::SuspendMarket { market },
        MarketsCommand::InPlay { market, bet_delay } => {
            let bet_delay_s = match bet_delay {
                Some(seconds) => seconds,
                None => view(session, Request::GetMarket { market }).await?.definition.bet_delay_s,
            };
            Request::TurnInPlay { market, bet_delay_s }
        }
        MarketsCommand::Settle(args) => {
            let result = result(session, args.market, args.result).await?;
            Request::Settle { market: args.market, result, reference: session.reference(args.reference) }
        }
        MarketsCommand::Resettle(args) => {
            let result = result(session, args.market, args.result).await?;
            Request::Resettle { market: args.market, result, reference: session.reference(args.reference) }
        }
        MarketsCommand::Void { market, reference } => {
            Request::Settle { market, result: MarketResult::Void, reference: session.reference(reference) }
        }
        MarketsCommand::RemoveRunner { market, runner, factor, reference } => {
            Request::RemoveRunner { market, runner, factor, reference: session.reference(reference) }
        }
        MarketsCommand::Finalise { market } => Request::Finalise { market },
    };
    let view = view(session, request).await?;
    Ok(Output::new(market(&view), Response::Market(Box::new(view))))
}

async fn view(session: &Session<'_>, request: Request) -> Result<MarketView, ClientError> {
    match session.call(request).await? {
        Response::Market(view) => Ok(*view),
        other => Err(unexpected(&other)),
    }
}

async fn result(session: &Session<'_>, market: MarketId, args: ResultArgs) -> Result<MarketResult, ClientError> {
    if args.void {
        return Ok(MarketResult::Void);
    }
    if !args.fractions.is_empty() {
        return Ok(MarketResult::Fractions(args.fractions));
    }
    let view = view(session, Request::GetMarket { market }).await?;
    outright(&view, &args.winners).map_err(|runner| {
        ClientError::Setup(format!("The market has no runner {runner}; see `markets show {market}`."))
    })
}

async fn list(session: &Session<'_>) -> Result<Output, ClientError> {
    match session.call(Request::ListMarkets).await? {
        Response::Markets(markets) => Ok(Output::new(markets_table(&markets), Response::Markets(markets))),
        other => Err(unexpected(&other)),
    }
}

async fn book(session: &Session<'_>, id: MarketId, depth: usize) -> Result<Output, ClientError> {
    let view = view(session, Request::GetMarket { market: id }).await?;
    match session.call(Request::Book { market: id }).await? {
        Response::Book(book) => Ok(Output::new(book_table(&view, &book, depth), Response::Book(book))),
        other => Err(unexpected(&other)),
    }
}

fn markets_table(markets: &[MarketSummary]) -> String {
    if markets.is_empty() {
        return "There are no markets yet; `stakehold ctl markets create` makes one.".into();
    }
    let mut table = show::table(&["Market", "Event", "Name", "Type", "Status", "Matched"], &["Matched"]);
    for market in markets {
        table.add_row(vec![
            market.market.into_cell(),
            show::short_name(&event(market)).into(),
            show::short_name(&market.name).into(),
            show::short_name(&market.market_type).into(),
            show::status(market.status, market.in_play),
            show::money(market.matched),
        ]);
    }
    table.to_string()
}

trait IntoCell {
    fn into_cell(self) -> comfy_table::Cell;
}

impl IntoCell for MarketId {
    fn into_cell(self) -> comfy_table::Cell {
        comfy_table::Cell::new(self)
    }
}

fn event(market: &MarketSummary) -> String {
    if market.event_name.is_empty() { market.event.to_string() } else { market.event_name.clone() }
}

fn market(view: &MarketView) -> String {
    let (summary, definition) = (&view.summary, &view.definition);
    let settled = match (&view.result, view.finalised) {
        (None, _) => "no".to_owned(),
        (Some(MarketResult::Void), last) => format!("void, version {}{}", view.settlement, final_(last)),
        (Some(MarketResult::Fractions(_)), last) => format!("version {}{}", view.settlement, final_(last)),
    };
    let commission = u64::from(definition.commission_bp);
    let mut text = show::facts(&[
        ("Market", summary.market.to_string()),
        ("Event", show::name(&event(summary))),
        ("Name", show::name(&format!("{} ({})", summary.name, summary.market_type))),
        ("Status", show::status(summary.status, summary.in_play).content()),
        ("Winners", format!("{}{}", definition.winners, if definition.complete { "" } else { ", others may win" })),
        ("Commission", format!("{} %", show::price(commission))),
        ("Bet delay", format!("{} s in play", definition.bet_delay_s)),
        ("Start", definition.start.map_or_else(|| "-".into(), show::time)),
        ("Matched", summary.matched.to_string()),
        ("Settled", settled),
    ]);
    let mut table =
        show::table(&["Runner", "Name", "Last price", "Matched", "State"], &["Runner", "Last price", "Matched"]);
    for runner in &view.runners {
        let share = match &view.result {
            Some(MarketResult::Fractions(shares)) => {
                shares.iter().find(|(id, _)| *id == runner.runner).map(|(_, f)| *f)
            }
            _ => None,
        };
        let state = match (runner.removed, share) {
            (Some(factor), _) => format!("removed, {}.{:03} %", factor / 1000, factor % 1000),
            (None, Some(WinFraction { numerator: 0, .. })) => "lost".into(),
            (None, Some(f)) if f.numerator == f.denominator => "won".into(),
            (None, Some(f)) => format!("dead heat {}/{}", f.numerator, f.denominator),
            (None, None) => String::new(),
        };
        table.add_row([
            runner.runner.to_string(),
            show::short_name(&runner.name),
            show::maybe(runner.last_price.map(|price| show::price(price.into()))),
            runner.matched.to_string(),
            state,
        ]);
    }
    text += "\n";
    text + &table.to_string()
}

fn final_(last: bool) -> &'static str {
    if last { ", final" } else { "" }
}

fn book_table(view: &MarketView, book: &BookView, depth: usize) -> String {
    let header = ["Runner", "Name", "To back", "To lay", "Last price", "Matched"];
    let mut table = show::table(&header, &["Runner", "Last price", "Matched"]);
    let levels = |levels: &[(u32, Minor)]| {
        let shown: Vec<String> = levels
            .iter()
            .take(depth)
            .map(|(price, size)| format!("{} × {size}", show::price((*price).into())))
            .collect();
        if shown.is_empty() { "-".into() } else { shown.join("\n") }
    };
    for runner in &book.runners {
        let name = view.runners.iter().find(|r| r.runner == runner.runner).map(|r| show::short_name(&r.name));
        table.add_row([
            runner.runner.to_string(),
            name.unwrap_or_default(),
            levels(&runner.to_back),
            levels(&runner.to_lay),
            show::maybe(runner.last_price.map(|price| show::price(price.into()))),
            runner.matched.to_string(),
        ]);
    }
    let state = show::status(book.status, book.in_play).content();
    format!("{} ({state}, change {})\n{table}", show::name(&view.summary.name), book.sequence)
}
