//! `stakehold ctl`: everything a person does with a running cluster.
//!
//! - [`accounts`], [`markets`], [`orders`], [`cluster`]: the commands. [`parse`]: amounts, prices
//!   and percentages as people write them. [`show`]: tables and JSON.
//!
//! A command makes its calls and gives an [`Output`]; only [`run`] writes to the terminal.

mod accounts;
mod cluster;
mod markets;
mod orders;
mod parse;
mod show;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Subcommand};
use stakehold_actors::{
    api::{ApiError, Principal, Request, Response},
    domain::types::{AccountId, Reference},
};
use stakehold_raft::seam::Entropy;

use crate::{
    auth,
    client::{Client, ClientError, HttpClient, Target, unexpected},
    http::problem::code_of,
};

/// Act on a running cluster: accounts, markets, orders, status and audit.
#[derive(Debug, Args)]
#[command(
    after_help = "The cluster is found by --target, else --data, else STAKEHOLD_URL, else what `stakehold dev` wrote into
STAKEHOLD_DATA or ./stakehold-data (info.json); STAKEHOLD_TOKEN and STAKEHOLD_CA (a PEM file) go before what that file says.

Examples:
  stakehold ctl accounts create --name Ada
  stakehold ctl accounts deposit 1000000001 100.00
  stakehold ctl markets create --name 'Winner' --runner 'Bold Venture' --runner 'Omaha'
  stakehold ctl orders place 100000001 --account 1000000001 --runner 1 --back 10.00 --price 3.50
  stakehold ctl markets settle 100000001 --winner 1
  stakehold ctl ledger audit --json"
)]
pub struct CtlArgs {
    /// URL of any node, such as http://127.0.0.1:8081.
    #[arg(long, global = true, value_name = "URL")]
    pub target: Option<String>,
    /// Data directory of the `stakehold dev` to act on.
    #[arg(long, global = true, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Print JSON instead of tables.
    #[arg(long, global = true)]
    pub json: bool,
    #[command(subcommand)]
    pub command: CtlCommand,
}

#[derive(Debug, Subcommand)]
pub enum CtlCommand {
    /// Accounts and their wallets.
    #[command(subcommand, visible_alias = "account")]
    Accounts(accounts::AccountsCommand),
    /// Markets: create, open, suspend, settle.
    #[command(subcommand, visible_alias = "market")]
    Markets(markets::MarketsCommand),
    /// Orders: place, cancel, list.
    #[command(subcommand, visible_alias = "order")]
    Orders(orders::OrdersCommand),
    /// The nodes and cells of the cluster.
    #[command(subcommand)]
    Cluster(cluster::ClusterCommand),
    /// The books of the whole cluster.
    #[command(subcommand)]
    Ledger(cluster::LedgerCommand),
}

/// What a command found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// For people.
    pub text: String,
    /// For machines, one line.
    pub json: String,
    /// Whether what was found should fail a script: a refused order, books that do not add up.
    pub failed: bool,
}

impl Output {
    fn new(text: String, response: Response) -> Self {
        let json = crate::http::json::encode(response);
        Self { text, json: String::from_utf8_lossy(&json).into_owned(), failed: false }
    }
}

/// What commands work with.
struct Session<'a> {
    client: HttpClient,
    /// Whose token it is, by its own word.
    who: Option<Principal>,
    entropy: &'a dyn Entropy,
}

impl Session<'_> {
    async fn call(&self, request: Request) -> Result<Response, ClientError> {
        self.client.call(request).await
    }

    /// The reference that was given, or a new one.
    fn reference(&self, given: Option<Reference>) -> Reference {
        given.unwrap_or_else(|| {
            Reference::new(&format!("ctl-{:016x}", self.entropy.next_u64())).expect("visible ASCII, short")
        })
    }

    /// The account that was given, or the token's.
    fn account(&self, given: Option<AccountId>) -> Result<AccountId, ClientError> {
        match (given, self.who) {
            (Some(account), _) | (None, Some(Principal::Account(account))) => Ok(account),
            _ => Err(ClientError::Setup("Say for which account with --account; the operator has none.".into())),
        }
    }
}

/// Whoever reads may have heard enough (`| head`): that is no failure.
fn print(text: impl std::fmt::Display) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Runs a command and prints what it found. `entropy` makes references.
pub async fn run(args: CtlArgs, entropy: &dyn Entropy) -> ExitCode {
    let found = match Target::discover(args.target.as_deref(), args.data.as_deref()) {
        Ok(target) => execute(&target, args.command, entropy).await,
        Err(error) => Err(error),
    };
    match found {
        Ok(output) => {
            let text = if args.json { output.json } else { output.text };
            print(text.trim_end());
            if output.failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
        }
        Err(error) => {
            if args.json {
                print(failure(&error));
            } else {
                eprintln!("error: {error}");
            }
            ExitCode::FAILURE
        }
    }
}

/// Runs a command.
///
/// # Errors
/// When the cluster refused or could not be asked.
pub async fn execute(target: &Target, command: CtlCommand, entropy: &dyn Entropy) -> Result<Output, ClientError> {
    let Client::Http(client) = Client::http(target)? else { unreachable!("an HTTP client was asked for") };
    let who = target.token.as_deref().and_then(auth::claimed);
    let session = Session { client, who, entropy };
    match command {
        CtlCommand::Accounts(command) => accounts::run(&session, command).await,
        CtlCommand::Markets(command) => markets::run(&session, command).await,
        CtlCommand::Orders(command) => orders::run(&session, command).await,
        CtlCommand::Cluster(command) => cluster::status(&session, command).await,
        CtlCommand::Ledger(command) => cluster::audit(&session, command).await,
    }
}

/// An error in the shape that the API gives it.
pub fn failure(error: &ClientError) -> String {
    let code = match error {
        ClientError::Api(ApiError::Refused(refusal)) => code_of(*refusal),
        ClientError::Api(ApiError::Invalid(_)) | ClientError::Setup(_) => "INVALID".into(),
        ClientError::Api(ApiError::Forbidden) => "FORBIDDEN".into(),
        ClientError::Api(ApiError::Busy { .. }) => "BUSY".into(),
        ClientError::Api(ApiError::DiskFull { .. }) => "DISK_FULL".into(),
        ClientError::Api(ApiError::Unavailable) | ClientError::Unreachable { .. } => "UNAVAILABLE".into(),
        ClientError::Api(ApiError::Unknown) | ClientError::Lost { .. } | ClientError::TimedOut { .. } => {
            "OUTCOME_UNKNOWN".into()
        }
        ClientError::Unauthorized(_) => "UNAUTHORIZED".into(),
        ClientError::Protocol(_) => "PROTOCOL".into(),
    };
    serde_json::json!({"error": {"code": code, "message": error.to_string()}}).to_string()
}

#[cfg(test)]
mod tests;
