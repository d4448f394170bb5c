//! Accounts whose transfers take effect as a whole or not at all: `cargo run -p braidlog --example transactions [DIR]`.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::Write;
use std::path::Path;

use braidlog::{Wal, Writer};

/// A change of an account: its name, a tab, and by how much.
const CHANGE: u8 = 1;

fn change(account: &str, by: i64) -> Vec<u8> {
    format!("{account}\t{by}").into_bytes()
}

/// Moves an amount, and takes a fee if somebody is there to pay it.
fn transfer(writer: &Writer, from: &str, to: &str, amount: i64, balance: i64) -> braidlog::Result<bool> {
    let mut tx = writer.begin()?;
    tx.append(CHANGE, change(from, -amount))?.append(CHANGE, change(to, amount))?;
    let before_the_fee = tx.savepoint();
    tx.append(CHANGE, change(from, -1))?.append(CHANGE, change("bank", 1))?;
    if amount == balance {
        // Nothing is left for the fee: the transfer is made without it.
        tx.rollback_to(before_the_fee)?;
    }
    if amount > balance {
        // Nothing of it is in the log, and dropping it would do the same.
        tx.abort();
        return Ok(false);
    }
    // Durable when it returns: one write and one sync, however many records.
    tx.commit()?;
    Ok(true)
}

/// Does it all in a log of its own.
pub fn run(dir: &Path, out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let wal = Wal::options().open(dir)?;
    let writer = wal.writer();
    wal.append_with(braidlog::Append::new(&change("alice", 100)).kind(CHANGE))?;
    for (amount, balance) in [(30, 100), (500, 69), (69, 69)] {
        let done = transfer(&writer, "alice", "bob", amount, balance)?;
        writeln!(out, "{amount} from alice to bob: {}", if done { "done" } else { "refused" })?;
    }
    wal.close()?;

    // Another day: a replay gives what was committed, the records of each transaction together.
    let wal = Wal::options().open(dir)?;
    let mut accounts = BTreeMap::<String, i64>::new();
    for record in wal.replay()? {
        let record = record?;
        let text = String::from_utf8(record.payload)?;
        let (account, by) = text.split_once('\t').ok_or("a change has a tab")?;
        *accounts.entry(account.to_owned()).or_default() += by.parse::<i64>()?;
        match record.fields.transaction {
            Some(id) => writeln!(out, "transaction {id}: {account} {by}")?,
            None => writeln!(out, "alone: {account} {by}")?,
        }
    }
    for (account, balance) in accounts {
        writeln!(out, "{account} has {balance}")?;
    }
    wal.close()?;
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let scratch = tempfile::tempdir()?;
    let path = std::env::args_os().nth(1).map_or_else(|| scratch.path().join("wal"), Into::into);
    run(&path, &mut std::io::stdout())
}
