//! Money that moves between two logs, in both or in neither, over a crash: `cargo run -p braidlog --example two_phase_commit [DIR]`.

use std::error::Error;
use std::io::Write;
use std::path::Path;

use braidlog::{BoxError, LogParticipant, Participant, TwoPhaseCommit, Wal};

/// Two banks with a log each, and who decides between them.
struct Banks {
    north: Wal,
    south: Wal,
    two_phase: TwoPhaseCommit,
}

impl Banks {
    /// Opens all, and decides what was left in doubt.
    fn open(dir: &Path, out: &mut impl Write) -> Result<Banks, Box<dyn Error>> {
        let north = Wal::options().open(dir.join("north"))?;
        let south = Wal::options().open(dir.join("south"))?;
        let two_phase = TwoPhaseCommit::open(Wal::options(), dir.join("decisions"))?;
        let banks = Banks { north, south, two_phase };
        let (mut north, mut south) = banks.participants();
        let resolved = banks.two_phase.recover(&mut [&mut north, &mut south]);
        let (committed, rolled_back) = (resolved.committed.len(), resolved.rolled_back.len());
        writeln!(out, "opened: {committed} committed, {rolled_back} rolled back")?;
        Ok(banks)
    }

    fn participants(&self) -> (LogParticipant, LogParticipant) {
        (LogParticipant::new("north", &self.north), LogParticipant::new("south", &self.south))
    }

    fn print(&self, out: &mut impl Write) -> Result<(), Box<dyn Error>> {
        for (name, wal) in [("north", &self.north), ("south", &self.south)] {
            let effects = wal.replay()?.map(|record| Ok(String::from_utf8(record?.payload)?));
            let effects = effects.collect::<Result<Vec<_>, Box<dyn Error>>>()?;
            writeln!(out, "{name}: {}, {} in doubt", effects.join(", "), wal.in_doubt().len())?;
        }
        Ok(())
    }
}

/// The way to a bank, which is cut when it has prepared.
struct CutOff<'a>(&'a mut LogParticipant);

impl Participant for CutOff<'_> {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn prepare(&mut self, global_id: &[u8]) -> Result<(), BoxError> {
        self.0.prepare(global_id)
    }

    fn commit(&mut self, _: &[u8]) -> Result<(), BoxError> {
        Err("no answer".into())
    }

    fn rollback(&mut self, _: &[u8]) -> Result<(), BoxError> {
        Err("no answer".into())
    }

    fn in_doubt(&mut self) -> Result<Vec<Vec<u8>>, BoxError> {
        Err("no answer".into())
    }
}

/// A bank that is closed.
struct Closed;

impl Participant for Closed {
    fn name(&self) -> &str {
        "closed"
    }

    fn prepare(&mut self, _: &[u8]) -> Result<(), BoxError> {
        Err("we are closed".into())
    }

    fn commit(&mut self, _: &[u8]) -> Result<(), BoxError> {
        Ok(())
    }

    fn rollback(&mut self, _: &[u8]) -> Result<(), BoxError> {
        Ok(())
    }

    fn in_doubt(&mut self) -> Result<Vec<Vec<u8>>, BoxError> {
        Ok(Vec::new())
    }
}

/// Does it all in logs of its own.
pub fn run(dir: &Path, out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let banks = Banks::open(dir, out)?;
    let (mut north, mut south) = banks.participants();
    north.transaction()?.append(1, b"alice -10")?;
    south.transaction()?.append(1, b"bob +10")?;
    banks.two_phase.commit(&mut [&mut north, &mut south])?;
    banks.print(out)?;

    // Both have prepared, and it is decided. That one of them cannot be told changes nothing.
    north.transaction()?.append(1, b"alice -20")?;
    south.transaction()?.append(1, b"bob +20")?;
    let outcome = banks.two_phase.commit(&mut [&mut north, &mut CutOff(&mut south)])?;
    writeln!(out, "committed, and not told: {}", outcome.untold[0].participant)?;
    banks.print(out)?;
    drop((banks, north, south));

    let banks = Banks::open(dir, out)?;
    banks.print(out)?;

    // One that does not prepare is the end of it for all, for one that cannot be told too.
    let (mut north, _) = banks.participants();
    north.transaction()?.append(1, b"alice -30")?;
    let refused = banks.two_phase.commit(&mut [&mut CutOff(&mut north), &mut Closed]).unwrap_err();
    writeln!(out, "{refused}")?;
    banks.print(out)?;
    drop((banks, north));

    let banks = Banks::open(dir, out)?;
    banks.print(out)?;
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let scratch = tempfile::tempdir()?;
    let path = std::env::args_os().nth(1).map_or_else(|| scratch.path().to_owned(), Into::into);
    run(&path, &mut std::io::stdout())
}
