//! Reads the sources and fails when a crate reaches around the seam, when the domain names a
//! runtime, a clock, a float or a randomly seeded map, or when a dependency points the wrong way.
//!
//! It knows no more of Rust than where texts, items and imports end. Macros can still hide things from it.

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

/// Code only: comments and whatever stands in quotes are blanked, so that braces and words are code's.
fn without_comments_and_texts(text: &str) -> String {
    let mut code = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let skipped = match first {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => block_comment(rest),
            'r' if !code.ends_with(in_a_word) => raw_text(rest),
            '"' => quoted(rest, '"'),
            '\'' => character(rest),
            _ => 0,
        };
        // The lines stay apart, whatever stood on them.
        code.extend(rest[..skipped].chars().filter(|c| *c == '\n'));
        if skipped == 0 {
            code.push(first);
        }
        rest = &rest[if skipped == 0 { first.len_utf8() } else { skipped }..];
    }
    code
}

fn in_a_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The length of the comment that begins here; they nest.
fn block_comment(text: &str) -> usize {
    let (mut at, mut depth) = (0, 0);
    while at < text.len() {
        let two = text.as_bytes().get(at..at + 2);
        match two {
            Some(b"/*") => (at, depth) = (at + 2, depth + 1),
            Some(b"*/") => (at, depth) = (at + 2, depth - 1),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

/// The length of the raw text (`r"…"`, `r#"…"#`) that begins here; 0 if none does.
fn raw_text(text: &str) -> usize {
    let hashes = text[1..].bytes().take_while(|b| *b == b'#').count();
    if text.as_bytes().get(1 + hashes) != Some(&b'"') {
        return 0;
    }
    let (opening, closing) = (hashes + 2, format!("\"{}", "#".repeat(hashes)));
    text[opening..].find(&closing).map_or(text.len(), |at| opening + at + closing.len())
}

/// The length of what begins here with `quote` and goes on to the next that is not escaped.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = true; // The opening quote closes nothing.
    for (at, c) in text.char_indices() {
        if c == quote && !escaped {
            return at + 1;
        }
        escaped = c == '\\' && !escaped;
    }
    text.len()
}

/// The length of the character that begins here, such as `'{'`; 0 if it is a lifetime.
fn character(text: &str) -> usize {
    let mut inside = text.chars().skip(1);
    match (inside.next(), inside.next()) {
        (Some('\\'), _) | (Some(_), Some('\'')) => quoted(text, '\''),
        _ => 0,
    }
}

/// What is compiled into the program: without each item that stands behind `#[cfg(test)]`.
fn without_tests(code: &str) -> String {
    let mut kept = String::new();
    let mut rest = code;
    while let Some((before, after)) = rest.split_once("#[cfg(test)]") {
        kept.push_str(before);
        rest = &after[item(after)..];
    }
    kept + rest
}

/// The length of the item, field or statement that begins here, its further attributes included. Of
/// what it cannot tell it skips too little rather than too much: an alarm is looked at, silence is not.
fn item(code: &str) -> usize {
    let mut depth = 0;
    let is_import = names(code.split([';', '{']).next().unwrap_or_default(), "use");
    for (at, c) in code.char_indices() {
        match c {
            '(' | '[' | '{' => depth += 1,
            // The end of what surrounds it: it was the last field or statement there.
            ')' | ']' | '}' if depth == 0 => return at,
            ')' | ']' | '}' => depth -= 1,
            ';' | ',' if depth == 0 => return at + 1,
            _ => {}
        }
        if depth == 0 && c == '}' && !is_import {
            return at + 1;
        }
    }
    code.len()
}

/// Whether `code` has `word` with no letter, digit or underscore on either side.
fn names(code: &str, word: &str) -> bool {
    places(code, word).next().is_some()
}

/// Whether a path in `code` begins with `word`: `time::Instant` in `a(time::Instant)`, but not in
/// `tokio::time::Instant`.
fn begins_a_path(code: &str, word: &str) -> bool {
    places(code, word).any(|at| !code[..at].ends_with("::"))
}

fn places(code: &str, word: &str) -> impl Iterator<Item = usize> {
    let whole = |at: &usize| !code[..*at].ends_with(in_a_word) && !code[at + word.len()..].starts_with(in_a_word);
    code.match_indices(word).map(|(at, _)| at).filter(whole)
}

/// Whether `code` reaches the path `word`: written out, in a group of imports, through a module that it
/// imports (`use std::time;` and `time::Instant`), under another name, or through a star.
fn reaches(code: &str, word: &str) -> bool {
    let through = |(path, name): &(String, String)| match word.strip_prefix(path.as_str()) {
        Some("") => true,
        Some(below) => below.strip_prefix("::").is_some_and(|below| match name.as_str() {
            "*" => begins_a_path(code, below),
            name => begins_a_path(code, &format!("{name}::{below}")),
        }),
        None => names(path, word),
    };
    names(code, word) || imports(code).iter().any(through)
}

/// Everything that `use` brings in, as (path, name in the code); of a star, (path before it, `*`).
fn imports(code: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("use ").filter(|(at, _)| !code[..*at].ends_with(in_a_word)) {
        let tree = code[at + "use ".len()..].split(';').next().unwrap_or_default();
        let tree = tree.split_whitespace().collect::<Vec<_>>().join(" ");
        expand("", tree.trim_start_matches("::"), &mut found);
    }
    found
}

/// Adds what one tree of `use` names below `above`.
fn expand(above: &str, tree: &str, found: &mut Vec<(String, String)>) {
    let tree = tree.trim();
    if let Some((path, group)) = tree.split_once('{') {
        let above = format!("{above}{path}");
        for branch in branches(group.strip_suffix('}').unwrap_or(group)) {
            expand(&above, branch, found);
        }
    } else if !tree.is_empty() {
        let whole = format!("{above}{tree}");
        let (path, renamed) = whole.split_once(" as ").map_or((&*whole, None), |(path, name)| (path, Some(name)));
        let (before, last) = path.rsplit_once("::").unwrap_or(("", path));
        let path = if matches!(last, "self" | "*") { before } else { path };
        let name = if last == "self" { path.rsplit("::").next().unwrap_or_default() } else { last };
        found.push((path.into(), renamed.unwrap_or(name).into()));
    }
}

/// The parts of a group, at the commas that are not in a group of their own.
fn branches(group: &str) -> Vec<&str> {
    let mut depth = 0;
    let outside = |c: char| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        c == ',' && depth == 0
    };
    group.split(outside).collect()
}

fn assert_absent(dir: &str, words: &[&str], allowed: &[&str], why: &str) {
    let mut wrong = Vec::new();
    for (file, code) in sources(dir) {
        if allowed.iter().any(|prefix| file.starts_with(prefix)) || file.ends_with("tests.rs") {
            continue;
        }
        let code = without_tests(&code);
        for word in words {
            if reaches(&code, word) {
                wrong.push(format!("{file} reaches {word}"));
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
fn every_timer_is_one_that_a_simulation_hears() {
    let timers = ["sleep", "sleep_until", "timeout", "timeout_at", "interval", "interval_at", "Sleep", "Timeout"];
    let timers = timers.map(|timer| format!("tokio::time::{timer}"));
    let timers: Vec<&str> = timers.iter().map(String::as_str).collect();
    let allowed = ["raft/src/timer.rs", "raft/src/disk", "raft/src/wal/tests"];
    assert_absent("raft/src", &timers, &allowed, "set it by raft/src/timer.rs");
    assert_absent("actors/src", &timers, &[], "set it by raft/src/timer.rs");
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
fn a_name_is_a_whole_word() {
    assert!(names("use tokio::net::TcpStream;", "tokio::net"));
    assert!(!names("my_tokio::network()", "tokio::net"));
}

#[test]
fn comments_texts_and_characters_are_no_code() {
    for (text, code) in [
        ("a // f64\nb \"f64\" c", "a \nb  c"),
        ("a /* f64 /* { */ f64\n */ b", "a \n b"),
        ("a(\"f64 \\\" {\n f64\") b", "a(\n) b"),
        ("a(r#\"\"f64\" \\\"#) b", "a() b"),
        ("br\"f64\" r#type", "br r#type"),
        ("('{', '\\'', b'\"', '\\u{7d}') 'a: f64", "(, , b, ) 'a: f64"),
    ] {
        assert_eq!(without_comments_and_texts(text), code, "{text}");
    }
}

#[test]
fn only_what_is_for_tests_is_skipped() {
    for (code, kept) in [
        ("a; #[cfg(test)] mod tests; b;", "a;  b;"),
        ("a; #[cfg(test)] mod tests { fn x() {} } b;", "a;  b;"),
        ("a; #[cfg(test)] #[path = x] pub(crate) mod tests; b;", "a;  b;"),
        ("a; #[cfg(test)] use std::{fs, thread}; b;", "a;  b;"),
        ("a; #[cfg(test)] const X: [u8; 2] = [1, 2]; b;", "a;  b;"),
        ("a; #[cfg(test)] async fn x(a: u8, b: u8) -> u8 { a; b } b;", "a;  b;"),
        ("struct A { #[cfg(test)] x: Map<u8>, y: u8 }", "struct A {  y: u8 }"),
        ("struct A { y: u8, #[cfg(test)] x: u8 }", "struct A { y: u8, }"),
        ("#[cfg(test)] x.notify(1, 2); true", " true"),
        ("#[cfg(test)] mod a; b; #[cfg(test)] mod c {} d;", " b;  d;"),
    ] {
        assert_eq!(without_tests(code), kept, "{code}");
    }
}

#[test]
fn what_is_reached_is_seen() {
    for (code, word) in [
        ("std::fs::read(p)", "std::fs"),
        ("use std::fs;", "std::fs"),
        ("use ::std::fs;", "std::fs"),
        ("use std::{fs, io};", "std::fs"),
        ("pub use std::{\n    fs::{self, File},\n    io,\n};", "std::fs"),
        ("pub(crate) use std::{io, fs::File};", "std::fs"),
        ("use {std::{io, thread}, a::b};", "std::thread"),
        ("use tokio::{net::{TcpStream, UdpSocket}, time};", "tokio::net"),
        ("use std::fs as disk;", "std::fs"),
        ("use std as s; s::fs::read(p)", "std::fs"),
        ("use tokio::{self as t}; t::net::lookup_host(n)", "tokio::net"),
        ("use std::time; time::Instant::now()", "std::time::Instant"),
        ("use std::time::{self, Duration}; time::Instant::now()", "std::time::Instant"),
        ("use std::time::*; Instant::now()", "std::time::Instant"),
        ("use std::{collections::{BTreeMap, HashMap}};", "HashMap"),
        ("use rand::{Rng, rng};", "rand::rng"),
        ("fn a() { use std::{thread, io}; }", "std::thread"),
    ] {
        assert!(reaches(code, word), "{word} in {code}");
    }
}

#[test]
fn what_only_looks_like_it_is_not_seen() {
    for (code, word) in [
        ("use std::{fmt, io}; use crate::fs;", "std::fs"),
        ("use rustix::{fs::FallocateFlags, io::Errno};", "std::fs"),
        ("use std::{time::Duration}; use tokio::time::Instant;", "std::time::Instant"),
        ("use std::time; use tokio::time::Instant; time::Duration::ZERO", "std::time::Instant"),
        ("use tokio::{sync::mpsc, time}; time::sleep(d)", "tokio::net"),
        ("use rand::{rngs::StdRng};", "rand::rng"),
        ("because std; fs", "std::fs"),
    ] {
        assert!(!reaches(code, word), "{word} in {code}");
    }
}
