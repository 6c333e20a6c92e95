//! `stakehold serve`: one node in this process.

use std::path::PathBuf;

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};

use crate::{
    config::{
        Config, Override,
        keys::{KEYS, Key},
    },
    logging,
    node::Node,
    signals,
    world::on_runtime,
};

/// Run one node of a cluster.
///
/// Settings come from the file, then the environment, then these flags; the later wins. SIGTERM or
/// Ctrl-C hands leadership over, finishes what is in flight and ends with 0; a second one ends at
/// once.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stakehold serve --config cluster/n1/node.toml
  STAKEHOLD_LOG_FORMAT=json stakehold serve --config cluster/n1/node.toml --listen-http 0.0.0.0:8080")]
pub struct ServeArgs {
    /// The node's configuration, as `stakehold init` wrote it.
    #[arg(long, value_name = "FILE", env = "STAKEHOLD_CONFIG")]
    config: PathBuf,
    /// Another address for a peer than the founding record has; may be repeated.
    #[arg(long = "peer", value_name = "nK=HOST:PORT")]
    peers: Vec<String>,
    #[command(flatten)]
    settings: Settings,
}

/// One flag for every setting in the table of [`KEYS`].
#[derive(Debug, Default)]
pub struct Settings(Vec<Override>);

impl Args for Settings {
    fn augment_args(mut command: Command) -> Command {
        for key in KEYS {
            let default = key.default.map_or(String::new(), |d| format!(" [default: {d}]"));
            let variable = key.variable();
            command = command.arg(
                Arg::new(key.path)
                    .long(key.flag())
                    .value_name("VALUE")
                    .help_heading("Settings")
                    .help(format!("{}{default} [{variable}]", key.meaning)),
            );
        }
        command
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Settings {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = |key: &Key| {
            let value = matches.get_one::<String>(key.path)?;
            Some(Override { key: key.path.into(), value: value.clone(), origin: format!("--{}", key.flag()) })
        };
        Ok(Self(KEYS.iter().filter_map(given).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl ServeArgs {
    /// The configuration, and the variables that mean nothing.
    ///
    /// # Errors
    /// A sentence about the first thing that is wrong.
    pub fn load(&self, environment: impl Iterator<Item = (String, String)>) -> Result<(Config, Vec<String>), String> {
        let mut flags = self.settings.0.clone();
        for peer in &self.peers {
            let (name, address) = peer
                .split_once('=')
                .ok_or_else(|| format!("--peer {peer}: write it as nK=HOST:PORT, such as n2=10.0.0.2:9080."))?;
            flags.push(Override { key: format!("peers.{name}"), value: address.into(), origin: "--peer".into() });
        }
        Config::load(&self.config, environment, &flags).map_err(|e| e.to_string())
    }
}

/// Runs the node until it is told to stop, or may not go on.
///
/// # Errors
/// A sentence saying why it did not start, or why it ended.
pub fn run(args: &ServeArgs) -> Result<(), String> {
    let (config, meaningless) = args.load(std::env::vars())?;
    logging::start(&config.log).map_err(|e| e.to_string())?;
    for name in meaningless {
        tracing::warn!("the environment sets {name}, which is no setting of `stakehold serve`");
    }
    on_runtime(async {
        // Before anything else, so that a stop during the start is a stop.
        let leave = signals::leave().map_err(|e| format!("Signals cannot be handled: {e}."))?;
        let data = config.data.clone();
        let node = tokio::select! {
            biased;
            () = leave.clone().asked() => return Ok(()),
            node = Node::start(config) => node.map_err(|e| e.to_string())?,
        };
        node.run(leave.asked()).await.map_err(|reason| {
            format!(
                "The node may not go on: {reason}; check the disk that holds {} and start it again.",
                data.display()
            )
        })
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::files;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        serve: ServeArgs,
    }

    #[test]
    fn every_setting_is_a_flag_and_flags_win() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("node.toml");
        files::create(&file, b"node = 1\n[log]\nlevel = \"warn\"\n", files::PUBLIC).unwrap();
        let load = |flags: &[&str]| {
            let line = ["serve", "--config", file.to_str().unwrap()].into_iter().chain(flags.iter().copied());
            Line::try_parse_from(line).map_err(|e| e.to_string())?.serve.load(std::iter::empty())
        };
        let (config, _) = load(&["--log-level", "debug", "--node", "2", "--peer", "n1=h:1"]).unwrap();
        assert_eq!((config.node.0, config.log.level.as_str()), (2, "debug"));
        assert_eq!(config.peers.values().collect::<Vec<_>>(), ["h:1"]);
        let error = load(&["--log-format", "xml"]).unwrap_err();
        assert_eq!(error, "--log-format sets `log.format` to \"xml\"; it has to be text or json.");
        let error = load(&["--peer", "n1"]).unwrap_err();
        assert_eq!(error, "--peer n1: write it as nK=HOST:PORT, such as n2=10.0.0.2:9080.");
        assert!(load(&["--log-fromat", "json"]).unwrap_err().contains("--log-format"), "clap suggests");
        for key in KEYS {
            let value = key.default.unwrap_or("1");
            load(&[&format!("--{}", key.flag()), value]).expect(key.path);
        }
    }
}
