//! `ctl orders`.

use clap::{Args, Subcommand};
use stakehold_actors::{
    api::{CancelOrder, CancelReport, NewOrder, PlaceReport, Request, Response, WhichOrder},
    domain::types::{AccountId, MarketId, Minor, OrderId, OrderView, Persistence, Reference, RunnerId, Side},
};

use super::{Output, Session, parse, show, unexpected};
use crate::{
    client::ClientError,
    http::json::orders::{Order, page},
};

#[derive(Debug, Subcommand)]
pub enum OrdersCommand {
    /// Place an order.
    #[command(
        after_help = "Examples:\n  stakehold ctl orders place 100000001 --account 1000000001 --runner 1 --back 10.00 --price 3.50\n  \
                            stakehold ctl orders place 100000001 --account 1000000001 --runner 1 --lay 10.00 --price 3.60 --persist"
    )]
    Place(PlaceArgs),
    /// Cancel orders, wholly or in part.
    #[command(
        after_help = "Examples:\n  stakehold ctl orders cancel --market 100000001 1099511627777 --account 1000000001\n  \
                            stakehold ctl orders cancel --all --account 1000000001"
    )]
    Cancel(CancelArgs),
    /// The orders of an account, by their numbers, in every market that it has not left.
    List {
        /// Whose; the token's own account if left out.
        #[arg(long, value_parser = parse::account)]
        account: Option<AccountId>,
        /// Only in this market.
        #[arg(long, value_parser = parse::market)]
        market: Option<MarketId>,
        /// Only those of which something is unmatched and in the market.
        #[arg(long)]
        open: bool,
    },
}

#[derive(Debug, Args)]
pub struct PlaceArgs {
    /// The market's number.
    #[arg(value_parser = parse::market)]
    market: MarketId,
    /// For whom; the token's own account if left out.
    #[arg(long, value_parser = parse::account)]
    account: Option<AccountId>,
    /// The runner's number in this market.
    #[arg(long, value_parser = parse::runner)]
    runner: RunnerId,
    #[command(flatten)]
    stake: StakeArgs,
    /// Decimal odds, such as 3.50.
    #[arg(long, value_parser = parse::price)]
    price: u32,
    /// Keep the unmatched rest when the market turns in-play.
    #[arg(long)]
    persist: bool,
    /// Match at once or not at all.
    #[arg(long)]
    fill_or_kill: bool,
    /// With --fill-or-kill: the least that must match.
    #[arg(long, requires = "fill_or_kill", value_parser = parse::amount)]
    min_fill: Option<Minor>,
    /// Refuse the order if it would match at once.
    #[arg(long, conflicts_with = "fill_or_kill")]
    post_only: bool,
    /// Makes a retry safe: the same reference places only once.
    #[arg(long, value_parser = parse::reference)]
    reference: Option<Reference>,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct StakeArgs {
    /// Bet this much that the runner wins.
    #[arg(long, value_name = "STAKE", value_parser = parse::amount)]
    back: Option<Minor>,
    /// Bet against the runner, for a backer's stake of this much.
    #[arg(long, value_name = "STAKE", value_parser = parse::amount)]
    lay: Option<Minor>,
}

#[derive(Debug, Args)]
pub struct CancelArgs {
    /// The orders' numbers.
    #[arg(value_parser = parse::order, required_unless_present = "all", conflicts_with = "all")]
    orders: Vec<OrderId>,
    /// The market's number.
    #[arg(long, value_parser = parse::market, required_unless_present = "all")]
    market: Option<MarketId>,
    /// Whose; the token's own account if left out.
    #[arg(long, value_parser = parse::account)]
    account: Option<AccountId>,
    /// Every unmatched order, in one market or everywhere.
    #[arg(long)]
    all: bool,
    /// Take only this much off each.
    #[arg(long, value_name = "AMOUNT", value_parser = parse::amount, conflicts_with = "all")]
    reduce: Option<Minor>,
}

pub async fn run(session: &Session<'_>, command: OrdersCommand) -> Result<Output, ClientError> {
    match command {
        OrdersCommand::Place(args) => place(session, args).await,
        OrdersCommand::Cancel(args) => cancel(session, args).await,
        OrdersCommand::List { account, market, open } => {
            let account = session.account(account)?;
            match session.call(Request::ListOrders { account, market }).await? {
                Response::Orders(orders) => {
                    let orders = page(orders, open, None, usize::MAX);
                    Ok(Output::new(orders_table(account, &orders, open), Response::Orders(orders)))
                }
                other => Err(unexpected(&other)),
            }
        }
    }
}

async fn place(session: &Session<'_>, args: PlaceArgs) -> Result<Output, ClientError> {
    let (side, size) = match (args.stake.back, args.stake.lay) {
        (Some(size), _) => (Side::Back, size),
        (None, Some(size)) => (Side::Lay, size),
        (None, None) => return Err(ClientError::Setup("Say how much with --back or --lay.".into())),
    };
    let order = NewOrder {
        runner: args.runner,
        side,
        price: args.price,
        size,
        persistence: if args.persist { Persistence::Persist } else { Persistence::Lapse },
        fill_or_kill: args.fill_or_kill,
        min_fill: args.min_fill,
        post_only: args.post_only,
    };
    let request = Request::Place {
        account: session.account(args.account)?,
        market: args.market,
        reference: session.reference(args.reference),
        orders: vec![order],
    };
    match session.call(request).await? {
        Response::Placed { market, reference, reports } => {
            let text: Vec<String> = reports.iter().map(report).collect();
            let text = format!("{} Reference {reference}.", text.join("\n"));
            let failed = reports.iter().any(|report| report.outcome.is_err());
            Ok(Output { failed, ..Output::new(text, Response::Placed { market, reference, reports }) })
        }
        other => Err(unexpected(&other)),
    }
}

fn report(report: &PlaceReport) -> String {
    match &report.outcome {
        Err(refusal) => format!("Refused: {}", refusal.sentence()),
        Ok(view) => {
            let order = Order::from(view.clone());
            let average = order.average_price.map(|price| format!(" at {} on average", show::price(price)));
            format!(
                "Order {}: {} matched{}, {} unmatched.",
                order.order,
                order.matched,
                average.unwrap_or_default(),
                order.remaining
            )
        }
    }
}

async fn cancel(session: &Session<'_>, args: CancelArgs) -> Result<Output, ClientError> {
    let account = session.account(args.account)?;
    let everywhere = args.market.is_none();
    let request = match (args.all, args.market) {
        (true, market) => Request::CancelAll { account, market },
        (false, Some(market)) => {
            let one = |id: &OrderId| CancelOrder { which: WhichOrder::Id(*id), reduction: args.reduce };
            Request::Cancel { account, market, orders: args.orders.iter().map(one).collect() }
        }
        (false, None) => return Err(ClientError::Setup("Say in which market with --market.".into())),
    };
    match session.call(request).await? {
        Response::Cancelled { reports, funds_pending } => {
            // A report comes in its order's place, and has no number where there is no such order.
            let asked = args.orders.iter().copied().map(Some).chain(std::iter::repeat(None));
            let mut text: String = reports.iter().zip(asked).map(|(report, asked)| cancelled(report, asked)).collect();
            text += &match (funds_pending, reports.is_empty()) {
                // Each market cancels for itself, and has not yet.
                (true, true) if everywhere => format!(
                    "Everything unmatched of account {account} is being cancelled in its markets; \
                     `orders list --account {account}` shows what is left.\n"
                ),
                (true, _) => "The money is on its way back to the wallet.\n".to_owned(),
                (false, true) => "There was nothing to cancel.\n".to_owned(),
                (false, false) => String::new(),
            };
            let failed = reports.iter().any(|report| report.outcome.is_err());
            Ok(Output { failed, ..Output::new(text, Response::Cancelled { reports, funds_pending }) })
        }
        other => Err(unexpected(&other)),
    }
}

fn cancelled(report: &CancelReport, asked: Option<OrderId>) -> String {
    let order = show::maybe(report.order.or(asked));
    match report.outcome {
        Ok(amount) => format!("Order {order}: cancelled {amount}.\n"),
        Err(refusal) => format!("Order {order}: {}\n", refusal.sentence()),
    }
}

fn orders_table(account: AccountId, orders: &[OrderView], open: bool) -> String {
    if orders.is_empty() {
        return format!("Account {account} has no{} orders.", if open { " open" } else { "" });
    }
    let header = ["Order", "Market", "Runner", "Side", "Price", "Size", "Matched", "Average", "Unmatched", "Placed"];
    let mut table = show::table(&header, &["Price", "Size", "Matched", "Average", "Unmatched"]);
    for order in orders.iter().cloned().map(Order::from) {
        table.add_row([
            order.order.to_string(),
            order.market.to_string(),
            order.runner.to_string(),
            if order.side == Side::Back { "back".into() } else { "lay".into() },
            show::price(order.price.into()),
            order.size.to_string(),
            order.matched.to_string(),
            show::maybe(order.average_price.map(show::price)),
            order.remaining.to_string(),
            show::time(order.placed),
        ]);
    }
    table.to_string()
}
