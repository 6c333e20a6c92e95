//! `stakehold dev`: a whole cluster on a laptop. Three real nodes over loopback QUIC and real files,
//! demo accounts, demo markets with odds that move, and the command that places a first bet.

mod demo;
mod nodes;

use std::{
    io::IsTerminal as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;
use stakehold_actors::domain::types::MarketStatus;
use stakehold_raft::seam::Entropy;
use tokio_util::sync::CancellationToken;

use crate::{
    client::{
        Client,
        target::{DATA_DIR, DATA_VARIABLE, INFO_FILE, Info, KnownAccount},
    },
    exchange::Nodes,
    files, logging, signals,
    world::SystemEntropy,
};

/// Start three nodes in one process, with demo markets to bet on.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  stakehold dev                               demo markets; started again, it goes on where it was
  stakehold dev --replay match.bz2            a recording instead of the demo markets
  stakehold dev --data /tmp/x --info x.json   elsewhere, and tell a script where and with which tokens")]
pub struct DevArgs {
    /// Where the nodes keep everything; made if it is not there.
    #[arg(long, value_name = "DIR", env = DATA_VARIABLE, default_value = DATA_DIR)]
    pub data: PathBuf,
    /// Also write addresses, tokens and accounts as JSON to this file, once ready.
    #[arg(long, value_name = "FILE")]
    pub info: Option<PathBuf>,
    /// Run a recording instead of the demo markets.
    #[arg(long, value_name = "FILE")]
    pub replay: Option<PathBuf>,
    /// Serve HTTP with TLS (QUIC always has it).
    #[arg(long)]
    pub tls: bool,
    /// HTTP port of the first node; the others' follow. 0 takes free ones.
    #[arg(long, default_value_t = 8081)]
    pub http_port: u16,
    /// QUIC (UDP) port of the first node; the others' follow. 0 takes free ones.
    #[arg(long, default_value_t = 9081)]
    pub quic_port: u16,
    /// Cells of a new cluster: a power of two. Few are right for one machine.
    #[arg(long, default_value_t = super::replay::FEW_CELLS)]
    pub cells: u16,
    /// What to log: error, warn, info, debug, or a filter like `stakehold=debug`.
    #[arg(long, default_value = "warn", env = "STAKEHOLD_LOG_LEVEL")]
    pub log_level: String,
}

/// Runs until Ctrl-C.
///
/// # Errors
/// A sentence saying why it did not start, or that a node could not go on.
pub fn run(args: &DevArgs) -> Result<(), String> {
    logging::start(&crate::config::Log { format: crate::config::LogFormat::Text, level: args.log_level.clone() })
        .map_err(|e| e.to_string())?;
    crate::world::on_runtime(async {
        let leave = signals::leave().map_err(|e| format!("Signals cannot be handled: {e}."))?;
        // Before anything is founded, so that the next try with other ports is a first start as well.
        let ports = nodes::choose_ports(args)?;
        let secrets = nodes::found_once(args)?;
        let cluster = nodes::Running::start(args, &ports, &leave).await?;
        let played = tokio::select! {
            biased;
            () = leave.clone().asked() => Ok(()),
            played = show(args, &secrets, &cluster) => played,
        };
        if played.is_ok() {
            leave.clone().asked().await;
        }
        let ended = cluster.end().await;
        played.and(ended)
    })
}

/// Opens the demo, tells a person and a script where it is, and plays.
async fn show(args: &DevArgs, secrets: &nodes::Secrets, cluster: &nodes::Running) -> Result<(), String> {
    let target = cluster.target(secrets, args)?;
    let client = Client::http(&target).map_err(|e| e.to_string())?;
    cluster.ready(&client).await?;
    let exchange = Nodes::new(&target, true).map_err(|e| e.to_string())?;
    let accounts = demo::accounts(&client, &args.data).await?;
    let info = cluster.info(secrets, args, accounts.clone());
    let text = serde_json::to_vec_pretty(&info).map_err(|e| e.to_string())?;
    let own = args.data.join(INFO_FILE);
    for path in [Some(&own), args.info.as_ref()].into_iter().flatten() {
        files::replace(path, &text, files::SECRET)
            .map_err(|e| format!("{} cannot be written: {e}.", path.display()))?;
    }
    if let Some(recording) = &args.replay {
        greet(args, &info, None);
        return demo::replay(recording, &target).await;
    }
    let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
    let markets = demo::markets(&client).await?;
    let open = markets.iter().find(|market| market.status == MarketStatus::Open).map(|market| &market.stage);
    greet(args, &info, open.zip(accounts.first()));
    let run = entropy.next_u64();
    let stop = CancellationToken::new();
    let play =
        |market: demo::Shown| crate::bots::play(exchange.clone(), market.stage, entropy.clone(), run, stop.clone());
    let plays = markets.into_iter().map(play);
    futures::future::join_all(plays).await;
    Ok(())
}

/// What a person needs to place a first bet.
fn greet(args: &DevArgs, info: &Info, first: Option<(&crate::bots::Stage, &KnownAccount)>) {
    let bold = |text: &str| {
        if std::io::stdout().is_terminal() { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() }
    };
    println!("{}", bold("Stakehold is running: three nodes, one exchange."));
    println!();
    println!("  API       {}  (described at /openapi.json)", info.http);
    for node in &info.nodes {
        println!("  node n{}   {}   quic {}", node.id, node.http, node.quic);
    }
    println!("  data      {}  (tokens in {})", args.data.display(), args.data.join(INFO_FILE).display());
    println!("  operator  {}", info.operator_token);
    for account in &info.accounts {
        println!("  account {}  {}", account.id, account.token);
    }
    if let Some((stage, account)) = first {
        let (runner, price) = stage.runners[0];
        let cacert =
            if args.tls { format!(" --cacert {}", args.data.join("cluster/ca.pem").display()) } else { String::new() };
        println!();
        println!("{}", bold("Place a bet, 5.00 that the first runner wins:"));
        println!();
        println!(
            "  curl{cacert} {}/v1/markets/{}/orders -H 'authorization: Bearer {}' \\\n    -H 'content-type: application/json' \
             -d '{{\"runner\":{runner},\"side\":\"BACK\",\"price\":{},\"size\":500}}'",
            info.http,
            stage.market,
            account.token,
            demo::takeable(price),
        );
        println!();
        let data = match &args.data {
            data if data == Path::new(DATA_DIR) => String::new(),
            data => format!(" --data {}", data.display()),
        };
        println!("Then: stakehold ctl orders list --account {}{data}   (or --help for the rest)", account.id);
    }
    println!("Ctrl-C drains and stops; a second one ends at once.");
}
