//! Watching a directory, where the system can.

use std::thread;
use std::time::Duration;

use super::{create, open_temp};
use crate::{OsStorage, Storage, Watch, write_all_at};

/// Longer than any machine needs; only a test that fails waits for it.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_watch_reports_writes_and_names_once() {
    let (temp, dir) = open_temp();
    let file = create(&dir, "f");
    let mut watch = OsStorage.open_dir(temp.path(), false).unwrap().watch().unwrap();
    assert!(!watch.wait(Duration::ZERO).unwrap(), "nothing happened since the watch began");

    let changes: [(&str, &dyn Fn()); 5] = [
        ("write", &|| write_all_at(&*file, b"x", 0).unwrap()),
        ("cut", &|| file.set_len(0).unwrap()),
        ("create", &|| drop(create(&dir, "g"))),
        ("rename", &|| dir.rename("g", "h", false).unwrap()),
        ("remove", &|| dir.remove("h").unwrap()),
    ];
    for (what, change) in changes {
        change();
        change_is_seen_once(&mut *watch, what);
    }
}

fn change_is_seen_once(watch: &mut dyn Watch, what: &str) {
    assert!(watch.wait(PATIENCE).unwrap(), "{what}");
    assert!(!watch.wait(Duration::ZERO).unwrap(), "{what}");
}

#[test]
fn a_sleeping_watch_wakes_on_a_write() {
    let (_temp, dir) = open_temp();
    let file = create(&dir, "f");
    let mut watch = dir.watch().unwrap();
    let watcher = thread::spawn(move || watch.wait(PATIENCE).unwrap());
    write_all_at(&*file, b"x", 0).unwrap();
    assert!(watcher.join().unwrap());
}
