//! A lock of the caller's own, under which he appends.
//!
//! The rule: under it nobody waits for a round or for space, and no foreign code is run. Rounds are led when it was given up, and so are
//! wakers run. A file that is late may be made under it: that fails at once where there is no space.

use std::cell::Cell;

thread_local! {
    static STATE: Cell<State> = const { Cell::new(State::Free) };
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// This thread holds none.
    Free,
    /// It holds one.
    Held,
    /// It holds one, and somebody has to lead a round: nobody else would.
    OwesARound,
}

/// Whether this thread holds one.
pub(crate) fn is_held() -> bool {
    STATE.get() != State::Free
}

/// Notes that a round is to be led; whether it has to wait until the lock was given up.
pub(crate) fn leave_round() -> bool {
    let is_held = is_held();
    if is_held {
        STATE.set(State::OwesARound);
    }
    is_held
}

/// Lets the caller do something under a lock, which he gives up in it. Gives whether a round was left.
pub(crate) fn within<T>(act: impl FnOnce() -> T) -> (T, bool) {
    /// Ends it also if the caller panics.
    struct Within(State);
    impl Drop for Within {
        fn drop(&mut self) {
            STATE.set(self.0);
        }
    }
    let within = Within(STATE.replace(State::Held));
    let done = act();
    let owes_a_round = STATE.get() == State::OwesARound;
    drop(within);
    (done, owes_a_round)
}
