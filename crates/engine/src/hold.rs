//! How long a round of group commit is held back so that more committers can join it: measured, learned, and
//! never asked of the user.
//!
//! # What is measured
//! * The *cost* of a round: what its write and its sync take, smoothed. A stall counts as at most twice that.
//! * How many records are *expected*: those that the last round made durable, for their committers are about
//!   to come back, and those that waited by then. With committers that append again as soon as they can, that
//!   is how many of them there are, in however many groups they came.
//!
//! * How many records an *append* has: one, or as many as its batch. The bound of the mode counts appends, so
//!   committers of batches are gathered as those of single records are.
//!
//! # When a hold ends
//! When all who are expected wait. Or when it does not pay any more: of `expected` records all would be late by
//! a further wait, and only the `missing` ones would be spared the rounds before theirs. So since the last
//! arrival it goes on for at most `cost * missing / expected`, and for half the cost in all. A lone committer
//! expects nobody.
//!
//! # How it is learned whether to hold
//! A hold *pays* if at least half of the missing came, or if those who came were spared more than those who waited
//! lost. After one that does not, holds pause: for one round, then two, then four, up to 256 while the
//! tries in between do not pay either. So committers that take their time between two appends lose next to
//! nothing to waiting for each other.

use std::time::Duration;

/// The cost is smoothed over about so many rounds.
const SMOOTHING: u32 = 8;
/// Holds pause for at most 2 to the power of this many rounds.
const PAUSE_POWER_MAX: u32 = 8;

/// What was learned about the committers and the device. A state machine: its caller has the clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Hold {
    cost: Duration,
    expected: u64,
    /// Records of an append, on average of the last round; 0 before the first.
    append_len: u64,
    /// Rounds that are not held, from now on.
    pause: u32,
    /// How many rounds the next pause takes, as a power of two.
    pause_power: u32,
}

/// How the next round is held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Plan {
    /// As many waiting records as end the hold.
    pub(crate) expected: u64,
    /// The longest that it lasts.
    pub(crate) limit: Duration,
    cost: Duration,
}

/// What a hold was and what it brought.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Held {
    /// The records that waited when it began.
    pub(crate) began_with: u64,
    /// The records that waited when it ended.
    pub(crate) ended_with: u64,
    /// How long it lasted.
    pub(crate) lasted: Duration,
}

impl Hold {
    /// A round made so many records durable, took so long, and this many waited when it was over.
    pub(crate) fn round_done(&mut self, durable: u64, took: Duration, waiting: u64) {
        self.cost = match self.cost {
            Duration::ZERO => took,
            cost => (cost * (SMOOTHING - 1) + took.min(2 * cost)) / SMOOTHING,
        };
        self.expected = durable + waiting;
        self.pause = self.pause.saturating_sub(1);
    }

    /// So many records were written, by this many appends.
    pub(crate) fn carried(&mut self, records: u64, appends: u64) {
        self.append_len = records.checked_div(appends).unwrap_or(self.append_len);
    }

    /// How the next round is held, at most for `delay_max` and until `batch` appends wait; `None` if it is not.
    pub(crate) fn plan(&self, delay_max: Duration, batch: u64) -> Option<Plan> {
        let expected = self.expected.min(batch.saturating_mul(self.append_len.max(1)));
        let limit = (self.cost / 2).min(delay_max);
        let holds = self.pause == 0 && expected > 1 && limit > Duration::ZERO;
        holds.then_some(Plan { expected, limit, cost: self.cost })
    }

    /// A round was held as `plan` says, to its end.
    pub(crate) fn round_held(&mut self, plan: &Plan, held: Held) {
        let came = held.ended_with.saturating_sub(held.began_with);
        let missing = plan.expected.saturating_sub(held.began_with);
        let spared = plan.cost.as_nanos() * u128::from(came);
        let lost = held.lasted.as_nanos() * u128::from(held.ended_with);
        let filled = 4 * held.ended_with >= 3 * plan.expected;
        if came > 0 && (2 * came >= missing || filled || spared > lost) {
            self.pause_power = self.pause_power.saturating_sub(1);
        } else {
            // One more for this round, which is not done yet.
            self.pause = (1 << self.pause_power) + 1;
            self.pause_power = (self.pause_power + 1).min(PAUSE_POWER_MAX);
        }
    }

    /// What a round costs, in nanoseconds.
    pub(crate) fn cost_ns(&self) -> u64 {
        self.cost.as_nanos() as u64
    }
}

impl Plan {
    /// Whether the hold goes on, while so many records wait, so long after it began and after the last arrival.
    pub(crate) fn goes_on(&self, waiting: u64, since_began: Duration, since_arrival: Duration) -> bool {
        let missing = self.expected.saturating_sub(waiting);
        since_began < self.limit
            && since_arrival.as_nanos() * u128::from(self.expected)
                < self.cost.as_nanos() * u128::from(missing)
    }
}

#[cfg(all(test, not(braidlog_loom)))]
mod tests {
    use super::*;

    const PATIENT: Duration = Duration::from_secs(1);
    const DISKS_US: [u64; 3] = [50, 500, 5000];

    fn us(us: u64) -> Duration {
        Duration::from_micros(us)
    }

    /// Committers that come back so long after their round, to a disk whose rounds take so long.
    struct Scene {
        committers: u64,
        back_after: Duration,
        round: Duration,
        hold: Hold,
        /// The records that the next round finds waiting when it may begin.
        waiting: u64,
        /// Rounds that were held, and for how long in all.
        held: (u32, Duration),
    }

    impl Scene {
        fn new(committers: u64, back_after: Duration, round: Duration) -> Scene {
            let (hold, held) = (Hold::default(), (0, Duration::ZERO));
            Scene { committers, back_after, round, hold, waiting: committers / 2, held }
        }

        fn rounds(&mut self, count: u32) {
            for _ in 0..count {
                self.round();
            }
        }

        /// A round, after all who are away came back together, or without them. Gives how many it carried.
        fn round(&mut self) -> u64 {
            let away = self.committers - self.waiting;
            let plan = self.hold.plan(PATIENT, u64::MAX);
            if let Some(plan) = plan.filter(|plan| self.waiting < plan.expected) {
                let began_with = self.waiting;
                let came_in_time = self.back_after < plan.limit
                    && plan.goes_on(began_with, self.back_after, self.back_after);
                if came_in_time {
                    self.waiting += away;
                }
                let lost = || {
                    (plan.cost * (plan.expected - began_with) as u32 / plan.expected as u32).min(plan.limit)
                };
                let lasted = if came_in_time { self.back_after } else { lost() };
                self.hold.round_held(&plan, Held { began_with, ended_with: self.waiting, lasted });
                self.held = (self.held.0 + 1, self.held.1 + lasted);
            }
            let carried = self.waiting;
            // Who stayed away comes back during the round if it is long enough.
            self.waiting = if self.back_after <= self.round { self.committers - carried } else { 0 };
            self.hold.round_done(carried, self.round, self.waiting);
            self.waiting = self.waiting.max(1);
            carried
        }
    }

    #[test]
    fn the_choice_follows_the_cost_of_the_disk() {
        let limits = DISKS_US.map(|disk| {
            let mut scene = Scene::new(8, us(10), us(disk));
            scene.rounds(100);
            let plan = scene.hold.plan(PATIENT, u64::MAX).expect("eight committers are worth a hold");
            assert_eq!((plan.expected, scene.hold.cost_ns()), (8, disk * 1000));
            plan.limit
        });
        assert_eq!(limits, DISKS_US.map(|disk| us(disk) / 2));
    }

    #[test]
    fn what_is_worth_waiting_for_on_a_slow_disk_is_not_on_a_fast_one() {
        let carried = DISKS_US.map(|disk| {
            let mut scene = Scene::new(8, us(100), us(disk));
            (0..100).map(|_| scene.round()).last()
        });
        assert_eq!(carried, [Some(1), Some(8), Some(8)], "committers come back after 100 us");
    }

    #[test]
    fn the_choice_changes_within_some_rounds_when_the_disk_does() {
        let mut scene = Scene::new(8, us(10), us(50));
        for disk in [50, 5000, 500, 50] {
            scene.round = us(disk);
            scene.rounds(100);
            let limit = scene.hold.plan(PATIENT, u64::MAX).unwrap().limit;
            assert!(limit.abs_diff(us(disk) / 2) < us(disk) / 100, "{limit:?} on a disk of {disk} us");
        }
    }

    #[test]
    fn two_groups_that_take_turns_become_one() {
        // Each group comes back at once, finds the other's round under way, and waits.
        let mut scene = Scene::new(4, us(10), us(100));
        assert_eq!(scene.round(), 2);
        assert_eq!(scene.hold.plan(PATIENT, u64::MAX).unwrap().expected, 4);
        assert_eq!([scene.round(), scene.round(), scene.round()], [4, 4, 4]);
    }

    #[test]
    fn lone_committer_waits_for_nobody() {
        let mut hold = Hold::default();
        for _ in 0..10 {
            hold.round_done(1, us(100), 0);
            assert_eq!(hold.plan(PATIENT, u64::MAX), None);
        }
    }

    #[test]
    fn limits_of_the_mode_hold() {
        let mut hold = Hold::default();
        hold.round_done(64, us(100), 0);
        let plan = hold.plan(us(20), 16).unwrap();
        assert_eq!((plan.expected, plan.limit), (16, us(20)));
        assert_eq!(hold.plan(Duration::ZERO, 16), None);
        assert_eq!(hold.plan(PATIENT, 1), None);
    }

    #[test]
    fn a_batch_counts_as_one_against_the_limit_of_the_mode() {
        let mut hold = Hold::default();
        hold.carried(200, 2);
        hold.round_done(200, us(100), 200);
        assert_eq!(hold.plan(PATIENT, 200).unwrap().expected, 400, "four batches of 100");
        assert_eq!(hold.plan(PATIENT, 3).unwrap().expected, 300);
        hold.carried(0, 0);
        assert_eq!(hold.plan(PATIENT, 3).unwrap().expected, 300, "a round without records tells nothing");
        hold.carried(64, 64);
        assert_eq!(hold.plan(PATIENT, 200).unwrap().expected, 200);
    }

    #[test]
    fn committers_that_take_their_time_are_hardly_ever_waited_for() {
        let mut scene = Scene::new(8, us(500), us(100));
        let rounds = 10_000;
        for _ in 0..rounds / 2 {
            // Two happen to come together, and then one alone.
            scene.waiting = 2;
            scene.round();
            scene.round();
        }
        let (held, lost) = scene.held;
        assert!(held > 10, "it is tried again: {held}");
        assert!(lost < scene.round * rounds / 200, "{held} holds took {lost:?}");
    }

    #[test]
    fn holds_come_back_when_they_pay_again() {
        let mut scene = Scene::new(8, us(500), us(100));
        (0..10_000).for_each(|_| {
            scene.waiting = 2;
            scene.round();
            scene.round();
        });
        scene.back_after = us(10);
        let held_before = scene.held.0;
        scene.rounds(1000);
        assert!(scene.held.0 - held_before > 500, "{} of 1000", scene.held.0 - held_before);
    }

    #[test]
    fn straggler_is_waited_for_less_than_a_crowd() {
        let mut hold = Hold::default();
        hold.round_done(64, us(640), 0);
        let plan = hold.plan(PATIENT, u64::MAX).unwrap();
        assert!(plan.goes_on(1, Duration::ZERO, us(300)), "63 are missing");
        assert!(plan.goes_on(63, Duration::ZERO, us(9)) && !plan.goes_on(63, Duration::ZERO, us(10)));
        assert!(!plan.goes_on(1, us(320), Duration::ZERO), "never longer than half a round");
        assert!(!plan.goes_on(64, Duration::ZERO, Duration::ZERO), "all are there");
    }

    #[test]
    fn a_stall_of_the_device_is_not_taken_for_its_cost() {
        let mut hold = Hold::default();
        (0..10).for_each(|_| hold.round_done(4, us(80), 0));
        hold.round_done(4, Duration::from_secs(1), 0);
        assert_eq!(hold.cost_ns(), 90_000);
    }
}
