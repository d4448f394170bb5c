//! What `{:?}` shows of each handle: which log it is of and where it stands, on a screen and not on pages, and never by waiting.

use std::fmt::Debug;
use std::sync::Arc;

use braidlog::{
    Append, DamagePolicy, Kinds, Lsn, Options, Recover, Repair, Replay, SubscriptionStream, Target, Wal,
};
use braidlog_sim::SimDisk;

fn options() -> Options {
    Wal::options().storage(Arc::new(SimDisk::new())).kinds(Kinds::new().name(7, "order"))
}

#[track_caller]
fn shows(handle: &dyn Debug, words: &[&str]) {
    let text = format!("{handle:?}");
    assert!(text.len() < 1000, "it fills pages: {text}");
    assert!(words.iter().all(|word| text.contains(word)), "{words:?} in {text}");
}

#[test]
fn every_handle_shows_its_log_and_where_it_stands() {
    let options = options();
    let wal = options.open("the-log").unwrap();
    wal.append(b"one").unwrap();
    shows(&wal, &["Wal", "the-log", "last_lsn: Lsn(1)", "durable_lsn: Lsn(1)", "is_closed: false"]);
    shows(&wal.writer(), &["Writer", "the-log", "stripe"]);
    let mut batch = wal.batch();
    batch.push(0, b"12345").unwrap();
    shows(&batch, &["Batch", "len: 1", "payload_bytes: 5"]);
    let ticket = wal.submit(b"two").unwrap();
    shows(&ticket, &["Ticket", "LsnRange", "Lsn(2)"]);
    ticket.wait().unwrap();

    let mut records = wal.replay().unwrap();
    records.next_ref().unwrap().unwrap();
    shows(&records, &["Records", "the-log", "applied_to: "]);
    shows(&wal.iter_rev(..).unwrap(), &["ReverseRecords", "the-log"]);
    let subscription = wal.subscribe(Lsn(2)).unwrap();
    shows(&subscription, &["Subscription", "next_lsn: Lsn(2)"]);
    let stream: SubscriptionStream = subscription.into_stream();
    shows(&stream, &["SubscriptionStream", "next_lsn: Lsn(2)"]);
    shows(&wal.pause_maintenance(), &["Pause", "the-log"]);
    let reader = options.open_read_only("the-log").unwrap();
    shows(&reader, &["ReadOnly", "the-log"]);
    shows(&reader.watch().unwrap(), &["Watcher", "the-log"]);
    wal.close().unwrap();
    shows(&wal, &["is_closed: true"]);
    let damaged = options.on_damage(DamagePolicy::SkipDamaged).read_damaged("the-log").unwrap();
    shows(&damaged, &["Damaged", "the-log", "first_lsn: Lsn(1)", "last_lsn: Lsn(2)"]);
    shows(&wal.append(b"late").unwrap_err(), &["Error", "the-log", "Closed"]);
}

#[test]
fn whatever_says_how_shows_what_it_says() {
    shows(&options(), &["Options", "GroupCommit", "segment_size: 67108864", "order"]);
    shows(&Append::new(b"payload").kind(7), &["Append", "kind: 7"]);
    shows(&Replay::new().range(Lsn(3)..), &["Replay", "Lsn(3)"]);
    shows(&Recover::new().until(Target::lsn(Lsn(9))), &["Recover", "LSN 9"]);
    shows(&Repair::new(DamagePolicy::UntilDamage), &["Repair", "UntilDamage"]);
}
