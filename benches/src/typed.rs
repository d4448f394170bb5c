//! Replay of typed entries beside a replay of the same records as bytes, by turns, from a warm page cache.
//!
//! The values have 128 bytes: measurements, numbers all of them, and orders, with a text of 60 bytes. The raw replay takes a number
//! out of each payload; the typed one validates all of it, the text's place and UTF-8 too, and takes the same number out of the
//! value where it lies; the third makes a value with memory of its own of each record.
//!
//! # What is checked, after the clock
//! Each way has seen the number of every record.

use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use braidlog::{Codec, DurabilityMode, Retention, Rkyv, TypedWal, Value, Wal};
use braidlog_measure::figure::Figure;
use rkyv::{Archive, rancor};
use serde::Serialize;

use crate::scratch;
use crate::workload::Result;

/// Records of the log: some 170 MiB.
const RECORDS: u64 = 1_000_000;

/// A measurement.
#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct Measurement {
    number: u64,
    sensor: u64,
    values: [f64; 14],
}

/// An order as a shop might log it.
#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct Order {
    number: u64,
    customer: u64,
    articles: [u32; 8],
    cents: u64,
    note: String,
}

/// What is read and written.
trait Shape: Archive + Sized + 'static {
    const NAME: &'static str;

    fn new(number: u64) -> Self;
    fn number(archived: &Self::Archived) -> u64;
    fn deserialised(archived: &Self::Archived) -> Result<u64>;
}

impl Shape for Measurement {
    const NAME: &'static str = "numbers";

    fn new(number: u64) -> Measurement {
        Measurement {
            number,
            sensor: number % 50_000,
            values: std::array::from_fn(|at| number as f64 / (at + 1) as f64),
        }
    }

    fn number(archived: &ArchivedMeasurement) -> u64 {
        archived.number.to_native()
    }

    fn deserialised(archived: &ArchivedMeasurement) -> Result<u64> {
        let value = rkyv::deserialize::<Measurement, rancor::Error>(archived)?;
        Ok(black_box(value).number)
    }
}

impl Shape for Order {
    const NAME: &'static str = "numbers and a text";

    fn new(number: u64) -> Order {
        Order {
            number,
            customer: number % 50_000,
            articles: std::array::from_fn(|line| (number as u32).wrapping_mul(line as u32)),
            cents: number % 100_000,
            note: format!("leave it with the neighbours at number {number:020}"),
        }
    }

    fn number(archived: &ArchivedOrder) -> u64 {
        archived.number.to_native()
    }

    fn deserialised(archived: &ArchivedOrder) -> Result<u64> {
        let value = rkyv::deserialize::<Order, rancor::Error>(archived)?;
        Ok(black_box(value).number)
    }
}

/// The three ways to read one shape.
#[derive(Clone, Debug, Serialize)]
pub struct TypedReplay {
    /// What the values are.
    pub shape: &'static str,
    /// Records in the log.
    pub records: u64,
    /// Bytes of a payload.
    pub payload_bytes: u64,
    /// Records per second, as bytes.
    pub raw: Figure,
    /// Records per second, looked at as values.
    pub typed: Figure,
    /// Records per second, deserialised.
    pub deserialised: Figure,
    /// Time of the second to time of the first, repetition by repetition.
    pub typed_to_raw: Figure,
    /// Time of the third to time of the first.
    pub deserialised_to_raw: Figure,
}

/// Measures all three, with either shape.
///
/// # Errors
/// An error of the log or the system, or a wrong result.
pub fn measure(base: Option<&Path>, repetitions: usize) -> Result<Vec<TypedReplay>> {
    Ok(vec![measure_one::<Measurement>(base, repetitions)?, measure_one::<Order>(base, repetitions)?])
}

fn measure_one<T: Shape>(base: Option<&Path>, repetitions: usize) -> Result<TypedReplay>
where
    Rkyv: for<'a> Codec<T, View<'a> = &'a T::Archived>,
{
    let dir = scratch::directory(base)?;
    let options = Wal::options().mode(DurabilityMode::asynchronous()).retention(Retention::keep_all());
    let wal = TypedWal::new(options.open(dir.path())?, Rkyv);
    for number in 1..=RECORDS {
        wal.append(&T::new(number))?;
    }
    wal.wal().flush()?;
    let payload_bytes = wal.wal().iter(..)?.next().ok_or("a record is missing")??.payload.len() as u64;
    type Way<T> = fn(&TypedWal<T, Rkyv>) -> Result<u64>;
    let ways: [Way<T>; 3] =
        [raw, |wal| sum(wal, |value| Ok(T::number(value))), |wal| sum(wal, T::deserialised)];
    let mut rates = [const { Vec::new() }; 3];
    // The first repetition warms up.
    for repetition in 0..=repetitions {
        for (way, rates) in ways.iter().zip(&mut rates) {
            let start = Instant::now();
            let sum = way(&wal)?;
            let rate = RECORDS as f64 / start.elapsed().as_secs_f64();
            if sum != RECORDS * (RECORDS + 1) / 2 {
                return Err("a number is missing or wrong".into());
            }
            if repetition > 0 {
                rates.push(rate);
            }
        }
    }
    wal.wal().close()?;
    let to_raw = |rates: &[f64], raw: &[f64]| Figure::of(raw.iter().zip(rates).map(|(raw, rate)| raw / rate));
    let [raw, typed, deserialised] = rates;
    Ok(TypedReplay {
        shape: T::NAME,
        records: RECORDS,
        payload_bytes,
        typed_to_raw: to_raw(&typed, &raw),
        deserialised_to_raw: to_raw(&deserialised, &raw),
        raw: Figure::of(raw),
        typed: Figure::of(typed),
        deserialised: Figure::of(deserialised),
    })
}

fn raw<T: Shape>(wal: &TypedWal<T, Rkyv>) -> Result<u64>
where
    Rkyv: Codec<T>,
{
    let mut records = wal.wal().replay()?;
    let mut sum = 0;
    while let Some(record) = records.next_ref() {
        let payload = record?.payload;
        // Where rkyv has put the number: the value is at the end of its archive.
        let at = payload.len() - size_of::<T::Archived>();
        let number = payload[at..].first_chunk().ok_or("a short payload")?;
        sum += u64::from_le_bytes(*number);
    }
    Ok(sum)
}

fn sum<T: Shape>(wal: &TypedWal<T, Rkyv>, number: impl Fn(&T::Archived) -> Result<u64>) -> Result<u64>
where
    Rkyv: for<'a> Codec<T, View<'a> = &'a T::Archived>,
{
    let mut records = wal.replay()?;
    let mut sum = 0;
    while let Some(record) = records.next_ref() {
        if let Value::Current(value) = record?.value {
            sum += number(value)?;
        }
    }
    Ok(sum)
}
