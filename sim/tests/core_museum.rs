//! Every mistake of the museum that cells alone can show is found at the core level, by an oracle that
//! the museum names for it. (That the same episodes pass without a mistake is the test of the core.)

use stakehold_sim::{
    core::{Watch, mistaken},
    museum::{catalogue::EXHIBITS, exhibit::Level},
};

/// Within so many episodes, of so many steps.
const EPISODES: u64 = 10;
const STEPS: u64 = 5_000;

#[test]
fn every_mistake_that_cells_alone_can_show_is_found() {
    // The machine's own assertions are among what finds them: what they print is not news here.
    std::panic::set_hook(Box::new(|_| {}));
    let mut wrong = vec![];
    for exhibit in EXHIBITS.iter().filter(|exhibit| exhibit.level == Level::Core) {
        let found = (1..=EPISODES).find_map(|seed| mistaken(seed, STEPS, Watch::All, exhibit.name).err());
        match found {
            Some(failure) if exhibit.names(failure.violation.oracle) => {
                println!("{}: {} in episode {}", exhibit.name, failure.violation.oracle, failure.seed);
            }
            found => wrong.push(format!("{}: {found:?}, and not {} {:?}", exhibit.name, exhibit.oracle, exhibit.also)),
        }
    }
    let _ = std::panic::take_hook();
    assert!(wrong.is_empty(), "{wrong:#?}");
}
