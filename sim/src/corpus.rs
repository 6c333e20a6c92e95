//! The corpus: plans that once failed and must pass, a file each, and what each of them reaches. A few
//! seconds for all of them, so that every build runs them.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

/// Where it is, seen from the repository's root.
pub const DIR: &str = "sim/corpus";

/// The plans in a directory, by name.
///
/// # Errors
/// When it cannot be read.
pub fn plans(dir: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let mut plans = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "plan")
            && let Some(name) = path.file_stem()
        {
            plans.push((name.to_string_lossy().into_owned(), path));
        }
    }
    plans.sort();
    Ok(plans)
}

/// What a plan reaches, and what it costs.
#[derive(Clone, Debug)]
pub struct Reach {
    pub name: String,
    /// Bytes of its file.
    pub size: u64,
    pub marks: BTreeSet<&'static str>,
    /// The known mistake that it guards against.
    pub guards: Option<String>,
}

/// The plans all of whose marks are reached, and whose mistake is guarded against, by those that stay: the
/// largest go first.
pub fn dispensable(plans: &[Reach]) -> Vec<String> {
    let mut by_size: Vec<&Reach> = plans.iter().collect();
    by_size.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.name.cmp(&b.name)));
    let mut gone = Vec::new();
    for plan in &by_size {
        let others = || by_size.iter().filter(|other| other.name != plan.name && !gone.contains(&other.name));
        let reached: BTreeSet<&str> = others().flat_map(|other| other.marks.iter().copied()).collect();
        let guarded = plan.guards.is_none() || others().any(|other| other.guards == plan.guards);
        if guarded && plan.marks.iter().all(|mark| reached.contains(mark)) {
            gone.push(plan.name.clone());
        }
    }
    gone
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(name: &str, size: u64, marks: &[&'static str]) -> Reach {
        Reach { name: name.into(), size, marks: marks.iter().copied().collect(), guards: None }
    }

    #[test]
    fn what_guards_against_something_stays() {
        let guard = |name: &str, size| Reach { guards: Some("a.mistake".into()), ..reach(name, size, &["a"]) };
        assert_eq!(dispensable(&[guard("large", 9), guard("small", 2), reach("other", 1, &["a"])]), ["large", "other"]);
    }

    #[test]
    fn what_stays_reaches_all_that_was_reached() {
        let plans = [
            reach("large", 9, &["a", "b"]),
            reach("own", 8, &["a", "c"]),
            reach("small", 2, &["b"]),
            reach("twin", 2, &["b"]),
        ];
        assert_eq!(dispensable(&plans), ["large", "small"]);
        assert_eq!(dispensable(&plans[1..3]), [] as [&str; 0]);
    }
}
