//! Why a subcommand ended early, and the exit code and message that follow from it.
//!
//! A message says what happened and what to do; `main` alone prints it.

use std::fmt::Display;
use std::io;

use braidlog::ErrorKind;

/// Exit code: damage or a failure was found.
const FAILED: u8 = 1;
/// Exit code: the command line asks for something that cannot be.
pub const BAD_USAGE: u8 = 2;
/// Exit code: a signal asked for the end, and the log was closed cleanly.
pub const INTERRUPTED: u8 = 130;

/// The end of a subcommand that did not reach its own.
#[derive(Debug)]
pub enum Failure {
    /// The command line asks for something that cannot be.
    Usage(String),
    /// Something failed.
    Failed(String),
    /// Something was found that is wrong, and the output has said so already.
    Found,
    /// A signal asked for the end; what it says has been printed.
    Interrupted,
    /// Whoever read standard output has gone: nobody is left to be told, and nothing is wrong.
    ClosedPipe,
}

impl Failure {
    /// The failure of doing `what`.
    pub fn of(what: impl Display, error: impl Display) -> Failure {
        Failure::Failed(format!("{what}: {error}"))
    }

    /// A failure to open a log: an option that the library refuses is bad usage.
    pub fn opening(error: braidlog::Error) -> Failure {
        match error.kind() {
            ErrorKind::InvalidInput => Failure::Usage(error.to_string()),
            _ => error.into(),
        }
    }

    /// What to print, if anything is left to say.
    pub fn message(&self) -> Option<&str> {
        match self {
            Failure::Usage(message) | Failure::Failed(message) => Some(message),
            Failure::Found | Failure::Interrupted | Failure::ClosedPipe => None,
        }
    }

    /// The exit code.
    pub fn code(&self) -> u8 {
        match self {
            Failure::Usage(_) => BAD_USAGE,
            Failure::Failed(_) | Failure::Found => FAILED,
            Failure::Interrupted => INTERRUPTED,
            Failure::ClosedPipe => 0,
        }
    }
}

impl From<braidlog::Error> for Failure {
    fn from(error: braidlog::Error) -> Failure {
        Failure::Failed(error.to_string())
    }
}

/// What a failed write to standard output means. Errors of other files are given a name by [`Failure::of`].
pub fn of_stdout(error: io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::ClosedPipe,
        _ => Failure::of("standard output", error),
    }
}
