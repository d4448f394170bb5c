//! Values of a type in place of bytes: `cargo run -p braidlog --features rkyv --example typed [DIR]`.
//!
//! A replay looks at each value where it lies, after it was validated; nothing is deserialised. What an earlier version of this
//! program has appended is upgraded when it is read.

use std::error::Error;
use std::io::Write;
use std::path::Path;

use braidlog::{Append, BoxError, Kinds, Rkyv, Schema, TypedWal, Value, Wal};
use rkyv::{Archive, Deserialize, Serialize, rancor};

/// What the first version of this program knew of an order.
#[derive(Archive, Serialize, Deserialize)]
struct OrderV1 {
    number: u64,
    euros: u32,
}

/// What this version knows.
#[derive(Archive, Serialize, Deserialize)]
struct Order {
    number: u64,
    cents: u64,
    articles: Vec<String>,
}

/// An order of the first version, as one of this.
fn upgraded(payload: &[u8]) -> Result<Order, BoxError> {
    // Payloads lie at places of any alignment; an archive wants its own.
    let mut aligned = rkyv::util::AlignedVec::<16>::new();
    aligned.extend_from_slice(payload);
    let old = rkyv::from_bytes::<OrderV1, rancor::Error>(&aligned)?;
    Ok(Order { number: old.number, cents: u64::from(old.euros) * 100, articles: Vec::new() })
}

fn open(dir: &Path) -> Result<Wal, Box<dyn Error>> {
    // Names for kinds; one that is there twice is refused here.
    Ok(Wal::options().kinds(Kinds::new().name(1, "order").name(2, "note")).open(dir)?)
}

/// Does it all in a log of its own.
pub fn run(dir: &Path, out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let wal = open(dir)?;
    let order = wal.kind("order").ok_or("a kind has its name")?.0;
    let first = TypedWal::with(wal.clone(), Rkyv, Schema::new().kind(order).version(1));
    first.append(&OrderV1 { number: 1, euros: 12 })?;
    wal.append_with(Append::new("lunch").kind(2))?;
    wal.close()?;

    // Another day, and another version of the program.
    let wal = open(dir)?;
    let schema = Schema::new().kind(order).version(2).upgrade(1, upgraded);
    let orders = TypedWal::with(wal.clone(), Rkyv, schema);
    orders.append(&Order { number: 2, cents: 995, articles: vec!["apples".into(), "pears".into()] })?;

    // Several values, all or none, beside records of any kind.
    let mut batch = wal.batch();
    orders.push(&mut batch, &Order { number: 3, cents: 5, articles: vec!["milk".into()] })?;
    batch.push(2, "a bag")?;
    batch.commit()?;

    let mut records = orders.replay()?;
    while let Some(record) = records.next_ref() {
        let record = record?;
        let lsn = record.record.lsn;
        match record.value {
            // `order` is the archived form: what is asked of it is read from the payload itself.
            Value::Current(order) => {
                let articles = order.articles.iter().map(|article| article.as_str()).collect::<Vec<_>>();
                writeln!(
                    out,
                    "{lsn}: order {}, {} cents, {}",
                    order.number,
                    order.cents,
                    articles.join(" and ")
                )?;
            }
            Value::Upgraded(order) => {
                writeln!(out, "{lsn}: order {}, {} cents, of an earlier version", order.number, order.cents)?;
            }
            Value::Raw => {
                let kind = wal.kind_name(record.record.kind).unwrap_or("unknown kind");
                writeln!(out, "{lsn}: {kind} of {} bytes", record.record.payload.len())?;
            }
        }
    }
    wal.close()?;
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let scratch = tempfile::tempdir()?;
    let path = std::env::args_os().nth(1).map_or_else(|| scratch.path().join("wal"), Into::into);
    run(&path, &mut std::io::stdout())
}
