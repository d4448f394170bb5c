//! The examples print what they are there to show.

use std::error::Error;
use std::path::Path;

#[expect(dead_code, reason = "the example's own `main`")]
#[path = "../examples/async_tokio.rs"]
mod async_tokio;
#[expect(dead_code, reason = "the example's own `main`")]
#[path = "../examples/change_feed.rs"]
mod change_feed;
#[expect(dead_code, reason = "the example's own `main`")]
#[path = "../examples/many_writers.rs"]
mod many_writers;
#[expect(dead_code, reason = "the example's own `main`")]
#[path = "../examples/quickstart.rs"]
mod quickstart;
#[expect(dead_code, reason = "the example's own `main`")]
#[path = "../examples/replay.rs"]
mod replay;
#[expect(dead_code, reason = "the example's own `main`")]
#[path = "../examples/transactions.rs"]
mod transactions;
#[expect(dead_code, reason = "the example's own `main`")]
#[path = "../examples/two_phase_commit.rs"]
mod two_phase_commit;
#[cfg(feature = "rkyv")]
#[expect(dead_code, reason = "the example's own `main`")]
#[path = "../examples/typed.rs"]
mod typed;

/// What an example prints that is given a directory of its own.
fn printed(run: impl FnOnce(&Path, &mut Vec<u8>) -> Result<(), Box<dyn Error>>) -> String {
    let dir = tempfile::tempdir().unwrap();
    let mut printed = Vec::new();
    run(dir.path(), &mut printed).unwrap();
    String::from_utf8(printed).unwrap()
}

#[test]
fn records_of_the_quickstart_are_durable_and_come_back() {
    const PRINTED: &str = "\
opening 1, 0 records found
record 1 is durable
record 2 is in the log, and soon durable
records 3..=4 are durable together
record 5 is on its way
record 5 is durable
   1  kind 0  debit alice 10
   2  kind 7  note: lunch
   3  kind 1  debit alice 5
   4  kind 1  credit bob 5
   5  kind 0  debit carol 1
";
    assert_eq!(printed(quickstart::run), PRINTED);
}

#[test]
fn writers_of_the_example_share_syncs_and_keep_their_order() {
    const PRINTED: &str = "\
16 threads appended 4800 records
every record is there, once and in its thread's order: true
";
    let printed = printed(|dir, out| {
        let metrics = many_writers::run(dir, 300, out)?;
        assert!(metrics.syncs < 4_800, "{} syncs", metrics.syncs);
        Ok(())
    });
    assert_eq!(printed, PRINTED);
}

#[test]
fn tasks_of_the_example_lose_no_record_that_they_stop_waiting_for() {
    const PRINTED: &str = "\
100 requests answered
imported, durable up to record 1100
record 1101 survives a kill of this process
record 1101 survives a power cut
record 1102 is durable, whoever stopped waiting for it
1102 records are in the log
";
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
    assert_eq!(printed(|dir, out| runtime.block_on(async_tokio::run(dir, out))), PRINTED);
}

#[test]
fn the_view_of_the_example_takes_each_change_once_though_it_is_killed() {
    const PRINTED: &str = "\
the view begins behind change 0
change 1: apple 10
change 2: pear 5
change 3: apple -3
killed before it was saved
the view begins behind change 2
change 3: apple -3
change 4: plum 1
change 5: pear -5
7 x apple
0 x pear
1 x plum
";
    assert_eq!(printed(|dir, out| change_feed::run(dir, out).map_err(|error| error as _)), PRINTED);
}

#[test]
fn counters_of_the_example_are_what_every_run_has_made_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let run = |words: &[&str]| {
        let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
        let mut printed = Vec::new();
        replay::run(dir.path(), &words, &mut printed).unwrap();
        String::from_utf8(printed).unwrap()
    };
    assert_eq!(run(&["tea", "milk", "tea"]), "replayed 0 records\n     1  milk\n     2  tea\n");
    assert_eq!(run(&["clear", "sugar"]), "replayed 3 records\n     1  sugar\n");
    assert_eq!(run(&[]), "replayed 5 records\n     1  sugar\n");
}

#[test]
fn transfers_of_the_example_are_made_whole_or_not_at_all() {
    const PRINTED: &str = "\
30 from alice to bob: done
500 from alice to bob: refused
69 from alice to bob: done
alone: alice 100
transaction 1.1: alice -30
transaction 1.1: bob 30
transaction 1.1: alice -1
transaction 1.1: bank 1
transaction 1.3: alice -69
transaction 1.3: bob 69
alice has 0
bank has 1
bob has 99
";
    assert_eq!(printed(transactions::run), PRINTED);
}

#[cfg(feature = "rkyv")]
#[test]
fn orders_of_the_example_are_read_where_they_lie_or_upgraded() {
    const PRINTED: &str = "\
1: order 1, 1200 cents, of an earlier version
2: note of 5 bytes
3: order 2, 995 cents, apples and pears
4: order 3, 5 cents, milk
5: note of 5 bytes
";
    assert_eq!(printed(typed::run), PRINTED);
}

#[test]
fn banks_of_the_example_agree_whoever_is_cut_off() {
    const PRINTED: &str = "\
opened: 0 committed, 0 rolled back
north: alice -10, 0 in doubt
south: bob +10, 0 in doubt
committed, and not told: south
north: alice -10, alice -20, 0 in doubt
south: bob +10, 1 in doubt
opened: 1 committed, 0 rolled back
north: alice -10, alice -20, 0 in doubt
south: bob +10, bob +20, 0 in doubt
rolled back, because `closed` did not prepare: we are closed
north: alice -10, alice -20, 1 in doubt
south: bob +10, bob +20, 0 in doubt
opened: 0 committed, 1 rolled back
north: alice -10, alice -20, 0 in doubt
south: bob +10, bob +20, 0 in doubt
";
    assert_eq!(printed(two_phase_commit::run), PRINTED);
}
