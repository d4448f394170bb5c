//! `streams` and `in-doubt`: what the library's streams and prepared transactions look like from the command.

use braidlog::Wal;

use crate::support::{arg, run};

#[test]
fn streams_are_listed_with_their_last_sequences() {
    let dir = tempfile::tempdir().unwrap();
    let wal = Wal::options().open(dir.path()).unwrap();
    wal.append(b"of none").unwrap();
    drop(wal);
    assert_eq!(run(["streams", arg(dir.path())]).text(), "no streams\n");
    let wal = Wal::options().open(dir.path()).unwrap();
    wal.stream("mails").unwrap();
    for _ in 0..3 {
        wal.stream("orders").unwrap().append(b"x").unwrap();
    }
    // Beside the writer.
    let listed = run(["streams", arg(dir.path()), "--json"]).json();
    let orders = &listed["streams"][1];
    assert_eq!((&orders["name"], &orders["id"]), (&"orders".into(), &2.into()));
    drop(wal);
    assert_eq!(run(["streams", arg(dir.path()), "--json"]).json()["streams"][1]["last_sequence"], 3);
    let text = run(["streams", arg(dir.path())]);
    assert!(
        text.text().lines().any(|line| line.trim_start().starts_with("1 ") && line.ends_with("0  mails"))
    );
}

#[test]
fn transactions_in_doubt_are_listed_and_decided_by_name_only() {
    let dir = tempfile::tempdir().unwrap();
    let wal = Wal::options().open(dir.path()).unwrap();
    for global_id in ["transfer 1", "transfer 2"] {
        let mut tx = wal.begin().unwrap();
        tx.append(1, global_id).unwrap();
        drop(tx.prepare(global_id).unwrap());
    }
    wal.close().unwrap();
    let in_doubt = |command: &[&str]| {
        let args = ["in-doubt", arg(dir.path())].into_iter().chain(command.iter().copied());
        run(args)
    };
    let listed = in_doubt(&["--json"]).json();
    assert_eq!(listed["in_doubt"].as_array().unwrap().len(), 2);
    assert_eq!(listed["in_doubt"][0]["global_id"], "transfer 1");
    in_doubt(&["commit", "transfer 3"]).failed(1, &["transfer 3"]);
    assert_eq!(in_doubt(&["--json"]).json(), listed, "nothing was decided");
    let left = in_doubt(&["commit", "transfer 2"]);
    assert!(left.text().starts_with("transfer 1  transaction "), "{left:?}");
    assert_eq!(in_doubt(&["rollback", "transfer 1"]).text(), "nothing is in doubt\n");
    let log = Wal::open_read_only(dir.path()).unwrap();
    let effects: Vec<_> = log.replay().unwrap().map(|record| record.unwrap().payload).collect();
    assert_eq!(effects, [b"transfer 2"]);
}
