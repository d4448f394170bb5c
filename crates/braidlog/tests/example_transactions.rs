//! The example of transactions prints what it is there to show.

#[expect(dead_code, reason = "the example's own `main`")]
#[path = "../examples/transactions.rs"]
mod transactions;

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

#[test]
fn transfers_of_the_example_are_made_whole_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let mut printed = Vec::new();
    transactions::run(dir.path(), &mut printed).unwrap();
    assert_eq!(String::from_utf8(printed).unwrap(), PRINTED);
}
