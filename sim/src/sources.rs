//! Which points the node's sources name, so that the lists of them are never out of step.

use std::{collections::BTreeSet, fs, path::Path};

/// The names that the sources of `raft/` and `actors/` give to a macro of `stakehold_raft::points`.
///
/// # Panics
/// When the sources cannot be read: this is for tests.
pub fn names(of: &str) -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut names = BTreeSet::new();
    for sources in ["raft/src", "actors/src"] {
        collect(&root.join(sources), &format!("{of}!("), &mut names);
    }
    assert!(!names.is_empty(), "no {of} in the sources");
    names
}

fn collect(dir: &Path, opening: &str, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).expect("the sources are beside this crate") {
        let path = entry.expect("a directory can be listed").path();
        if path.is_dir() {
            collect(&path, opening, names);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("a source is text");
            for after in text.split(opening).skip(1) {
                let literal = after.trim_start().strip_prefix('"').and_then(|rest| rest.split_once('"'));
                names.extend(literal.map(|(name, _)| name.to_owned()));
            }
        }
    }
}
