//! A node that is built alone holds nothing of a simulation: no known mistake, no mark, no point at
//! which something could be made to happen. Together with the simulator it is built with all of that, so
//! this builds it by itself, which takes a minute.

#[path = "../../node/tests/support/cargo.rs"]
mod cargo;

use std::{collections::BTreeSet, path::Path, process::Command};

use aho_corasick::AhoCorasick;
use cargo::tell_nothing;
use stakehold_sim::{
    marks::{MARKS, SELDOM},
    museum::catalogue::EXHIBITS,
};

/// What a node says when it ends: whoever does not find this has not looked.
const SAID: &str = "the node may not go on";

#[test]
fn a_node_that_is_built_alone_has_no_point_in_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let mut build = Command::new(env!("CARGO"));
    let built = tell_nothing(&mut build).current_dir(root).args(["build", "--locked", "-p", "stakehold"]).status();
    assert!(built.expect("cargo starts").success());
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), Into::into);
    let program = std::fs::read(target.join("debug/stakehold")).expect("it was built just now");
    let names = EXHIBITS.iter().map(|exhibit| exhibit.name);
    let names: Vec<&str> = names.chain(MARKS.iter().chain(SELDOM).map(|mark| mark.name)).chain([SAID]).collect();
    // All names in one pass: the program is a hundred megabytes, and this test is built without optimisation.
    let search = AhoCorasick::new(&names).expect("names are short");
    let found: BTreeSet<&str> =
        search.find_overlapping_iter(&program).map(|found| names[found.pattern().as_usize()]).collect();
    assert_eq!(found, BTreeSet::from([SAID]), "the node was built with points in it, or was not looked through");
}
