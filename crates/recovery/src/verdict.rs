//! The verdict on a segment: from what was found to what may be done, as one pure function.
//!
//! The rule: a tail is cut only where nothing that was synced vouches for it, and only in the last segment.
//!
//! | header | place | what stops the scan | batch open | vouched for | verdict |
//! |---|---|---|---|---|---|
//! | foreign | any | any | any | any | [`Foreign`](Verdict::Foreign) |
//! | newer | any | any | any | any | [`Newer`](Verdict::Newer) |
//! | invalid | any | any | any | any | [`Damage`](Verdict::Damage) |
//! | not started | earlier | any | any | any | [`Damage`](Verdict::Damage) |
//! | not started | last | any | any | any | [`Absent`](Verdict::Absent) |
//! | valid | any | newer | any | any | [`Newer`](Verdict::Newer) |
//! | valid | any | seal | yes | any | [`Damage`](Verdict::Damage) |
//! | valid | any | seal | no | any | [`Sealed`](Verdict::Sealed) |
//! | valid | any | end or bytes | any | yes | [`Damage`](Verdict::Damage) |
//! | valid | any | end | no | no | [`CleanEnd`](Verdict::CleanEnd) |
//! | valid | earlier | end | yes | no | [`Damage`](Verdict::Damage) |
//! | valid | earlier | bytes | any | no | [`Damage`](Verdict::Damage) |
//! | valid | last | end | yes | no | [`TornTail`](Verdict::TornTail) |
//! | valid | last | bytes | any | no | [`TornTail`](Verdict::TornTail) |
//!
//! *Absent*: a file can get a segment's name without a header only if the file system made the name durable
//! before the bytes; no LSN was ever in it. *Newer* comes before damage: the entry proves itself, so nothing is
//! wrong with the bytes. A *seal* vouches for the bytes before it, so one inside an open batch contradicts
//! itself. An earlier segment was completely synced before the next one was created, so a crash cannot have
//! torn it. For the end of an earlier segment the header of the next one vouches. *End*: what follows are zeros, or in a
//! recycled file bytes of its earlier life, among which no entry of this one proves itself.

use crate::marks::Behind;
use crate::scan::Stop;

/// What the first block of a segment file is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum HeaderFact {
    Valid,
    /// The file is shorter than the block, or zero throughout.
    NotStarted,
    Invalid,
    Newer,
    Foreign,
}

/// Where a segment stands in the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    Earlier,
    Last,
}

/// What stops a scan.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum StopFact {
    /// Nothing but zeros follows, or bytes of the file's earlier life, if anything.
    End,
    /// Bytes that are no valid entry.
    Bytes,
    /// A valid seal.
    Seal,
    /// An entry that proves itself and is newer than this version.
    Newer,
}

/// All that a verdict depends on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Facts {
    pub(crate) header: HeaderFact,
    pub(crate) place: Place,
    pub(crate) stop: StopFact,
    pub(crate) batch_open: bool,
    /// Something that was synced says that the failing offset was.
    pub(crate) vouched: bool,
}

/// What a segment is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// It never began; the next segment takes its place.
    Absent,
    /// It ends with a valid seal.
    Sealed,
    /// It ends with a whole batch.
    CleanEnd,
    /// Behind its last whole batch stand bytes that were never acknowledged: they may be cut.
    TornTail,
    /// Acknowledged data or the structure that leads to it is not what it was.
    Damage,
    /// Written by a newer version.
    Newer,
    /// None of this log's.
    Foreign,
}

/// The verdict on these facts.
pub(crate) fn judge(facts: Facts) -> Verdict {
    #[cfg(braidlog_sabotage)]
    if facts.header == HeaderFact::NotStarted && braidlog_sabotage::is("lost_header_taken_for_none") {
        return Verdict::Absent;
    }
    match (facts.header, facts.place) {
        (HeaderFact::Foreign, _) => return Verdict::Foreign,
        (HeaderFact::Newer, _) => return Verdict::Newer,
        (HeaderFact::Invalid, _) | (HeaderFact::NotStarted, Place::Earlier) => return Verdict::Damage,
        (HeaderFact::NotStarted, Place::Last) => return Verdict::Absent,
        (HeaderFact::Valid, _) => {}
    }
    match (facts.stop, facts.batch_open) {
        (StopFact::Newer, _) => Verdict::Newer,
        (StopFact::Seal, true) => Verdict::Damage,
        (StopFact::Seal, false) => Verdict::Sealed,
        _ if facts.vouched => Verdict::Damage,
        (StopFact::End, false) => Verdict::CleanEnd,
        _ if facts.place == Place::Earlier => Verdict::Damage,
        _ => Verdict::TornTail,
    }
}

impl Facts {
    /// The facts about a segment with a valid header whose scan stopped so.
    pub(crate) fn of_stop(place: Place, stop: &Stop, behind: &Behind, batch_open: bool) -> Facts {
        let stop = match stop {
            Stop::Seal(_) => StopFact::Seal,
            Stop::Newer(_) => StopFact::Newer,
            Stop::EndOfFile => StopFact::End,
            Stop::Zeros(_) | Stop::Invalid(..) if behind.left_to.is_none() => StopFact::End,
            Stop::Zeros(_) | Stop::Invalid(..) => StopFact::Bytes,
        };
        Facts { header: HeaderFact::Valid, place, stop, batch_open, vouched: behind.vouched.is_some() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADERS: [HeaderFact; 5] = [
        HeaderFact::Valid,
        HeaderFact::NotStarted,
        HeaderFact::Invalid,
        HeaderFact::Newer,
        HeaderFact::Foreign,
    ];
    const PLACES: [Place; 2] = [Place::Earlier, Place::Last];
    const STOPS: [StopFact; 4] = [StopFact::End, StopFact::Bytes, StopFact::Seal, StopFact::Newer];

    fn all_inputs() -> Vec<Facts> {
        let mut all = Vec::new();
        for header in HEADERS {
            for place in PLACES {
                for stop in STOPS {
                    for batch_open in [false, true] {
                        for vouched in [false, true] {
                            all.push(Facts { header, place, stop, batch_open, vouched });
                        }
                    }
                }
            }
        }
        all
    }

    /// The rows of the table in the module's documentation.
    fn table() -> Vec<[String; 6]> {
        include_str!("verdict.rs")
            .lines()
            .filter_map(|line| line.strip_prefix("//! | "))
            .skip(1)
            .map(|row| {
                let cells: Vec<_> =
                    row.trim_end_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
                cells.try_into().expect("six columns")
            })
            .collect()
    }

    fn row_matches(row: &[String; 6], facts: &Facts) -> bool {
        let is = |cell: &str, value: &str| cell == "any" || cell.split(" or ").any(|word| word == value);
        let yes_no = |value| if value { "yes" } else { "no" };
        let header = match facts.header {
            HeaderFact::Valid => "valid",
            HeaderFact::NotStarted => "not started",
            HeaderFact::Invalid => "invalid",
            HeaderFact::Newer => "newer",
            HeaderFact::Foreign => "foreign",
        };
        let stop = match facts.stop {
            StopFact::End => "end",
            StopFact::Bytes => "bytes",
            StopFact::Seal => "seal",
            StopFact::Newer => "newer",
        };
        is(&row[0], header)
            && is(&row[1], if facts.place == Place::Last { "last" } else { "earlier" })
            && is(&row[2], stop)
            && is(&row[3], yes_no(facts.batch_open))
            && is(&row[4], yes_no(facts.vouched))
    }

    #[test]
    fn every_input_matches_exactly_one_row_and_gets_its_verdict() {
        let table = table();
        assert_eq!(table.len(), 14);
        for facts in all_inputs() {
            let rows: Vec<_> = table.iter().filter(|row| row_matches(row, &facts)).collect();
            assert_eq!(rows.len(), 1, "{facts:?} matches {rows:?}");
            let verdict = format!("{:?}", judge(facts));
            assert_eq!(rows[0][5], format!("[`{verdict}`](Verdict::{verdict})"), "{facts:?}");
        }
    }

    #[test]
    fn nothing_is_cut_that_something_synced_vouches_for() {
        for facts in all_inputs() {
            if judge(facts) == Verdict::TornTail {
                assert_eq!(
                    (facts.header, facts.place, facts.vouched),
                    (HeaderFact::Valid, Place::Last, false)
                );
            }
        }
    }
}
