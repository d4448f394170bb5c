//! A view that follows a log and goes on where it stopped: `cargo run -p braidlog --example change_feed [DIR]`.
//!
//! The view saves what it has made of the changes together with its place in the log. So each change is in it once, whenever
//! either of the two is killed.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread;

use braidlog::{ErrorKind, Lsn, Subscription, Wal};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// The stock of a shop, made of its changes.
#[derive(Default)]
struct View {
    path: PathBuf,
    /// The last change that is in it.
    applied_to: Lsn,
    stock: BTreeMap<String, i64>,
}

impl View {
    /// As it was saved; empty if it never was.
    fn load(path: &Path) -> Outcome<View> {
        let mut view = View { path: path.to_owned(), ..View::default() };
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(view),
            text => text?,
        };
        let (applied_to, stock) = text.split_once('\n').ok_or("no view")?;
        view.applied_to = applied_to.parse()?;
        for line in stock.lines() {
            let (article, count) = line.split_once(' ').ok_or("no line of a view")?;
            view.stock.insert(article.to_owned(), count.parse()?);
        }
        Ok(view)
    }

    fn apply(&mut self, lsn: Lsn, change: &str) -> Outcome<()> {
        let (article, by) = change.split_once(' ').ok_or("no change")?;
        *self.stock.entry(article.to_owned()).or_default() += by.parse::<i64>()?;
        self.applied_to = lsn;
        Ok(())
    }

    /// The whole of it, or the one before, whatever crashes.
    fn save(&self) -> Outcome<()> {
        let beside = self.path.with_extension("new");
        let mut file = File::create(&beside)?;
        writeln!(file, "{}", self.applied_to)?;
        for (article, count) in &self.stock {
            writeln!(file, "{article} {count}")?;
        }
        file.sync_all()?;
        fs::rename(&beside, &self.path)?;
        File::open(self.path.parent().ok_or("a view has a directory")?)?.sync_all()?;
        Ok(())
    }
}

/// Follows the log until it is closed, or until `stop_at` has been applied and not saved, as if somebody had killed it there.
fn follow(wal: &Wal, mut feed: Subscription, mut view: View, stop_at: Lsn) -> Outcome<Vec<String>> {
    let mut told = vec![format!("the view begins behind change {}", view.applied_to)];
    while let Some(change) = feed.next_ref() {
        let change = change?;
        let text = std::str::from_utf8(change.payload)?;
        view.apply(change.lsn, text)?;
        told.push(format!("change {}: {text}", change.lsn));
        if change.lsn == stop_at {
            told.push("killed before it was saved".to_owned());
            return Ok(told);
        }
        view.save()?;
        // What is behind the view may go now. Once the log is closed nothing goes, and the hold stays where it was.
        match wal.set_hold("stock", view.applied_to.next()) {
            Err(error) if error.kind() != ErrorKind::Closed => return Err(error.into()),
            _ => {}
        }
    }
    told.extend(view.stock.iter().map(|(article, count)| format!("{count} x {article}")));
    Ok(told)
}

/// One opening of the log, which appends `changes` while the view follows; what the view tells.
fn session(dir: &Path, changes: &[&str], stop_at: Lsn) -> Outcome<Vec<String>> {
    let wal = Wal::options().open(dir.join("wal"))?;
    let view = View::load(&dir.join("stock.txt"))?;
    let next = view.applied_to.next();
    // Before anything else: what the view has not seen is kept, whatever the retention says.
    wal.set_hold("stock", next)?;
    let feed = wal.subscribe(next)?;
    let follower = thread::spawn({
        let wal = wal.clone();
        move || follow(&wal, feed, view, stop_at)
    });
    for change in changes {
        // The view has it as soon as it is durable.
        wal.append(change)?;
    }
    // Ends the feed, after everything that is durable.
    wal.close()?;
    follower.join().expect("a follower does not panic")
}

/// Two openings; the view is killed in the first.
pub fn run(dir: &Path, out: &mut impl Write) -> Outcome<()> {
    for told in session(dir, &["apple 10", "pear 5", "apple -3", "plum 1"], Lsn(3))? {
        writeln!(out, "{told}")?;
    }
    for told in session(dir, &["pear -5"], Lsn::MAX)? {
        writeln!(out, "{told}")?;
    }
    Ok(())
}

fn main() -> Outcome<()> {
    let scratch = tempfile::tempdir()?;
    let dir = std::env::args_os().nth(1).map_or_else(|| scratch.path().to_owned(), PathBuf::from);
    run(&dir, &mut io::stdout())
}
