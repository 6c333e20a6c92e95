//! `ctl accounts`.

use clap::Subcommand;
use stakehold_actors::{
    api::{AccountView, Request, Response, StatementLine},
    domain::types::{AccountId, Minor, Reference},
};

use super::{Output, Session, parse, show, unexpected};
use crate::client::ClientError;

#[derive(Debug, Subcommand)]
pub enum AccountsCommand {
    /// Create an account and print its token, which is shown this once.
    #[command(after_help = "Example:\n  stakehold ctl accounts create --name Ada --deposit 100.00")]
    Create {
        /// Whose it is.
        #[arg(long)]
        name: String,
        /// Its number; the server chooses one if left out.
        #[arg(long, value_parser = parse::account)]
        id: Option<AccountId>,
        /// Pay this in at once.
        #[arg(long, value_name = "AMOUNT", value_parser = parse::amount)]
        deposit: Option<Minor>,
    },
    /// Show an account and its wallet.
    Show {
        /// Its number; the token's own account if left out.
        #[arg(value_parser = parse::account)]
        account: Option<AccountId>,
    },
    /// Pay into a wallet.
    #[command(after_help = "Example:\n  stakehold ctl accounts deposit 1000000001 100.00")]
    Deposit {
        /// The account's number.
        #[arg(value_parser = parse::account)]
        account: AccountId,
        /// How much, such as 100.00.
        #[arg(value_parser = parse::amount)]
        amount: Minor,
        /// Makes a retry safe: the same reference pays only once.
        #[arg(long, value_parser = parse::reference)]
        reference: Option<Reference>,
    },
    /// Pay out of a wallet.
    Withdraw {
        /// The account's number.
        #[arg(value_parser = parse::account)]
        account: AccountId,
        /// How much, such as 100.00.
        #[arg(value_parser = parse::amount)]
        amount: Minor,
        /// Makes a retry safe: the same reference pays only once.
        #[arg(long, value_parser = parse::reference)]
        reference: Option<Reference>,
    },
    /// Limit what an account may have in all markets together.
    #[command(after_help = "Example:\n  stakehold ctl accounts cap 1000000001 500.00")]
    Cap {
        /// The account's number.
        #[arg(value_parser = parse::account)]
        account: AccountId,
        /// The most; leave it out to lift the limit.
        #[arg(value_parser = parse::amount)]
        cap: Option<Minor>,
        /// Makes a retry safe: the same reference sets only once.
        #[arg(long, value_parser = parse::reference)]
        reference: Option<Reference>,
    },
    /// Take something off the commission an account pays.
    #[command(after_help = "Example:\n  stakehold ctl accounts discount 1000000001 2500     (a quarter off)")]
    Discount {
        /// The account's number.
        #[arg(value_parser = parse::account)]
        account: AccountId,
        /// In hundredths of a percent of the commission: 10000 is all of it.
        #[arg(value_name = "BASIS_POINTS", value_parser = clap::value_parser!(u32).range(..=10_000))]
        discount: u32,
        /// Makes a retry safe: the same reference sets only once.
        #[arg(long, value_parser = parse::reference)]
        reference: Option<Reference>,
    },
    /// What moved in a wallet, newest first.
    Statement {
        /// Its number; the token's own account if left out.
        #[arg(value_parser = parse::account)]
        account: Option<AccountId>,
        /// How many lines at most.
        #[arg(long, default_value_t = 20)]
        limit: u32,
        /// Only lines with a smaller number.
        #[arg(long)]
        before: Option<u64>,
    },
}

pub async fn run(session: &Session<'_>, command: AccountsCommand) -> Result<Output, ClientError> {
    match command {
        AccountsCommand::Create { name, id, deposit } => create(session, name, id, deposit).await,
        AccountsCommand::Show { account } => {
            show(session, Request::GetAccount { account: session.account(account)? }).await
        }
        AccountsCommand::Cap { account, cap, reference } => {
            let reference = session.reference(reference);
            show(session, Request::SetAccountCap { account, cap, reference }).await
        }
        AccountsCommand::Discount { account, discount, reference } => {
            let reference = session.reference(reference);
            show(session, Request::SetAccountDiscount { account, discount_bp: discount, reference }).await
        }
        AccountsCommand::Deposit { account, amount, reference } => {
            let reference = session.reference(reference);
            moved(session, Request::Deposit { account, amount, reference }, "Paid in").await
        }
        AccountsCommand::Withdraw { account, amount, reference } => {
            let reference = session.reference(reference);
            moved(session, Request::Withdraw { account, amount, reference }, "Paid out").await
        }
        AccountsCommand::Statement { account, limit, before } => {
            let account = session.account(account)?;
            match session.call(Request::Statement { account, before, limit }).await? {
                Response::Statement { lines } => {
                    let text = statement(account, &lines);
                    Ok(Output::new(text, Response::Statement { lines }))
                }
                other => Err(unexpected(&other)),
            }
        }
    }
}

async fn create(
    session: &Session<'_>,
    name: String,
    id: Option<AccountId>,
    deposit: Option<Minor>,
) -> Result<Output, ClientError> {
    let created = session.client.create_account(id, name).await?;
    let mut text = format!("Created account {} for {}.\n\n", created.account, show::name(&created.name));
    let paid = match deposit {
        None => Ok(()),
        Some(amount) => {
            let request = Request::Deposit { account: created.account, amount, reference: session.reference(None) };
            session.call(request).await.map(drop)
        }
    };
    text += &format!("Its token, shown this once:\n  {}\n", created.token);
    match (&paid, deposit) {
        (Err(error), _) => text += &format!("\nThe deposit failed: {error}\n"),
        (Ok(()), Some(amount)) => text += &format!("\nPaid in {amount}.\n"),
        (Ok(()), None) => {}
    }
    let json = crate::http::json::bytes(&created);
    Ok(Output { text, json: String::from_utf8_lossy(&json).into_owned(), failed: paid.is_err() })
}

/// A call that answers with the account.
async fn show(session: &Session<'_>, request: Request) -> Result<Output, ClientError> {
    match session.call(request).await? {
        Response::Account(view) => Ok(Output::new(wallet(&view), Response::Account(view))),
        other => Err(unexpected(&other)),
    }
}

async fn moved(session: &Session<'_>, request: Request, verb: &str) -> Result<Output, ClientError> {
    match session.call(request).await? {
        Response::Wallet(receipt) => {
            let text = format!(
                "{verb} {} (reference {}); account {} has {} available.",
                receipt.amount, receipt.reference, receipt.account, receipt.available
            );
            Ok(Output::new(text, Response::Wallet(receipt)))
        }
        other => Err(unexpected(&other)),
    }
}

fn wallet(view: &AccountView) -> String {
    let markets: Vec<String> = view.markets.iter().map(ToString::to_string).collect();
    let mut facts = vec![
        ("Account", view.account.to_string()),
        ("Name", show::name(&view.name)),
        ("Available", view.available.to_string()),
        ("In markets", view.in_markets.to_string()),
        ("Owed", view.owed.to_string()),
        ("Exposure cap", show::maybe(view.cap)),
        ("Commission discount", format!("{} %", show::price(u64::from(view.discount_bp)))),
        ("Markets", if markets.is_empty() { "-".into() } else { markets.join(", ") }),
    ];
    if view.heartbeat_ms > 0 {
        facts.push(("Heartbeat", format!("{} ms", view.heartbeat_ms)));
    }
    show::facts(&facts)
}

fn statement(account: AccountId, lines: &[StatementLine]) -> String {
    if lines.is_empty() {
        return format!("Nothing has moved in account {account} yet.");
    }
    let header = ["#", "Time", "What", "Amount", "Available", "Owed", "Market", "Reference"];
    let mut table = show::table(&header, &["#", "Amount", "Available", "Owed"]);
    for line in lines {
        table.add_row(vec![
            line.number.to_string().into(),
            show::time(line.at).into(),
            line.kind.clone().into(),
            show::money(line.amount),
            show::money(line.available),
            show::money(line.owed),
            show::maybe(line.market).into(),
            show::maybe(line.reference.as_ref()).into(),
        ]);
    }
    table.to_string()
}
