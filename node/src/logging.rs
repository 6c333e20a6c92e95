//! Log lines: for people as text, for machines as one JSON object each, on standard error.
//!
//! A span carries a request's id through everything that is done for it, in both formats.

use std::io::{self, IsTerminal};

use tracing_subscriber::{EnvFilter, fmt};

use crate::config::{Log, LogFormat};

/// What is wrong with the settings of the log.
#[derive(Debug, thiserror::Error)]
#[error("`log.level` ({level}) is not a level (error, warn, info, debug, trace) or a filter: {error}.")]
pub struct LogError {
    level: String,
    error: String,
}

/// Sets the process's log up, once; later calls change nothing.
///
/// # Errors
/// When the level is none.
pub fn start(log: &Log) -> Result<(), LogError> {
    let filter = filter(&log.level)?;
    let lines = fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        // Whoever read the log may be gone; complaining to it about that would end the process.
        .log_internal_errors(false);
    // An error here means that there is a log already, as where several nodes share a process.
    let _ = match log.format {
        LogFormat::Text => lines.with_target(false).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(true).with_span_list(false).try_init(),
    };
    Ok(())
}

fn filter(level: &str) -> Result<EnvFilter, LogError> {
    let wrong = |error: String| LogError { level: level.into(), error };
    // The parser takes any word for the name of a module; a single word has to be a level here.
    let single = level.chars().all(char::is_alphanumeric);
    if single && level.parse::<tracing::level_filters::LevelFilter>().is_err() {
        return Err(wrong("no such level".into()));
    }
    // Consensus tells every step of every cell, and every try at a peer that is away; actors have spans for
    // all they do, which cost more than that. Who wants them asks for them by name.
    let mut filter = level.to_string();
    for library in ["openraft", "ractor"] {
        if !level.contains(library) && level != "off" {
            filter.push_str(&format!(",{library}=error"));
        }
    }
    EnvFilter::try_new(filter).map_err(|e| wrong(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_quiet_unless_asked() {
        for (level, shown) in [
            ("info", "openraft=error"),
            ("info", "ractor=error"),
            ("debug,openraft=debug", "openraft=debug"),
            ("debug,openraft=debug", "ractor=error"),
        ] {
            assert!(filter(level).unwrap().to_string().contains(shown), "{level}");
        }
        assert_eq!(filter("off").unwrap().to_string(), "off");
    }

    #[test]
    fn a_level_is_a_level_or_a_filter() {
        for level in ["error", "info", "off", "info,stakehold::mesh=debug"] {
            assert!(filter(level).is_ok(), "{level}");
        }
        for level in ["loud", "info,=x=y", "stakehold=loud"] {
            let error = filter(level).unwrap_err().to_string();
            assert!(error.starts_with(&format!("`log.level` ({level}) is not a level")), "{error}");
        }
    }
}
