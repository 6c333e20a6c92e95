//! `sim bisect`: the commit that made a plan fail, or pass. Builds commits in a work tree of its own,
//! and leaves the one it was started in alone.

use std::{
    fmt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use clap::Args;

use super::{CRASH, LIVENESS, NONDETERMINISM, OK, SAFETY, replay};

#[derive(Debug, Args)]
pub struct BisectArgs {
    /// A plan that fails with one commit and passes with the other.
    plan: PathBuf,
    /// A commit with which it passes.
    #[arg(long)]
    good: String,
    /// A later one with which it fails.
    #[arg(long)]
    bad: String,
}

/// What a plan came to with one commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Good,
    Bad,
    /// It does not build, or cannot read the plan.
    Skip,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Good => "good",
            Verdict::Bad => "bad",
            Verdict::Skip => "skip",
        })
    }
}

/// A work tree that is gone when this is.
struct WorkTree<'a> {
    repository: &'a Path,
    path: PathBuf,
}

impl<'a> WorkTree<'a> {
    fn of(repository: &'a Path, path: PathBuf, commit: &str) -> Result<Self> {
        let text = path.to_string_lossy();
        git(repository, &["worktree", "add", "--detach", &text, commit])?;
        Ok(Self { repository, path })
    }
}

impl Drop for WorkTree<'_> {
    fn drop(&mut self) {
        // What cannot be taken away is named by git, and harms nobody.
        let _ = git(self.repository, &["worktree", "remove", "--force", &self.path.to_string_lossy()]);
    }
}

pub fn bisect(args: &BisectArgs) -> Result<u8> {
    replay::read(&args.plan)?;
    let plan = args.plan.canonicalize().with_context(|| format!("{} cannot be read", args.plan.display()))?;
    let here = std::env::current_dir().context("there is no current directory")?;
    let repository = PathBuf::from(git(&here, &["rev-parse", "--show-toplevel"])?.trim());
    let path = std::env::temp_dir().join(format!("stakehold-bisect-{}", std::process::id()));
    println!("commits are built in {}: the first takes minutes", path.display());
    let found = search(&repository, path, &args.good, &args.bad, |tree| judge(tree, &plan))?;
    println!("{found}");
    Ok(OK)
}

/// Builds the simulator of the commit that is in the work tree, and runs the plan with it.
fn judge(tree: &Path, plan: &Path) -> Result<Verdict> {
    let built = Command::new("cargo")
        .args(["build", "--quiet", "--profile", "sim", "--locked", "-p", "stakehold-sim"])
        .current_dir(tree)
        .env_remove("CARGO_TARGET_DIR")
        .status()
        .context("cargo cannot be started")?;
    if !built.success() {
        return Ok(Verdict::Skip);
    }
    let ran = Command::new(tree.join("target/sim/sim"))
        .arg("replay")
        .arg(plan)
        .stdin(Stdio::null())
        .output()
        .context("the simulator cannot be started")?;
    let code = ran.status.code().and_then(|code| u8::try_from(code).ok());
    for line in String::from_utf8_lossy(&ran.stdout).lines().filter(|line| line.starts_with("at ")) {
        println!("  {line}");
    }
    Ok(match code {
        Some(OK) => Verdict::Good,
        // One that ended by a signal crashed too.
        None | Some(SAFETY | LIVENESS | CRASH | NONDETERMINISM) => Verdict::Bad,
        Some(_) => Verdict::Skip,
    })
}

/// What git says of the commit in question, once each commit it asks for is judged.
fn search(
    repository: &Path,
    path: PathBuf,
    good: &str,
    bad: &str,
    mut judge: impl FnMut(&Path) -> Result<Verdict>,
) -> Result<String> {
    // Names like HEAD are another commit in another work tree.
    let commit = |name: &str| git(repository, &["rev-parse", "--verify", &format!("{name}^{{commit}}")]);
    let (first, last) = (commit(good)?.trim().to_owned(), commit(bad)?.trim().to_owned());
    let tree = WorkTree::of(repository, path, &last)?;
    let judge = &mut judge;
    for (name, commit, wanted) in [(bad, &last, Verdict::Bad), (good, &first, Verdict::Good)] {
        git(&tree.path, &["checkout", "--quiet", "--detach", commit])?;
        let verdict = told(&tree.path, judge)?;
        if verdict != wanted {
            bail!("{name} was to be {wanted} and is {verdict}: choose another");
        }
    }
    let mut said = git(&tree.path, &["bisect", "start", &last, &first])?;
    loop {
        if said.contains("is the first bad commit") || said.contains("only 'skip'ped commits left") {
            return Ok(said.trim().to_owned());
        }
        let verdict = told(&tree.path, judge)?.to_string();
        said = match git(&tree.path, &["bisect", &verdict]) {
            Ok(said) => said,
            // So it says that it could only be one of several.
            Err(error) if error.to_string().contains("only 'skip'ped commits left") => error.to_string(),
            Err(error) => return Err(error),
        };
    }
}

fn told(tree: &Path, judge: &mut impl FnMut(&Path) -> Result<Verdict>) -> Result<Verdict> {
    let commit = git(tree, &["log", "-1", "--format=%h %s"])?;
    println!("{}", commit.trim());
    let verdict = judge(tree)?;
    println!("  {verdict}");
    Ok(verdict)
}

/// What git printed.
fn git(directory: &Path, words: &[&str]) -> Result<String> {
    let done = Command::new("git").arg("-C").arg(directory).args(words).output().context("git cannot be started")?;
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    if !done.status.success() {
        bail!("git {} failed: {}{said}", words.join(" "), String::from_utf8_lossy(&done.stderr));
    }
    Ok(said)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Commits 0 to 9; what is in the file says what each is.
    fn repository(name: &str, is: impl Fn(u32) -> &'static str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("stakehold-bisect-test-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        git(&path, &["init", "--quiet"]).unwrap();
        for n in 0..10 {
            fs::write(path.join("verdict"), format!("{n} {}", is(n))).unwrap();
            git(&path, &["add", "verdict"]).unwrap();
            let who = ["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false"];
            let commit = ["commit", "--quiet", "-m", &format!("number {n}")];
            git(&path, &[&who[..], &commit[..]].concat()).unwrap();
        }
        path
    }

    fn read(tree: &Path) -> Result<Verdict> {
        let text = fs::read_to_string(tree.join("verdict"))?;
        Ok(match text.split_once(' ').unwrap().1 {
            "good" => Verdict::Good,
            "bad" => Verdict::Bad,
            _ => Verdict::Skip,
        })
    }

    fn found(name: &str, is: impl Fn(u32) -> &'static str) -> Result<String> {
        let path = repository(name, is);
        let found = search(&path, path.join("tree"), "HEAD~9", "HEAD", read);
        assert!(!path.join("tree").exists(), "the work tree is gone");
        fs::remove_dir_all(path).unwrap();
        found
    }

    #[test]
    fn the_first_bad_commit_is_found() {
        for first in 1..10 {
            let said = found("first", |n| if n < first { "good" } else { "bad" }).unwrap();
            assert!(said.contains("is the first bad commit") && said.contains(&format!("number {first}")), "{said}");
        }
    }

    #[test]
    fn commits_that_do_not_build_are_skipped() {
        let said = found("skip", |n| {
            if n < 3 {
                "good"
            } else if n < 6 {
                "skip"
            } else {
                "bad"
            }
        })
        .unwrap();
        assert!(said.contains("only 'skip'ped commits left"), "{said}");
    }

    #[test]
    fn ends_that_are_not_what_was_said_are_refused() {
        let why = found("ends", |_| "bad").unwrap_err().to_string();
        assert_eq!(why, "HEAD~9 was to be good and is bad: choose another");
    }
}
