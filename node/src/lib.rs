//! The program: what turns replicated cells and actors into a server that people run.

pub mod auth;
pub mod bench;
pub mod book;
pub mod bots;
pub mod bridge;
pub mod cli;
pub mod client;
pub mod commands;
pub mod config;
pub mod exchange;
#[cfg(test)]
mod fake;
pub mod files;
pub mod gateway;
pub mod harness;
pub mod http;
pub mod identity;
pub mod kernel;
pub mod logging;
pub mod mesh;
pub mod metrics;
#[cfg(test)]
mod model;
pub mod node;
pub mod openapi;
pub mod pki;
pub mod recording;
pub mod replay;
pub mod signals;
pub mod world;
