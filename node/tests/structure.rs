//! Reads the sources and fails when a crate reaches around the seam, when the domain names a
//! runtime, a clock, a float or a randomly seeded map, or when a dependency points the wrong way.

use std::{
    fs,
    path::{Path, PathBuf},
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_path_buf()
}

/// Every Rust file below `dir`, as (path from the root, text without comments).
fn sources(dir: &str) -> Vec<(String, String)> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        let mut entries: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
        entries.sort();
        for path in entries {
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&root().join(dir), &mut found);
    assert!(!found.is_empty(), "no sources in {dir}");
    found
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            let name = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
            (name, without_comments_and_texts(&text))
        })
        .collect()
}

/// Code only: line comments and what stands in quotes on one line are blanked.
fn without_comments_and_texts(text: &str) -> String {
    text.lines()
        .map(|line| {
            let mut code = String::new();
            let mut quoted = false;
            let mut chars = line.chars().peekable();
            while let Some(c) = chars.next() {
                match c {
                    '\\' if quoted => {
                        chars.next();
                    }
                    '"' => quoted = !quoted,
                    '/' if !quoted && chars.peek() == Some(&'/') => break,
                    _ if quoted => {}
                    _ => code.push(c),
                }
            }
            code.push('\n');
            code
        })
        .collect()
}

/// Whether `code` has `word` with no letter, digit or underscore on either side.
fn names(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| {
        let boundary = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric() && c != '_');
        boundary(code[..at].chars().next_back()) && boundary(code[at + word.len()..].chars().next())
    })
}

fn assert_absent(dir: &str, words: &[&str], allowed: &[&str], why: &str) {
    let mut wrong = Vec::new();
    for (file, code) in sources(dir) {
        if allowed.iter().any(|prefix| file.starts_with(prefix)) || file.ends_with("tests.rs") {
            continue;
        }
        let code = code.split("#[cfg(test)]").next().unwrap_or_default();
        for word in words {
            if names(code, word) {
                wrong.push(format!("{file} names {word}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{why}:\n  {}", wrong.join("\n  "));
}

const WORLD: [&str; 9] = [
    "std::time::Instant",
    "std::time::SystemTime",
    "SystemTime",
    "std::fs",
    "tokio::fs",
    "tokio::net",
    "std::thread",
    "spawn_blocking",
    "rand::rng",
];

#[test]
fn replication_touches_the_world_only_through_the_seam() {
    assert_absent("raft/src", &WORLD, &["raft/src/disk/real"], "go through raft/src/seam.rs");
    assert_absent("raft/src", &["HashMap", "HashSet"], &[], "use ordered maps: iteration order is traced");
}

#[test]
fn actors_touch_the_world_only_through_the_seam() {
    assert_absent("actors/src", &WORLD, &[], "go through raft/src/seam.rs");
    assert_absent("actors/src", &["HashMap", "HashSet"], &[], "use ordered maps");
}

#[test]
fn the_domain_is_pure() {
    let impure =
        ["tokio", "ractor", "futures", "async", "await", "std::time", "f32", "f64", "HashMap", "HashSet", "tracing"];
    assert_absent(
        "actors/src/domain",
        &impure,
        &[],
        "the domain decides money: no runtime, clock, float or hash order",
    );
}

#[test]
fn only_the_consensus_module_names_openraft() {
    for dir in ["raft/src", "actors/src", "node/src", "sim/src"] {
        assert_absent(
            dir,
            &["openraft", "openraft_rt", "openraft_rt_tokio"],
            &["raft/src/consensus"],
            "openraft's types never leak",
        );
    }
}

#[test]
fn nothing_below_the_program_speaks_quic_or_http() {
    for dir in ["raft/src", "actors/src"] {
        assert_absent(
            dir,
            &["quinn", "axum", "hyper", "rustls", "clap"],
            &[],
            "transports and front ends live in node/",
        );
    }
}

#[test]
fn dependencies_point_one_way() {
    let allowed = [
        ("raft", &[] as &[&str]),
        ("actors", &["stakehold-raft"]),
        ("node", &["stakehold-raft", "stakehold-actors"]),
        ("sim", &["stakehold-raft", "stakehold-actors", "stakehold"]),
    ];
    for (krate, may_use) in allowed {
        let manifest = fs::read_to_string(root().join(krate).join("Cargo.toml")).unwrap();
        for line in manifest.lines() {
            let dependency = line.split(['.', ' ', '=']).next().unwrap_or_default();
            if dependency.starts_with("stakehold") {
                assert!(may_use.contains(&dependency), "{krate} must not depend on {dependency}");
            }
        }
    }
}

#[test]
fn the_top_level_is_what_it_should_be() {
    let expected = [
        "Cargo.lock",
        "Cargo.toml",
        "LICENSE-APACHE",
        "LICENSE-MIT",
        "README.md",
        "actors",
        "docker",
        "node",
        "raft",
        "sim",
    ];
    let mut found: Vec<String> = fs::read_dir(root())
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .filter(|n| !n.starts_with('.') && n != "target" && n != "stakehold-data" && n != "sim-failures")
        .collect();
    found.sort();
    assert_eq!(found, expected);
}

#[test]
fn the_checker_itself_sees_what_it_should() {
    assert!(names("use tokio::net::TcpStream;", "tokio::net"));
    assert!(!names("my_tokio::network()", "tokio::net"));
    assert_eq!(without_comments_and_texts("a // f64\nb \"f64\" c"), "a \nb  c\n");
}
