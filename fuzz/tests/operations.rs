//! The checks of `operations` on the kept inputs and on mutations of them, without libFuzzer.

use braidlog_fuzz::mutate::Random;
use braidlog_fuzz::operations::check;
use braidlog_proof::counts::Counts;

#[path = "support/kept.rs"]
mod kept;

/// Choices of a run, from a seed.
fn choices(seed: u64) -> Vec<u8> {
    let mut random = Random(seed);
    (0..300).map(|_| random.bits() as u8).collect()
}

#[test]
fn seeds_are_what_this_file_makes() {
    let names = ["run_1", "run_2", "run_3", "run_4", "run_5", "run_6"];
    let seeds: Vec<_> = names.iter().zip(1..).map(|(name, seed)| (*name, choices(seed))).collect();
    kept::assert_kept("operations", &seeds);
}

#[test]
fn kept_inputs_and_mutations_pass_and_reach_crashes_and_faults() {
    const RUNS: u32 = 450;
    let mut counts = Counts::default();
    let inputs = kept::inputs("operations");
    for (path, bytes) in &inputs {
        println!("{}", path.display());
        counts.merge(&check(bytes));
    }
    let mut raw = kept::plain(3);
    kept::mutations(
        &inputs,
        RUNS,
        |data, size, _| {
            let max = data.len();
            raw(data, size, max)
        },
        |bytes| counts.merge(&check(bytes)),
    );
    println!("{counts}");
    let least = [("images", 5000), ("operations", 1500), ("crashes gone on from", 50), ("errors told", 10)];
    for (name, least) in least {
        assert!(counts.get(name) >= least, "{name}: {counts}");
    }
}
