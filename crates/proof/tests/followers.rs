//! Subscriptions of a live log through crashes and kills: a short run of `braidlog_proof::followers`.

use braidlog_proof::extent::Extent;
use braidlog_proof::followers;

#[test]
fn what_a_subscription_gave_no_crash_takes_back() {
    let counts = followers::run(&Extent::rounds(0, 8));
    println!("{counts}");
    assert!(counts.get("images") > 20 && counts.get("packed segments") > 50, "{counts}");
}

#[test]
fn what_a_subscription_gave_no_kill_takes_back() {
    followers::child_main_if_asked();
    let args = ["--exact", "what_a_subscription_gave_no_kill_takes_back", "--nocapture", "--test-threads=1"];
    let counts = followers::run_killed(12, 1, &args);
    println!("{counts}");
    assert!(counts.get("records given") > 1000, "{counts}");
}
