//! A small seeded generator of numbers: xoshiro256++, seeded by splitmix64.
//!
//! The rule: the same seed gives the same numbers in every version and on every machine, so that a seed
//! printed by a failing test stays a test.

/// A seeded generator of numbers. Not for secrets.
#[derive(Clone, Debug)]
pub struct Rng {
    state: [u64; 4],
    /// What is drawn before the generator begins, last byte first.
    script: Vec<u8>,
}

impl Rng {
    /// The generator of a seed; every seed will do, 0 included.
    pub fn new(seed: u64) -> Rng {
        let mut counter = seed;
        let state = [(); 4].map(|()| {
            counter = counter.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = counter;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        });
        Rng { state, script: Vec::new() }
    }

    /// Draws these bytes first, and then goes on as the generator of seed 0: so that a fuzzer's input is a run. A
    /// draw below a bound of at most 256 takes one byte, any other one eight; what is missing is zero.
    ///
    /// ```
    /// use braidlog_sim::Rng;
    ///
    /// let mut rng = Rng::from_bytes(&[7, 200]);
    /// assert_eq!((rng.below(10), rng.below(10)), (7, 0));
    /// ```
    pub fn from_bytes(bytes: &[u8]) -> Rng {
        Rng { script: bytes.iter().rev().copied().collect(), ..Rng::new(0) }
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        if !self.script.is_empty() {
            return u64::from_le_bytes([(); 8].map(|()| self.script.pop().unwrap_or(0)));
        }
        let [s0, s1, s2, s3] = &mut self.state;
        let result = s0.wrapping_add(*s3).rotate_left(23).wrapping_add(*s0);
        let shifted = *s1 << 17;
        *s2 ^= *s0;
        *s3 ^= *s1;
        *s1 ^= *s2;
        *s0 ^= *s3;
        *s2 ^= shifted;
        *s3 = s3.rotate_left(45);
        result
    }

    /// A number in `0..bound`.
    ///
    /// # Panics
    /// If `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "there is no number below 0");
        if let Some(&byte) = self.script.last()
            && bound <= 256
        {
            self.script.pop();
            return u64::from(byte) % bound;
        }
        if !self.script.is_empty() {
            return self.next_u64() % bound;
        }
        // The high half of a product is as good as uniform for bounds of this size, and needs no loop.
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// An index in `0..count`.
    ///
    /// # Panics
    /// If `count` is 0.
    pub fn index(&mut self, count: usize) -> usize {
        self.below(count as u64) as usize
    }

    /// True once in `n` times.
    ///
    /// # Panics
    /// If `n` is 0.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// Fills `bytes`.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let number = self.next_u64().to_le_bytes();
            chunk.copy_from_slice(&number[..chunk.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_means_the_same_numbers_for_ever() {
        // From the reference implementation in C, seeded by splitmix64(0).
        let mut rng = Rng::new(0);
        let numbers = [(); 3].map(|()| rng.next_u64());
        assert_eq!(numbers, [0x5317_5d61_490b_23df, 0x61da_6f3d_c380_d507, 0x5c0f_df91_ec9a_7bfc]);
    }

    #[test]
    fn numbers_stay_below_the_bound_and_reach_it() {
        let mut rng = Rng::new(7);
        let mut seen = [false; 5];
        for _ in 0..1000 {
            seen[rng.index(5)] = true;
        }
        assert_eq!(seen, [true; 5]);
    }
}
