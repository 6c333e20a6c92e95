//! One module per subcommand: its flags, its help, and what it does with the rest of the program.

pub mod bench;
pub mod ctl;
pub mod dev;
pub mod health;
pub mod init;
pub mod replay;
pub mod serve;
