//! What the command shows on a terminal, and what it does not show elsewhere: a bar for whatever takes long.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::process::Stdio;
use std::thread;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::support::{arg, braidlog, run, run_with_input};

/// What a command writes to standard error, which is a terminal; standard output is none.
fn on_a_terminal<'a>(args: impl IntoIterator<Item = &'a str>) -> String {
    let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&controller).unwrap();
    unlockpt(&controller).unwrap();
    let name = ptsname(&controller, Vec::new()).unwrap();
    let terminal = OpenOptions::new().read(true).write(true).open(name.to_str().unwrap()).unwrap();
    let mut command = braidlog(args);
    command.env("TERM", "xterm").stdout(Stdio::null()).stderr(terminal);
    let mut child = command.spawn().unwrap();
    // The last descriptor of the terminal's other side is the child's: its end is the end of what can be read.
    drop(command);
    let reading = thread::spawn(move || {
        let (mut shown, mut controller) = (Vec::new(), File::from(controller));
        // Linux says so by an error.
        let _ = controller.read_to_end(&mut shown);
        String::from_utf8_lossy(&shown).into_owned()
    });
    child.wait().unwrap();
    reading.join().unwrap()
}

#[test]
fn what_takes_long_shows_a_bar_on_a_terminal_and_nowhere_else() {
    let dir = tempfile::tempdir().unwrap();
    let lines: String = (1..=6000).map(|n| format!("line {n}\n")).collect();
    run_with_input(["write", arg(dir.path()), "--segment-size", "64K"], lines.as_bytes()).ok();
    let fork = tempfile::tempdir().unwrap();
    // Bytes of all, or records of all.
    let commands: [(&[&str], &str); 7] = [
        (&["verify"], "KiB/"),
        (&["repair", "--dry-run"], "KiB/"),
        (&["repair", "--policy", "skip-damaged"], "KiB/"),
        (&["cat"], "/6000 "),
        (&["cat", "--reverse", "--from", "1001"], "/5000 "),
        (&["cat", "--on-damage", "until-damage"], "KiB/"),
        (&["compress", "--all"], "KiB/"),
    ];
    for (args, total) in commands {
        let args = [&args[..1], &[arg(dir.path())], &args[1..]].concat();
        let shown = on_a_terminal(args.iter().copied());
        assert!(shown.contains(total), "{args:?}: {shown:?}");
        assert!(run(&args).stderr.is_empty(), "{args:?}");
    }
    let shown = on_a_terminal(["fork", arg(dir.path()), arg(&fork.path().join("to"))]);
    assert!(shown.contains("/6000 "), "{shown:?}");
}
