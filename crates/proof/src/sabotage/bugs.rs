//! The deliberate bugs: what each does, which promise it breaks, and which harness has to catch it.
//!
//! The rule: every name stands here once and in one file of the product. The numbers are those of the promises in
//! `docs/durability.md`.

use super::harness::{self, Harness};

/// A deliberate bug.
pub struct Bug {
    /// What the code asks for.
    pub name: &'static str,
    /// What the log does with it, in a line.
    pub does: &'static str,
    /// Which promise that breaks.
    pub breaks: &'static str,
    caught_by: &'static str,
}

impl Bug {
    /// The harness that has to catch it.
    ///
    /// # Panics
    /// If there is no such harness.
    pub fn harness(&self) -> &'static Harness {
        harness::find(self.caught_by).unwrap_or_else(|| panic!("there is no harness `{}`", self.caught_by))
    }
}

/// The bug of this name.
pub fn find(name: &str) -> Option<&'static Bug> {
    BUGS.iter().find(|bug| bug.name == name)
}

const fn bug(name: &'static str, does: &'static str, breaks: &'static str, caught_by: &'static str) -> Bug {
    Bug { name, does, breaks, caught_by }
}

/// All of them, in the order of a record's life.
#[rustfmt::skip] // A table: one row, one line.
pub const BUGS: &[Bug] = &[
    bug("limit_not_enforced", "a payload above the limit is accepted", "8", "append"),
    bug("batch_not_bound", "the records of a batch are written as records on their own", "3", "append"),
    bug("durability_of_append_ignored", "an append gets the durability of its log, whatever it asked for", "1", "durability"),
    bug("space_not_asked_for", "LSNs are given out though there is no space for their records", "7", "full disk"),
    bug("space_not_allocated", "a file is said to have space that was never allocated", "7", "full disk"),
    bug("gap_passed_over", "what is published behind a gap is written before the gap is filled", "2", "models: merge"),
    bug("clock_set_back_believed", "a round is older than the one before it when the clock is set back", "1", "order"),
    bug("mark_of_unsynced_rounds", "a sync mark tells of rounds that are written and not synced", "6, a torn tail is no damage", "crash"),
    bug("mark_tells_too_little", "a sync mark leaves out the last synced block", "6", "single"),
    bug("short_write_taken_for_whole", "the rest of a short write is never written", "1", "disk failure"),
    bug("failed_write_taken_for_whole", "a write that failed is gone on from", "1, 7", "disk failure"),
    bug("full_disk_taken_for_written", "a write that found no space is gone on from", "1, 7", "full disk"),
    bug("retry_on_a_full_disk_goes_on_behind", "a refused write goes on behind what it may not have written", "1, 7", "full disk"),
    bug("sync_does_not_wait_for_writes", "a sync is issued while writes before it are in flight", "1", "models: flight"),
    bug("failed_write_in_flight_forgotten", "a write that failed in flight is synced over", "1, 7", "models: flight"),
    bug("ack_before_sync", "records are acknowledged before the sync that covers them", "1", "durability"),
    bug("end_of_segment_acks_before_its_sync", "what a segment ends with is acknowledged before its last sync", "1", "single"),
    bug("watermark_of_what_was_drawn", "a sync acknowledges records that were appended while it ran", "1", "durability"),
    bug("failed_sync_tried_again", "a failed sync is tried again, and its success believed", "1, 7", "disk failure"),
    bug("durable_and_not_told_during_a_rotation", "who waits for what the end of a segment made durable sleeps on while a full disk holds up the next one", "7", "rotation"),
    bug("panic_not_told", "a panic in the middle of a round leaves the log open", "7", "disk failure"),
    bug("flush_does_not_sync", "`flush` returns at once", "1", "durability"),
    bug("close_does_not_drain", "`close` leaves in the rings what was accepted", "1", "durability"),
    bug("close_hides_the_failure", "`close` says that all is well after a failure", "7", "disk failure"),
    bug("directory_released_first", "`close` lets the next writer in before it has ended", "one writer", "durability"),
    bug("direct_sync_without_the_flag", "writes are taken for durable in a file without `O_DSYNC`", "1", "disk failure"),
    bug("seal_before_sync", "a seal is written before what it vouches for is synced", "a torn tail is no damage", "disk failure"),
    bug("seal_not_synced", "a segment is followed by the next before its seal is synced", "6", "disk failure"),
    bug("one_salt_for_all_segments", "every segment has the same salt", "4", "reopen"),
    bug("named_before_its_header", "a segment gets its name before its header", "1", "disk failure"),
    bug("name_not_synced", "the directory is not synced after a segment got its name", "1", "disk failure"),
    bug("name_of_an_empty_segment_taken_over_unsynced", "the directory is not synced after an empty segment was replaced", "1", "enumerate"),
    bug("names_not_synced_at_open", "opening builds on names that only the cache knows", "1", "interrupted recovery"),
    bug("incarnation_not_raised", "an opening has the incarnation of the one before", "5", "reopen"),
    bug("last_lsn_given_again", "the first append after opening gets an LSN that is taken", "5", "torn tail"),
    bug("last_timestamp_forgotten", "timestamps begin anew at each opening", "1", "torn tail"),
    bug("page_cache_believed", "recovery reads what the page cache has, not what the device has", "1", "torn tail"),
    bug("tail_not_synced_at_open", "opening builds on records that only the cache knows", "opening is idempotent", "single"),
    bug("payload_checksum_ignored", "a damaged payload is given as if it were whole", "6", "damage"),
    bug("half_a_batch_kept", "the first records of a torn batch are kept", "3", "torn tail"),
    bug("contradicting_mark_believed", "a sync mark vouches for more than can have been synced", "a torn tail is no damage", "torn tail"),
    bug("damage_cut_as_torn_tail", "acknowledged records behind a damaged one are cut", "6", "damage"),
    bug("lost_header_taken_for_none", "a segment whose header is gone is taken for one that never began", "6", "limits"),
    bug("missing_segment_passed_over", "a missing segment is not told", "6", "limits"),
    bug("link_not_checked", "a segment that does not follow the one before it is taken", "2, 6", "damage"),
    bug("log_start_not_checked", "a log is opened without the file at which it starts", "6, 10", "truncated"),
    bug("manifest_does_not_vouch", "a log that ends before what the manifest says was durable is taken", "6", "truncated"),
    bug("stream_not_synced_before_its_name", "a manifest gets its name before its bytes are durable", "10", "truncated"),
    bug("name_of_a_stream_not_synced", "files go before the manifest that gives them up has its name for good", "10", "truncated"),
    bug("log_start_of_an_unsynced_name", "a log is cut at a file whose name is not durable", "10", "truncated"),
    bug("unlinked_before_the_manifest", "files go before the manifest says that the log starts behind them", "10", "truncated"),
    bug("reserve_not_cut", "a manifest that took blocks of the reserve keeps what stood behind them", "7", "no block free"),
    bug("reserve_not_made_again", "what was used of the reserve stays missing", "7", "no block free"),
    bug("checkpoint_takes_the_last_reserve", "a manifest that names a checkpoint takes the file that the truncation needs", "7", "no block free"),
    bug("retention_ignores_the_checkpoint", "the limits take what the oldest kept checkpoint needs", "12", "retention, decided"),
    bug("retention_ignores_holds", "the limits take what a hold keeps", "12", "retention, decided"),
    bug("retention_ignores_readers", "the limits take what a reader of the process needs", "12", "retention, decided"),
    bug("retention_goes_by_the_wall_clock", "the age of a segment is the wall clock's", "12", "retention"),
    bug("uptime_not_saved_at_close", "an opening does not know for how long the one before had the log open", "12", "retention"),
    bug("end_not_saved_at_close", "a clean close does not have the manifest say where the log ends", "6", "close"),
    bug("backup_without_a_seal", "the last segment of a backup is not sealed", "13", "backup"),
    bug("first_backup_without_its_end", "a first backup says only in the end how far it goes", "13", "backup"),
    bug("backup_of_a_file_used_again", "a file that was given up while it was copied is in the backup", "13", "backup"),
    bug("backup_out_of_order", "the last segment of a backup comes first", "13", "backup"),
    bug("pins_passed_over", "a truncation takes the file that is being read", "10", "truncated"),
    bug("truncation_told_as_damage", "a reader beside a writer that truncates sees damage", "9, 10", "reader"),
    bug("prepared_files_left", "files that a killed writer had prepared stay", "8", "torn tail"),
    bug("recycled_flag_ignored", "bytes of a file's earlier life are taken for a torn tail", "a torn tail is no damage", "recycled"),
    bug("torn_tail_not_cut", "a torn tail stays in its segment", "opening is idempotent", "torn tail"),
    bug("cut_not_synced", "recovery returns before its cut is durable", "opening is idempotent", "interrupted recovery"),
    bug("torn_bytes_thrown_away", "what is cut is kept nowhere", "6", "torn tail"),
    bug("torn_copy_not_synced", "a tail is cut before its copy is durable", "6", "interrupted recovery"),
    bug("reader_passes_the_mark", "a reader beside a writer shows records that may still be lost", "9", "reader"),
    bug("reader_cuts_the_tail", "reading a dead log cuts its torn tail", "reading changes nothing", "reader"),
    bug("verify_keeps_quiet", "`verify` finds no damage to entries", "6", "damage"),
    bug("checkpoint_named_unsynced", "the manifest names a checkpoint that is not durable yet", "6", "checkpoint crash"),
    bug("checkpoint_overwritten_in_place", "a checkpoint is written over the one before", "6", "checkpoint crash"),
    bug("old_checkpoints_removed_first", "checkpoints go before the manifest has forgotten them", "6", "checkpoint crash"),
    bug("checkpoint_not_verified", "a state is handed over before its file was checked to the end", "4", "checkpoints"),
    bug("checkpoint_not_looked_for_again", "a replay goes by a checkpoint that was replaced meanwhile", "4", "checkpoints"),
    bug("open_transactions_forgotten", "replay upon a checkpoint begins behind records of transactions that were open", "1", "restore"),
    bug("damaged_checkpoint_built_upon", "changes are written upon a checkpoint that could not be read", "6", "checkpoints"),
    bug("published_before_the_copy", "a frame is published before its bytes are copied", "1, 4", "models: stripe"),
    bug("published_relaxed", "a frame is published without a release", "1, 4", "models: stripe"),
    bug("claim_given_up_relaxed", "a stripe's claim is given up without a release", "2", "models: stripe"),
    bug("room_believed_without_a_look", "a writer takes ring space without having seen it released", "1", "models: stripe"),
    bug("released_relaxed", "ring space is given back without a release", "1", "models: stripe"),
    bug("released_before_the_copy", "ring space is given back before its bytes are read", "1", "models: merge"),
    bug("boxed_frame_pushed_relaxed", "a frame is put on the overflow list without a release", "1", "models: stripe"),
    bug("list_taken_in_two_steps", "the overflow list is read and then emptied", "1", "models: stripe"),
    bug("budget_given_back_relaxed", "budget is given back without a release", "7", "models: room"),
    bug("end_in_two_steps", "the log is ended by a look and a store", "1", "models: stripe"),
    bug("writer_sleeps_without_asking_for_the_role", "a writer without room sleeps while nobody drives the log", "liveness", "models: room"),
    bug("role_given_up_without_waking_writers", "writers without room are not woken when the role is given up", "liveness", "models: room"),
    bug("seat_taken_after_the_look", "a committer looks and tries the role before it takes its seat", "liveness", "models: role"),
    bug("role_given_up_after_the_calls", "the role is given up after the calls to those who wait", "liveness", "models: role"),
    bug("called_relaxed", "committers are called without a release", "1", "models: committers"),
    bug("group_not_checked_again", "a committer sits down in a group that is its own no more", "liveness", "models: committers"),
    bug("sync_begins_before_the_last_is_called", "a sync begins while committers of the last one still sleep", "liveness", "models: committers"),
    bug("woken_means_durable", "a committer that is woken takes its record for durable", "1", "models: role"),
    bug("waiter_enters_without_a_look", "a waiter enters the list without a look at what is durable", "liveness", "models: waiters"),
    bug("durable_told_relaxed", "what is durable is told without a release", "9", "models: waiters"),
    bug("failure_wakes_a_leader_only", "a failure is told to one waiter only", "7", "models: failure"),
    bug("watchers_woken_with_the_next_waiter", "one who follows the log is not woken when nobody else is", "liveness", "models: watch"),
    bug("watchers_not_told_of_close", "one who follows the log waits on when it is closed", "liveness", "models: watch"),
    bug("end_told_relaxed", "the end of the log is told without a release", "9", "models: watch"),
    bug("task_enters_without_a_look", "a task enters the list without a look at what is durable", "liveness", "models: tasks"),
    bug("task_left_to_nobody", "a task that found the role taken is not woken when it is given up", "liveness", "models: tasks"),
    bug("waker_not_replaced", "a task keeps the waker of its first poll", "liveness", "models: tasks"),
    bug("ticket_not_forgotten", "a dropped ticket leaves its waker behind", "8", "models: tasks"),
    bug("written_told_before_the_write", "a round is told as written while it is being written", "the rung `Written`", "models: flight"),
    bug("written_believed_after_a_failure", "what was only written is told as reached after a failure", "7", "rungs"),
    bug("wakers_run_under_the_role", "a task is woken by who drives the log, while he does", "liveness", "rungs"),
    bug("task_waits_for_room_without_a_look", "a task enters among those without room and does not look again", "liveness", "models: room"),
    bug("wait_for_room_not_forgotten", "an append that is dropped while it waits for room leaves its waker behind", "8", "models: room"),
    bug("published_without_a_fence", "a writer looks at the background thread's state without a fence", "liveness", "models: flusher"),
    bug("idle_thread_not_told_of_a_sync", "the background thread sleeps through the mark that a leader owes", "9", "models: flusher"),
    bug("flusher_sleeps_without_a_look", "the background thread sleeps without looking again", "liveness", "models: flusher"),
    bug("job_cleared_after_the_work", "a job that is asked for while one is done is forgotten", "liveness", "models: jobs"),
    bug("old_name_not_synced_away", "a file is recycled before its old name is durably gone", "a torn tail is no damage", "spares"),
    bug("linked_file_recycled", "a file is recycled that has a name elsewhere", "a backup never changes", "spares"),
    bug("chore_begun_over_what_waits", "a chore begins though a file was promised to somebody", "liveness", "models: jobs"),
    bug("file_promised_during_a_chore", "a file is promised by a thread that runs a chore", "liveness", "models: jobs"),
    bug("pen_does_not_wait_for_zeros", "the pen writes a range into which zeros are being laid", "1", "models: frontier"),
    bug("seal_does_not_wait_for_zeros", "a segment is sealed while zeros are being laid in it", "1", "models: frontier"),
];
