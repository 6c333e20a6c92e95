//! The simulator's command line.

fn main() -> std::process::ExitCode {
    stakehold_sim::cli::main()
}
