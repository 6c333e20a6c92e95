//! Whether a program says what it takes: the same is asked of each program's command line.

/// Every command and every argument has a sentence of help, and clap finds no fault.
pub fn is_complete(mut program: clap::Command) {
    program.build();
    program.clone().debug_assert();
    let (mut missing, mut left) = (Vec::new(), vec![program]);
    while let Some(command) = left.pop() {
        if command.get_about().is_none() {
            missing.push(command.get_name().to_owned());
        }
        let unsaid = command.get_arguments().filter(|argument| argument.get_help().is_none());
        missing.extend(unsaid.map(|argument| format!("{} {}", command.get_name(), argument.get_id())));
        left.extend(command.get_subcommands().cloned());
    }
    assert!(missing.is_empty(), "no help for {missing:?}");
}
