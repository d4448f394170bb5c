//! A share of the bit rot: each field of each header and entry, every way in which names can be wrong, and a sample
//! of all else. With `BRAIDLOG_LONG` set, all of it.

use braidlog_proof::rot::{self, Options};

#[test]
fn damage_is_told_with_its_place_or_the_data_is_exact() {
    let share = Options { stride: 97, pairs: 500, ..Options::default() };
    let counts =
        rot::run(&if std::env::var_os("BRAIDLOG_LONG").is_some() { Options::default() } else { share });
    println!("{counts}");
    for verdict in [
        "refused at the right place",
        "opened and told when read",
        "read exactly and told by verify",
        "cut to a lawful prefix",
        "harmless and read exactly",
    ] {
        assert!(counts.get(verdict) > 100, "{verdict} is hardly met:\n{counts}");
    }
}
