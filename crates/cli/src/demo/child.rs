//! This same command as another process: one that can be killed, and whose output can be believed.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;

use serde::Deserialize;

use super::oracle::{Acknowledged, Found};
use crate::failure::Failure;

/// When a writing process ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Until {
    /// It is killed once it has acknowledged so many lines.
    Acknowledged(usize),
    /// It ends by itself, when all lines are written.
    AllWritten,
}

/// What a writing process did.
pub struct Written {
    /// Each acknowledgement that was read from it.
    pub acknowledged: Vec<Acknowledged>,
}

/// Has `braidlog write` write `lines` with so many committing threads.
pub fn write(dir: &Path, lines: &[&[u8]], writers: u32, until: Until) -> Result<Written, Failure> {
    let mut command = command("write", dir)?;
    command.args(["-", "--durability", "group", "--blocking", "--ack", "--writers", &writers.to_string()]);
    let mut child = Running(command.stdin(Stdio::piped()).spawn().map_err(cannot_start)?);
    let stdin = child.0.stdin.take().expect("it is piped");
    let stdout = BufReader::new(child.0.stdout.take().expect("it is piped"));
    let mut acknowledged = Vec::new();
    thread::scope(|scope| {
        let feeder = scope.spawn(move || feed(stdin, lines, until));
        for line in whole_lines(stdout) {
            acknowledged.push(Acknowledged::parse(&line?)?);
            if until == Until::Acknowledged(acknowledged.len()) {
                // SIGKILL. What the process had printed before is still in the pipe, and still true.
                child.0.kill().map_err(|error| Failure::of("cannot kill the writer", error))?;
            }
        }
        // It was kept open so that a killed writer had not ended by itself before.
        drop(feeder.join());
        Ok::<(), Failure>(())
    })?;
    let killed = matches!(until, Until::Acknowledged(count) if count <= acknowledged.len());
    match child.end()? {
        _ if killed => Ok(Written { acknowledged }),
        (true, _) if until == Until::AllWritten => Ok(Written { acknowledged }),
        (_, said) => Err(Failure::Failed(format!("the writing process ended early: {said}"))),
    }
}

/// Runs `braidlog verify`; what it says of a clean log.
pub fn verify(dir: &Path) -> Result<String, Failure> {
    let output = command("verify", dir)?.output().map_err(cannot_start)?;
    let said = String::from_utf8_lossy(&output.stdout).trim_end().replace('\n', "; ");
    if output.status.success() {
        return Ok(said);
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(Failure::Failed(format!("verify is not content: {said} {}", errors.trim_end())))
}

/// A record as `braidlog cat --format json` prints it.
#[derive(Deserialize)]
struct Record {
    lsn: u64,
    payload: Option<String>,
    payload_hex: Option<String>,
}

/// Runs `braidlog cat`; each record that it prints.
pub fn cat(dir: &Path) -> Result<Vec<Found>, Failure> {
    let mut command = command("cat", dir)?;
    let mut child = Running(command.args(["--format", "json"]).spawn().map_err(cannot_start)?);
    let stdout = BufReader::new(child.0.stdout.take().expect("it is piped"));
    let mut found = Vec::new();
    for line in whole_lines(stdout) {
        let record: Record =
            serde_json::from_slice(&line?).map_err(|error| Failure::of("cat printed no JSON", error))?;
        let payload = match (record.payload, record.payload_hex) {
            (Some(text), _) => text.into_bytes(),
            (None, Some(hex)) => from_hex(&hex)?,
            (None, None) => {
                return Err(Failure::Failed("cat printed a record without a payload".to_string()));
            }
        };
        found.push(Found { lsn: record.lsn, payload });
    }
    match child.end()? {
        (true, _) => Ok(found),
        (false, said) => Err(Failure::Failed(format!("cat failed: {said}"))),
    }
}

/// A process that does not outlive this one's interest in it.
struct Running(Child);

impl Running {
    /// Waits for the end: whether it was a good one, and what was said on standard error.
    fn end(&mut self) -> Result<(bool, String), Failure> {
        let mut said = String::new();
        if let Some(mut stderr) = self.0.stderr.take() {
            stderr
                .read_to_string(&mut said)
                .map_err(|error| Failure::of("standard error of a process", error))?;
        }
        let status = self.0.wait().map_err(|error| Failure::of("cannot wait for a process", error))?;
        Ok((status.success(), format!("{status}; {}", said.trim_end().replace('\n', "; "))))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only if it has ended and was waited for already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn command(subcommand: &str, dir: &Path) -> Result<Command, Failure> {
    let program = std::env::current_exe().map_err(|error| Failure::of("cannot find this program", error))?;
    let mut command = Command::new(program);
    command.arg(subcommand).arg(dir).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Ok(command)
}

fn cannot_start(error: std::io::Error) -> Failure {
    Failure::of("cannot start this program a second time", error)
}

/// Feeds the lines; gives the pipe back if the process is to be killed and must not see their end.
fn feed(mut stdin: ChildStdin, lines: &[&[u8]], until: Until) -> Option<ChildStdin> {
    let mut text = Vec::new();
    for lines in lines.chunks(256) {
        text.clear();
        lines.iter().for_each(|line| {
            text.extend_from_slice(line);
            text.push(b'\n');
        });
        // The process has been killed, or has failed and will say why.
        if stdin.write_all(&text).is_err() {
            return None;
        }
    }
    (until != Until::AllWritten).then_some(stdin)
}

/// Each line that ends with a newline: a killed process may leave half a line behind.
fn whole_lines(mut stdout: impl BufRead) -> impl Iterator<Item = Result<Vec<u8>, Failure>> {
    std::iter::from_fn(move || {
        let mut line = Vec::new();
        match stdout.read_until(b'\n', &mut line) {
            Ok(_) => (line.pop() == Some(b'\n')).then_some(Ok(line)),
            Err(error) => Some(Err(Failure::of("output of a process", error))),
        }
    })
}

fn from_hex(hex: &str) -> Result<Vec<u8>, Failure> {
    let no_hex = || Failure::Failed(format!("cat printed no hexadecimal payload: {hex}"));
    hex.as_bytes()
        .chunks(2)
        .map(|pair| {
            let pair = std::str::from_utf8(pair).map_err(|_| no_hex())?;
            u8::from_str_radix(pair, 16).map_err(|_| no_hex())
        })
        .collect()
}
