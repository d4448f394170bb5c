//! Which checkpoints rest on which: pure decisions over what the manifest names.
//!
//! A checkpoint that stands alone and those that hold the changes to it, each upon the one before, are a *chain*. The
//! rule: to restore a checkpoint takes all before it in its chain, so chains are kept and given up with care for both
//! ends. A file that is damaged costs those that rest on it; that is why what is kept is counted in chains.

use std::collections::BTreeSet;

use braidlog_format::ManifestCheckpoint;

/// The checkpoint with this number.
fn find(all: &[ManifestCheckpoint], number: u64) -> Option<&ManifestCheckpoint> {
    all.iter().find(|checkpoint| checkpoint.number == number)
}

/// What restoring this checkpoint takes: the one that stands alone first, itself last. `None` if the manifest does not
/// name all of them.
pub(crate) fn chain_of(all: &[ManifestCheckpoint], number: u64) -> Option<Vec<ManifestCheckpoint>> {
    let mut chain = vec![*find(all, number)?];
    while let Some(first) = chain.first()
        && first.base != 0
    {
        let base = *find(all, first.base)?;
        // The manifest's decoder sees to this too; here it is what ends the loop.
        if base.number >= first.number {
            return None;
        }
        chain.insert(0, base);
    }
    Some(chain)
}

/// What can be restored if the files of `bad` cannot be used: chains, that of the newest checkpoint first.
pub(crate) fn restorable(all: &[ManifestCheckpoint], bad: &BTreeSet<u64>) -> Vec<Vec<ManifestCheckpoint>> {
    let mut newest_first: Vec<_> = all.iter().collect();
    newest_first.sort_unstable_by_key(|checkpoint| std::cmp::Reverse(checkpoint.number));
    let chains = newest_first.into_iter().filter_map(|checkpoint| chain_of(all, checkpoint.number));
    chains.filter(|chain| chain.iter().all(|part| !bad.contains(&part.number))).collect()
}

/// The checkpoint upon which the next one may rest: the newest, if it can be restored and has not `deltas_max` changes
/// in its chain already.
pub(crate) fn base_for_next(
    all: &[ManifestCheckpoint],
    bad: &BTreeSet<u64>,
    deltas_max: usize,
) -> Option<ManifestCheckpoint> {
    let newest = restorable(all, bad).into_iter().next()?;
    if newest.len() > deltas_max { None } else { newest.last().copied() }
}

/// The numbers to keep: of the newest `chains_kept` chains that can be restored, all that can be. Never none while one
/// can be restored.
pub(crate) fn kept(all: &[ManifestCheckpoint], bad: &BTreeSet<u64>, chains_kept: usize) -> BTreeSet<u64> {
    let mut roots = Vec::new();
    let mut kept = BTreeSet::new();
    for chain in restorable(all, bad) {
        let Some(root) = chain.first().map(|part| part.number) else { continue };
        if !roots.contains(&root) {
            if roots.len() >= chains_kept.max(1) {
                continue;
            }
            roots.push(root);
        }
        kept.extend(chain.iter().map(|part| part.number));
    }
    kept
}

/// The last checkpoint of each chain that can be restored. From the oldest of these on the log is needed, so that each
/// chain can be restored and gone on from: one file that is damaged leaves a checkpoint no older than that, the one before
/// it in its chain or the last one of the chain before. In the order of their numbers, which is that of their age.
pub(crate) fn ends(all: &[ManifestCheckpoint], bad: &BTreeSet<u64>) -> Vec<ManifestCheckpoint> {
    let mut last_of: Vec<(u64, ManifestCheckpoint)> = Vec::new();
    for chain in restorable(all, bad) {
        if let (Some(root), Some(last)) = (chain.first(), chain.last())
            && !last_of.iter().any(|(number, _)| *number == root.number)
        {
            last_of.push((root.number, *last));
        }
    }
    last_of.into_iter().rev().map(|(_, last)| last).collect()
}

#[cfg(test)]
mod tests {
    use braidlog_format::Lsn;

    use super::*;

    fn checkpoint(number: u64, base: u64) -> ManifestCheckpoint {
        let lsn = Lsn(number * 10);
        ManifestCheckpoint {
            number,
            lsn,
            replay_from: lsn.next(),
            base,
            bytes: 0,
            created_at_ns: 0,
            end_checksum: 0,
        }
    }

    fn numbers(chain: &[ManifestCheckpoint]) -> Vec<u64> {
        chain.iter().map(|part| part.number).collect()
    }

    fn all(of: &[(u64, u64)]) -> Vec<ManifestCheckpoint> {
        of.iter().map(|&(number, base)| checkpoint(number, base)).collect()
    }

    fn needed_from(all: &[ManifestCheckpoint]) -> Option<Lsn> {
        ends(all, NONE).iter().map(|last| last.replay_from).min()
    }

    const NONE: &BTreeSet<u64> = &BTreeSet::new();

    #[test]
    fn a_chain_is_what_restoring_takes_and_nothing_if_a_part_is_missing() {
        let all = all(&[(1, 0), (2, 1), (3, 2), (4, 0), (6, 5)]);
        assert_eq!(chain_of(&all, 3).as_deref().map(numbers), Some(vec![1, 2, 3]));
        assert_eq!(chain_of(&all, 4).as_deref().map(numbers), Some(vec![4]));
        assert_eq!(chain_of(&all, 6), None);
        assert_eq!(chain_of(&all, 7), None);
        let loops = self::all(&[(1, 2), (2, 1), (3, 3)]);
        assert!((1..=3).all(|number| chain_of(&loops, number).is_none()));
    }

    #[test]
    fn a_bad_file_takes_those_that_rest_on_it() {
        let all = all(&[(1, 0), (2, 1), (3, 0), (4, 3), (5, 4)]);
        let newest = |bad: &[u64]| {
            restorable(&all, &bad.iter().copied().collect()).first().map(|chain| numbers(chain))
        };
        assert_eq!(newest(&[]), Some(vec![3, 4, 5]));
        assert_eq!(newest(&[5]), Some(vec![3, 4]));
        assert_eq!(newest(&[4]), Some(vec![3]));
        assert_eq!(newest(&[3]), Some(vec![1, 2]));
        assert_eq!(newest(&[3, 2]), Some(vec![1]));
        assert_eq!(newest(&[3, 1]), None);
    }

    #[test]
    fn a_chain_that_is_long_enough_is_followed_by_one_that_stands_alone() {
        let base = |all: &[ManifestCheckpoint], max| base_for_next(all, NONE, max).map(|base| base.number);
        assert_eq!(base(&[], 8), None);
        assert_eq!(base(&all(&[(1, 0)]), 0), None);
        assert_eq!(base(&all(&[(1, 0)]), 1), Some(1));
        assert_eq!(base(&all(&[(1, 0), (2, 1)]), 1), None);
        assert_eq!(base(&all(&[(1, 0), (2, 1)]), 2), Some(2));
        assert_eq!(base(&all(&[(1, 0), (2, 1), (3, 0)]), 1), Some(3));
    }

    #[test]
    fn what_is_kept_survives_the_loss_of_any_one_file_once_there_are_two_chains() {
        let all = all(&[(1, 0), (2, 1), (3, 0), (4, 3), (5, 4), (6, 0), (7, 6)]);
        let kept_of = |chains| kept(&all, NONE, chains).into_iter().collect::<Vec<_>>();
        assert_eq!(kept_of(1), [6, 7]);
        assert_eq!(kept_of(2), [3, 4, 5, 6, 7]);
        assert_eq!(kept_of(3), [1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(kept_of(0), [6, 7], "the last one is never given up");
        assert_eq!(kept(&all, &BTreeSet::from([6]), 1).into_iter().collect::<Vec<_>>(), [3, 4, 5]);
        for lost in kept_of(2) {
            let left: Vec<_> = all.iter().filter(|part| kept_of(2).contains(&part.number)).copied().collect();
            let newest =
                restorable(&left, &BTreeSet::from([lost])).first().and_then(|chain| chain.last().copied());
            assert!(newest.unwrap().replay_from >= needed_from(&left).unwrap(), "without {lost}");
        }
    }

    /// The older of two at one LSN was taken for the newest, and an order to cut the log refused for what it needs.
    #[test]
    fn ends_stand_in_the_order_of_their_numbers() {
        let all = [checkpoint(1, 0), checkpoint(2, 1), checkpoint(3, 0), checkpoint(4, 0)];
        let numbers: Vec<u64> = ends(&all, NONE).iter().map(|last| last.number).collect();
        assert_eq!(numbers, [2, 3, 4]);
    }

    #[test]
    fn the_log_is_needed_from_where_the_oldest_chain_ends() {
        assert_eq!(needed_from(&[]), None);
        assert_eq!(needed_from(&all(&[(1, 0)])), Some(Lsn(11)));
        assert_eq!(needed_from(&all(&[(1, 0), (2, 1), (3, 0), (4, 3)])), Some(Lsn(21)));
        let mut open = all(&[(1, 0), (2, 0)]);
        open[1].replay_from = Lsn(5);
        assert_eq!(needed_from(&open), Some(Lsn(5)), "a transaction was open");
    }
}
