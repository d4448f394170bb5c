//! What the tests share: running the command, feeding it, killing it, and reading logs independently of it.
//!
//! The rule: nothing waits for time to pass. A test waits for an event, and a watchdog turns an event that
//! never comes into a failure.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use braidlog::{Record, Wal};

/// How long the watchdog lets an event take that is due at once: far longer than a loaded machine needs.
const WATCHDOG: Duration = Duration::from_secs(120);

/// Real text, the one that the demo ships.
pub const PACKAGES: &str = include_str!("../data/packages.txt");

/// A `braidlog` command line.
pub fn braidlog<I: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = I>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_braidlog"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// How a command ended and what it said.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Ended {
    /// Standard output of a command that is expected to be fine.
    #[track_caller]
    pub fn ok(&self) -> &[u8] {
        assert_eq!(self.code, Some(0), "{self:?}");
        &self.stdout
    }

    /// Standard output as text, lines kept whole.
    #[track_caller]
    pub fn text(&self) -> &str {
        std::str::from_utf8(self.ok()).expect("text")
    }

    /// Standard output as one JSON value.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Asserts a failure with this code and a message that holds all these words.
    #[track_caller]
    pub fn failed(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(self.stderr.starts_with("braidlog: "), "{self:?}");
        for word in words {
            assert!(self.stderr.contains(word), "`{word}` is missing: {self:?}");
        }
    }
}

/// Runs a command to its end.
pub fn run<I: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = I>) -> Ended {
    run_with_input(args, b"")
}

/// Runs a command to its end with `input` on standard input.
pub fn run_with_input<I: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = I>, input: &[u8]) -> Ended {
    let mut child = braidlog(args).stdin(Stdio::piped()).spawn().expect("the command starts");
    let mut stdin = child.stdin.take().unwrap();
    thread::scope(|scope| {
        // A command may end without having read all.
        scope.spawn(move || drop(stdin.write_all(input)));
        let output = child.wait_with_output().expect("the command ends");
        Ended {
            code: output.status.code(),
            stdout: output.stdout,
            stderr: String::from_utf8(output.stderr).expect("messages are UTF-8"),
        }
    })
}

/// A path as an argument.
pub fn arg(path: &Path) -> &str {
    path.to_str().expect("temporary directories have UTF-8 names")
}

/// A command that is under way: fed, read line by line, killed when dropped.
pub struct Live {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<Vec<u8>>,
    stderr: Option<thread::JoinHandle<String>>,
}

impl Live {
    pub fn start<I: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = I>) -> Live {
        let mut child = braidlog(args).stdin(Stdio::piped()).spawn().expect("the command starts");
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut stderr = child.stderr.take().unwrap();
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            loop {
                let mut line = Vec::new();
                let read = stdout.read_until(b'\n', &mut line);
                // Half a line, left behind by a kill, says nothing.
                if read.is_err() || line.pop() != Some(b'\n') || sender.send(line).is_err() {
                    return;
                }
            }
        });
        let stderr = thread::spawn(move || {
            let mut said = Vec::new();
            let _ = stderr.read_to_end(&mut said);
            String::from_utf8_lossy(&said).into_owned()
        });
        Live { stdin: child.stdin.take(), child, lines, stderr: Some(stderr) }
    }

    /// Writes to its standard input; false if it has ended.
    pub fn feed(&mut self, bytes: &[u8]) -> bool {
        let stdin = self.stdin.as_mut().expect("standard input is open");
        stdin.write_all(bytes).and_then(|()| stdin.flush()).is_ok()
    }

    /// Its standard input, to be fed from elsewhere.
    pub fn take_stdin(&mut self) -> ChildStdin {
        self.stdin.take().expect("standard input is open")
    }

    /// Ends its standard input.
    pub fn end_input(&mut self) {
        self.stdin = None;
    }

    /// The next line that it prints; `None` when it has ended.
    #[track_caller]
    pub fn next_line(&mut self) -> Option<Vec<u8>> {
        match self.lines.recv_timeout(WATCHDOG) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("nothing was printed in {WATCHDOG:?}"),
        }
    }

    /// The next line, as an acknowledgement.
    #[track_caller]
    pub fn next_ack(&mut self) -> Option<(u64, u64)> {
        self.next_line().map(|line| parse_ack(&line))
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().expect("it can be killed");
    }

    /// Waits for its end: how it ended, and what it said on standard error.
    pub fn wait(&mut self) -> (ExitStatus, String) {
        let status = self.child.wait().expect("it ends");
        let said = self.stderr.take().expect("waited for once").join().expect("standard error is read");
        (status, said)
    }

    /// Kills it and takes in what it had acknowledged before.
    #[track_caller]
    pub fn kill_and_drain(&mut self) -> Vec<(u64, u64)> {
        self.kill();
        let mut acks = Vec::new();
        while let Some(ack) = self.next_ack() {
            acks.push(ack);
        }
        let (status, said) = self.wait();
        assert_eq!(status.signal(), Some(9), "it had ended by itself: {status}, {said}");
        acks
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads `line-number<TAB>LSN`.
#[track_caller]
pub fn parse_ack(line: &[u8]) -> (u64, u64) {
    let text = std::str::from_utf8(line).expect("an acknowledgement is text");
    let (line, lsn) = text.split_once('\t').unwrap_or_else(|| panic!("no acknowledgement: {text}"));
    (line.parse().expect("a line number"), lsn.parse().expect("an LSN"))
}

/// Each acknowledgement in the output of `write --ack`.
pub fn parse_acks(stdout: &[u8]) -> Vec<(u64, u64)> {
    stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(parse_ack).collect()
}

/// Everything that the log in `dir` shows, by the library; its LSNs are checked to be 1, 2, 3, ...
pub fn read_all(dir: &Path) -> Vec<Record> {
    let log = Wal::open_read_only(dir).expect("the log can be read");
    let records: Vec<Record> = log.iter(..).unwrap().map(|record| record.expect("a whole record")).collect();
    for (record, lsn) in records.iter().zip(1..) {
        assert_eq!(record.lsn.0, lsn, "LSNs are dense");
    }
    assert_eq!(log.last_lsn().unwrap().0, records.len() as u64);
    records
}

/// A small generator of random numbers, the same for the same seed (SplitMix64).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }
}
