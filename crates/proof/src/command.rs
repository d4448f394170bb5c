//! The release binary `braidlog`, built once, run as its users run it.
//!
//! The rule: an acknowledgement counts once a whole line of it has come out of the process; everything that came
//! out before its death counts. Nothing here waits without a watchdog.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde::Deserialize;

/// The variable that names a binary to be used instead of the one that would be built.
pub const BINARY: &str = "BRAIDLOG_PROOF_BINARY";

/// How long anything may take that is due at once: far longer than a loaded machine needs.
const WATCHDOG: Duration = Duration::from_secs(120);

/// The release binary. The first call builds it, with the compiler flags and the target directory of the
/// environment.
///
/// # Panics
/// If it cannot be built.
pub fn binary() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| std::env::var_os(BINARY).map_or_else(build, PathBuf::from))
}

/// The part of a message of cargo that names what it has built.
#[derive(Deserialize)]
struct Built {
    executable: Option<PathBuf>,
}

fn build() -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "--release", "--quiet", "--package", "braidlog-cli", "--bin", "braidlog"])
        .arg("--message-format=json")
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
        .stderr(Stdio::inherit())
        .output()
        .expect("cargo can be started");
    assert!(built.status.success(), "the release binary cannot be built");
    let messages = String::from_utf8(built.stdout).expect("cargo writes text");
    let mut executables =
        messages.lines().filter_map(|line| serde_json::from_str::<Built>(line).ok()?.executable);
    executables.next_back().expect("cargo names the executable")
}

/// How a command ended and what it said.
#[derive(Debug)]
pub struct Ended {
    /// Whether its exit code is 0, and what it is otherwise.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: String,
}

/// Runs a command to its end, with nothing on standard input.
///
/// # Panics
/// If it cannot be started.
pub fn run<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Ended {
    let output = Command::new(binary()).args(args).stdin(Stdio::null()).output().expect("the binary starts");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    Ended { status: output.status, stdout: output.stdout, stderr }
}

/// A record as `cat --format json` prints it.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub struct Record {
    /// Its LSN.
    pub lsn: u64,
    /// Its payload, which is text here.
    pub payload: String,
}

/// Every record of the log in `dir`, by `cat`.
///
/// # Errors
/// What the command said, if it failed.
pub fn cat(dir: &Path) -> Result<Vec<Record>, String> {
    let ended = run(["cat".as_ref(), dir.as_os_str(), "--format".as_ref(), "json".as_ref()]);
    if !ended.status.success() {
        return Err(format!("cat fails ({}): {}", ended.status, ended.stderr));
    }
    let lines = ended.stdout.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    lines
        .map(|line| serde_json::from_slice(line).map_err(|error| format!("cat prints no record: {error}")))
        .collect()
}

/// The part of a verdict of `verify --json` that is looked at.
#[derive(Debug, Deserialize)]
pub struct Verdict {
    /// Whether nothing is damaged.
    pub clean: bool,
    /// The last LSN.
    pub last_lsn: u64,
}

/// What `verify` says of the log in `dir`; its last LSN.
///
/// # Errors
/// What it found, if that is anything.
pub fn verify(dir: &Path) -> Result<u64, String> {
    let ended = run(["verify".as_ref(), dir.as_os_str(), "--json".as_ref()]);
    let said = || format!("{} {}", String::from_utf8_lossy(&ended.stdout), ended.stderr);
    match serde_json::from_slice::<Verdict>(&ended.stdout) {
        Ok(verdict) if ended.status.success() && verdict.clean => Ok(verdict.last_lsn),
        _ => Err(format!("verify is not content ({}): {}", ended.status, said())),
    }
}

/// Something that happens while a command writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// It acknowledged a line.
    Ack {
        /// Which line, from 1.
        line: u64,
        /// Where it stands.
        lsn: u64,
    },
    /// Somebody else says something: see the sender of `Writing`.
    Call,
    /// It has ended, or closed its standard output, which comes to the same.
    Ended,
}

/// A `braidlog write --ack` under way. Killed when dropped.
#[derive(Debug)]
pub struct Writing {
    child: Child,
    events: Receiver<Event>,
    feeder: Option<JoinHandle<u64>>,
    stderr: Option<JoinHandle<String>>,
}

impl Writing {
    /// Starts `write` on the log in `dir` with `options`, and feeds it `line(1)` to `line(lines)`. `events` is
    /// where its acknowledgements go, and whatever the holder of the other sender has to say.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start(
        dir: &Path,
        options: &[String],
        lines: u64,
        line: impl Fn(u64) -> String + Send + 'static,
        (sender, events): (Sender<Event>, Receiver<Event>),
    ) -> Writing {
        let mut child = Command::new(binary())
            .args(["write".as_ref(), dir.as_os_str(), "-".as_ref(), "--ack".as_ref()])
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let mut stdin = child.stdin.take().expect("standard input is a pipe");
        let stdout = child.stdout.take().expect("standard output is a pipe");
        let mut stderr = child.stderr.take().expect("standard error is a pipe");
        let feeder = thread::spawn(move || {
            for number in 1..=lines {
                // It has ended if it does not take the line; whether it took part of it, nobody knows.
                if stdin.write_all((line(number) + "\n").as_bytes()).is_err() {
                    return number;
                }
            }
            lines
        });
        thread::spawn(move || {
            tell_acks(stdout, &sender);
            let _ = sender.send(Event::Ended);
        });
        let stderr = thread::spawn(move || {
            let mut said = Vec::new();
            let _ = stderr.read_to_end(&mut said);
            String::from_utf8_lossy(&said).into_owned()
        });
        Writing { child, events, feeder: Some(feeder), stderr: Some(stderr) }
    }

    /// The next thing that happens.
    ///
    /// # Panics
    /// If nothing does.
    pub fn next_event(&mut self) -> Event {
        self.events.recv_timeout(WATCHDOG).expect("I13: the process goes on, or ends")
    }

    /// `SIGKILL`.
    ///
    /// # Panics
    /// If it cannot be killed.
    pub fn kill(&mut self) {
        self.child.kill().expect("a child can be killed");
    }

    /// Waits for its end: how it ended, what it said, and how many lines it may have taken.
    ///
    /// # Panics
    /// If it was waited for before.
    pub fn wait(&mut self) -> (ExitStatus, String, u64) {
        let status = self.child.wait().expect("a child can be waited for");
        let said = self.stderr.take().map(|reader| reader.join().expect("reading does not fail"));
        let fed = self.feeder.take().map(|feeder| feeder.join().expect("feeding does not fail"));
        (status, said.expect("it is waited for once"), fed.expect("it is waited for once"))
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Passes each acknowledgement on until the output ends. Half a line, left behind by a kill, says nothing.
fn tell_acks(stdout: impl Read, sender: &Sender<Event>) {
    let mut stdout = BufReader::new(stdout);
    let mut text = String::new();
    while stdout.read_line(&mut text).is_ok_and(|count| count > 0) && text.ends_with('\n') {
        let (line, lsn) = text.trim_end().split_once('\t').expect("an acknowledgement is a line and an LSN");
        let (line, lsn) = (line.parse().expect("a line number"), lsn.parse().expect("an LSN"));
        if sender.send(Event::Ack { line, lsn }).is_err() {
            return;
        }
        text.clear();
    }
}

/// A new channel of events.
pub fn events() -> (Sender<Event>, Receiver<Event>) {
    mpsc::channel()
}
