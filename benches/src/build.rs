//! What was measured: the commit and the compiler. A fact that cannot be found out is said to be unknown.

use std::process::Command;

use serde::Serialize;

/// The facts of the build that a published figure carries.
#[derive(Clone, Debug, Serialize)]
pub struct Build {
    /// The commit that was measured, with `+` if files differ from it.
    pub commit: String,
    /// The compiler.
    pub compiler: String,
}

impl Build {
    /// This build, by the repository and the compiler that are found here now.
    pub fn here() -> Build {
        Build { commit: commit(), compiler: output("rustc", &["--version"]) }
    }
}

fn commit() -> String {
    let commit = output("git", &["rev-parse", "--short=10", "HEAD"]);
    let differs = Command::new("git").args(["diff", "--quiet", "HEAD", "--", "crates", "benches"]).status();
    match differs {
        Ok(status) if status.code() == Some(1) => commit + "+",
        _ => commit,
    }
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output = output.ok().filter(|output| output.status.success());
    output.map_or_else(
        || "unknown".to_owned(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}
