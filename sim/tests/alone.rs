//! A node that is built alone holds nothing of a simulation: no known mistake, no mark, no point at
//! which something could be made to happen. Together with the simulator it is built with all of that, so
//! this builds it by itself, which takes a minute.

use std::{path::Path, process::Command};

use stakehold_sim::{
    marks::{MARKS, SELDOM},
    museum::catalogue::EXHIBITS,
};

#[test]
fn a_node_that_is_built_alone_has_no_point_in_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let built = Command::new(env!("CARGO")).current_dir(root).args(["build", "--locked", "-p", "stakehold"]).status();
    assert!(built.expect("cargo starts").success());
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), Into::into);
    let program = std::fs::read(target.join("debug/stakehold")).expect("it was built just now");
    let names = EXHIBITS.iter().map(|exhibit| exhibit.name);
    let names = names.chain(MARKS.iter().chain(SELDOM).map(|mark| mark.name));
    let program = String::from_utf8_lossy(&program);
    let found: Vec<&str> = names.filter(|name| program.contains(name)).collect();
    assert!(found.is_empty(), "the node was built with {found:?} in it");
}
