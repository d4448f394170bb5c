//! The command line: every subcommand, option, default and limit.
//!
//! What can be refused without touching a log is refused here, with exit code 2.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use crate::config::{KindArg, user_kind};
use crate::point::{Point, Time};

/// Write, read, watch and check Braidlog write-ahead logs.
#[derive(Parser, Debug)]
#[command(
    name = "braidlog",
    version,
    arg_required_else_help = true,
    after_help = "Exit codes: 0 fine, 1 damage or a failure was found, 2 bad usage, 130 interrupted after a clean close.\n\
                  cat, tail, stat, segments, verify, backup, estimate and the listing of holds and restore points work beside a live writer and change nothing."
)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Append each line of a file or of standard input as one record.
    Write(WriteArgs),
    /// Print records in LSN order.
    Cat(CatArgs),
    /// Print the last records, and with -f those that another process appends.
    Tail(TailArgs),
    /// Say what a log holds.
    Stat(FactArgs),
    /// List a log's segment files.
    Segments(FactArgs),
    /// Check every byte of a log; exit code 1 if anything is wrong.
    Verify(VerifyArgs),
    /// Make a damaged log one that opens again, and say what was lost.
    #[command(
        after_help = "until-damage keeps what stands before the first damage; skip-damaged keeps every record that proves itself. What \
                      is given up is recorded in the log, its LSNs are never given again, and damaged files go into the \
                      directory quarantine of the log. Copy the log first if you can."
    )]
    Repair(RepairArgs),
    /// Print the records of one segment file that prove themselves, though its header or its log may be lost.
    Salvage(SalvageArgs),
    /// Say that the state up to an LSN is saved elsewhere: a checkpoint without content.
    Checkpoint(CheckpointArgs),
    /// Give up old segments.
    #[command(
        after_help = "A segment goes as soon as one of the options lets it go. What a checkpoint, a hold or the newest segment \
                      needs stays, and without a checkpoint everything does."
    )]
    Clean(CleanArgs),
    /// Make finished segments smaller; nothing else changes.
    #[command(
        after_help = "The segment under a writer's pen is not finished. A compressed segment is written beside the original, read \
                      back and compared before that one goes; one that is damaged stays as it is and is told, with exit code 1."
    )]
    Compress(CompressArgs),
    /// Bring a log into another directory, beside its writer or when it has none.
    #[command(
        after_help = "Into a backup of the same log only what is new is brought. To restore, open a copy of it: a backup that was \
                      opened for writing goes on as a log of its own and takes no later backup."
    )]
    Backup(BackupArgs),
    /// Make a log of its own of what lies before a point of another, to go on from there.
    #[command(
        after_help = "The old log is not touched, and may have a writer. The new one has the checkpoints that are not behind the point, an                       identity of its own, and opens like any other. A fork that was interrupted is refused: remove it and fork again."
    )]
    Fork(ForkArgs),
    /// List, set or release holds: who needs a log from where on.
    Holds(HoldsArgs),
    /// List, add or drop restore points: points of a log's time that have a name.
    RestorePoints(RestorePointsArgs),
    /// List the streams of a log, with the sequence of the last record of each.
    Streams(FactArgs),
    /// List transactions that were prepared and not decided, or decide one by hand.
    #[command(
        after_help = "Deciding is for when the coordinator that would is gone for good: two that decide may contradict each other."
    )]
    InDoubt(InDoubtArgs),
    /// Say how long a recovery would read.
    Estimate(FactArgs),
    /// Write real text from 16 threads, kill the writer, recover, check every promise, go on.
    Demo(DemoArgs),
    /// Measure logs on your disk, beside the disk itself.
    #[command(
        after_help = "Durable modes stand beside a loop of one write of 4096 bytes and one fdatasync, async beside a stream of \
                            direct writes of 1 MiB, each measured just before in the same run; `x raw` is the ratio to it. Every \
                            record is read back and counted after the clock. All is written to a fresh directory, which is \
                            removed in the end."
    )]
    Bench(BenchArgs),
}

/// Where the options come from that no flag says.
#[derive(clap::Args, Debug)]
pub struct ConfigArgs {
    /// Options of the log and names of kinds, as TOML. Variables BRAIDLOG_* go before the file, flags before both.
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
}

/// Options of `write`.
#[derive(clap::Args, Debug)]
pub struct WriteArgs {
    /// The log's directory; made if it does not exist.
    pub dir: PathBuf,
    /// Where the lines come from; `-` is standard input.
    #[arg(default_value = "-")]
    pub file: PathBuf,
    /// How many threads append. Lines are dealt to whichever is free.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub writers: u32,
    /// When a record counts as committed. Default: as the configuration says, or else group.
    #[arg(long, value_enum)]
    pub durability: Option<DurabilityArg>,
    /// How many lines go into one atomic batch.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub batch: u32,
    /// Each thread waits until its record (or batch) is committed before it takes the next, as that many
    /// committing threads of a program would. Without it many records are on their way at once.
    #[arg(long)]
    pub blocking: bool,
    /// Print `line-number<TAB>LSN` on standard output for each record once it is durable.
    #[arg(long)]
    pub ack: bool,
    /// The kind that the records get: 0 to 239, or a name that the configuration has.
    #[arg(long, value_name = "KIND", default_value = "0", value_parser = user_kind)]
    pub kind: KindArg,
    /// When to begin a new segment file: bytes, or with K, M or G.
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    pub segment_size: Option<u64>,
    /// Print the summary as JSON on standard output instead of as text on standard error.
    #[arg(long, conflicts_with = "ack")]
    pub json: bool,
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// `--durability`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum DurabilityArg {
    /// Committed means fsynced; nothing is held back.
    Sync,
    /// Committed means fsynced; commits may be held back some milliseconds to share an fsync.
    Group,
    /// Committed means accepted; fsynced in the background.
    Async,
}

/// Which records, and how they are printed.
#[derive(clap::Args, Debug)]
pub struct PrintArgs {
    /// How each record is printed.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// Only records of this kind: a number, or a name that the configuration has.
    #[arg(long, value_name = "KIND")]
    pub kind: Option<KindArg>,
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// `--format`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Format {
    /// The payload and a newline.
    Text,
    /// One JSON object a line.
    Json,
    /// The payload in hexadecimal and a newline.
    Hex,
    /// The payload and nothing else.
    Raw,
}

/// Options of `cat`.
#[derive(clap::Args, Debug)]
pub struct CatArgs {
    /// The log's directory.
    pub dir: PathBuf,
    /// The first LSN to print.
    #[arg(long, value_name = "LSN", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub from: u64,
    /// The last LSN to print; the last that is durable if left out.
    #[arg(long, value_name = "LSN", value_parser = clap::value_parser!(u64).range(1..))]
    pub to: Option<u64>,
    /// The last point to print up to: an LSN, a time (`2026-11-27T14:00:00Z`, `5m ago`) or a restore point's name. A
    /// batch that it lies in is left out.
    #[arg(long, value_name = "LSN|TIME|NAME", conflicts_with = "to")]
    pub until: Option<Point>,
    /// Leave out the record at --until too.
    #[arg(long, requires = "until")]
    pub exclusive: bool,
    /// Only records of this time or later: `2026-11-27T14:00:00Z`, `5m ago`. A record has the time at which it was written.
    #[arg(long, value_name = "TIME")]
    pub since: Option<Time>,
    /// From the last record to the first.
    #[arg(long)]
    pub reverse: bool,
    /// Read a damaged log, which nobody writes, as a repair with this policy would leave it; nothing is changed. What is
    /// passed over is told on standard error.
    #[arg(long, value_enum, value_name = "POLICY", conflicts_with_all = ["until", "since", "reverse"])]
    pub on_damage: Option<PolicyArg>,
    /// Which records, and how.
    #[command(flatten)]
    pub print: PrintArgs,
}

/// Options of `tail`.
#[derive(clap::Args, Debug)]
pub struct TailArgs {
    /// The log's directory.
    pub dir: PathBuf,
    /// How many of the last LSNs to begin with.
    #[arg(short = 'n', long = "lines", value_name = "N", default_value_t = 10)]
    pub count: u64,
    /// Go on with records as they become durable, until interrupted.
    #[arg(short, long)]
    pub follow: bool,
    /// Which records, and how.
    #[command(flatten)]
    pub print: PrintArgs,
}

/// Options of `stat`, `segments`, `verify`, `streams` and `estimate`.
#[derive(clap::Args, Debug)]
pub struct FactArgs {
    /// The log's directory.
    pub dir: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Options of `checkpoint`.
#[derive(clap::Args, Debug)]
pub struct CheckpointArgs {
    /// The log's directory.
    pub dir: PathBuf,
    /// The last LSN whose effect is saved elsewhere; the last durable one if left out.
    #[arg(long, value_name = "LSN", value_parser = clap::value_parser!(u64).range(1..))]
    pub lsn: Option<u64>,
    /// The state is saved: without this nothing is done.
    #[arg(long)]
    pub yes: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// Options of `verify`.
#[derive(clap::Args, Debug)]
pub struct VerifyArgs {
    /// The log's directory.
    pub dir: PathBuf,
    /// Say the verdict on each entry: on records, and on the log's own entries between them.
    #[arg(long)]
    pub entries: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Options of `repair`.
#[derive(clap::Args, Debug)]
pub struct RepairArgs {
    /// The log's directory.
    pub dir: PathBuf,
    /// What stays and what is given up.
    #[arg(long, value_enum)]
    pub policy: Option<PolicyArg>,
    /// Only say what would be kept: byte for byte, for each policy.
    #[arg(long)]
    pub dry_run: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `--policy`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum PolicyArg {
    /// The records before the first damage stay.
    UntilDamage,
    /// Every record stays that proves itself, in a whole batch.
    SkipDamaged,
}

/// Options of `salvage`.
#[derive(clap::Args, Debug)]
pub struct SalvageArgs {
    /// The segment file, under whatever name.
    pub file: PathBuf,
    /// Write to this file, which must not exist, instead of to standard output.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    pub print: PrintArgs,
}

/// Options of `clean`.
#[derive(clap::Args, Debug)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true))]
pub struct CleanArgs {
    /// The log's directory.
    pub dir: PathBuf,
    /// Let segments go whose records are all older, by their timestamps: `7d`, `12h`, `30m`.
    #[arg(long, value_name = "AGE", group = "what")]
    pub older_than: Option<humantime::Duration>,
    /// Let all but the newest N segments go.
    #[arg(long, value_name = "N", group = "what", value_parser = clap::value_parser!(u32).range(1..))]
    pub keep: Option<u32>,
    /// Let all but the newest segments go that have at most so many bytes together: bytes, or with K, M or G.
    #[arg(long, value_name = "BYTES", group = "what", value_parser = parse_bytes)]
    pub max_bytes: Option<u64>,
    /// Let segments go that hold nothing from this LSN on; refused if something below it is needed.
    #[arg(long, value_name = "LSN", group = "what", value_parser = clap::value_parser!(u64).range(1..))]
    pub before: Option<u64>,
    /// Only say what would go.
    #[arg(long)]
    pub dry_run: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// Options of `compress`.
#[derive(clap::Args, Debug)]
#[command(group(clap::ArgGroup::new("which").required(true)))]
pub struct CompressArgs {
    /// The log's directory.
    pub dir: PathBuf,
    /// Compress segments whose records are all older, by their timestamps: `7d`, `12h`, `30m`.
    #[arg(long, value_name = "AGE", group = "which")]
    pub older_than: Option<humantime::Duration>,
    /// Compress every finished segment.
    #[arg(long, group = "which")]
    pub all: bool,
    /// How hard to try: a higher level of zstd is smaller, and slower to make. Default: as the configuration says, or else 3.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=19))]
    pub level: Option<i32>,
    /// Only say what would be compressed.
    #[arg(long)]
    pub dry_run: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// Options of `backup`.
#[derive(clap::Args, Debug)]
pub struct BackupArgs {
    /// The log's directory.
    pub dir: PathBuf,
    /// The backup's directory: empty, not there yet, or a backup of this log.
    pub dest: PathBuf,
    /// Copy every file, also where a link would do.
    #[arg(long)]
    pub copy: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Options of `fork`.
#[derive(clap::Args, Debug)]
pub struct ForkArgs {
    /// The log's directory.
    pub dir: PathBuf,
    /// The new log's directory: empty, or not there yet.
    pub dest: PathBuf,
    /// The point up to which the log is taken: an LSN, a time (`2026-11-27T14:00:00Z`, `5m ago`) or a restore point's
    /// name; the end of the log if left out. A batch that it lies in is left out.
    #[arg(long, value_name = "LSN|TIME|NAME")]
    pub until: Option<Point>,
    /// Leave out the record at --until too.
    #[arg(long, requires = "until")]
    pub exclusive: bool,
    /// Only say what the new log would have.
    #[arg(long)]
    pub dry_run: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Options of `holds`.
#[derive(clap::Args, Debug)]
pub struct HoldsArgs {
    /// The log's directory.
    pub dir: PathBuf,
    /// What to do; lists the holds if left out.
    #[command(subcommand)]
    pub command: Option<HoldsCommand>,
    /// Print JSON.
    #[arg(long, global = true)]
    pub json: bool,
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// What to do with holds.
#[derive(Subcommand, Debug)]
pub enum HoldsCommand {
    /// Keep the log from an LSN on; moves the hold if there is one of that name.
    Set {
        /// The name of the hold: 1 to 255 bytes.
        name: String,
        /// The first LSN to keep.
        lsn: u64,
    },
    /// Release a hold.
    Release {
        /// The name of the hold.
        name: String,
    },
}

/// Options of `restore-points`.
#[derive(clap::Args, Debug)]
pub struct RestorePointsArgs {
    /// The log's directory.
    pub dir: PathBuf,
    /// What to do; lists the restore points if left out.
    #[command(subcommand)]
    pub command: Option<RestorePointsCommand>,
    /// Print JSON.
    #[arg(long, global = true)]
    pub json: bool,
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// What to do with restore points.
#[derive(Subcommand, Debug)]
pub enum RestorePointsCommand {
    /// Name the end of the log as it is now.
    Add {
        /// The name: 1 to 255 bytes.
        name: String,
        /// Only say where it would lie.
        #[arg(long)]
        dry_run: bool,
    },
    /// Drop a restore point; no record goes by it.
    Drop {
        /// The name.
        name: String,
        /// Only say what would be left.
        #[arg(long)]
        dry_run: bool,
    },
}

/// Options of `in-doubt`.
#[derive(clap::Args, Debug)]
pub struct InDoubtArgs {
    /// The log's directory.
    pub dir: PathBuf,
    /// What to do; lists the transactions if left out.
    #[command(subcommand)]
    pub command: Option<InDoubtCommand>,
    /// Print JSON.
    #[arg(long, global = true)]
    pub json: bool,
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// What to do with a transaction in doubt.
#[derive(Subcommand, Debug)]
pub enum InDoubtCommand {
    /// Let it take effect.
    Commit {
        /// What its coordinator calls it.
        global_id: String,
    },
    /// Give it up.
    Rollback {
        /// What its coordinator calls it.
        global_id: String,
    },
}

/// Options of `demo`.
#[derive(clap::Args, Debug)]
pub struct DemoArgs {
    /// Text to write instead of the shipped one; `-` is standard input. It is held in memory.
    pub file: Option<PathBuf>,
    /// Where to put the log: a directory that is empty or does not exist. Kept. The default is a temporary
    /// one, removed if all went well and otherwise kept and named.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// Options of `bench`.
#[derive(clap::Args, Debug)]
pub struct BenchArgs {
    /// A directory on the disk to measure.
    #[arg(default_value = ".")]
    pub dir: PathBuf,
    /// When a record counts as committed. The mode that the configuration says keeps its delays.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [DurabilityArg::Async, DurabilityArg::Group, DurabilityArg::Sync])]
    pub modes: Vec<DurabilityArg>,
    /// How many threads append at once.
    #[arg(long, value_name = "N,..", value_delimiter = ',', default_values_t = [1, 4, 16, 64], value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: Vec<u32>,
    /// Bytes of each record: 8 to 16M.
    #[arg(long, value_name = "BYTES,..", value_delimiter = ',', default_value = "128", value_parser = parse_record_bytes)]
    pub sizes: Vec<u64>,
    /// How long each repetition of each row appends, at most.
    #[arg(long, default_value_t = 2.0, value_parser = parse_seconds)]
    pub seconds: f64,
    /// How often each row is repeated; medians are told.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub repetitions: u32,
    /// How much may stand on the disk at once: bytes, or with K, M or G; at least 64M.
    #[arg(long, value_name = "BYTES", default_value = "2G", value_parser = parse_bytes_max)]
    pub max_bytes: u64,
    /// Print JSON in the end instead of a table meanwhile.
    #[arg(long)]
    pub json: bool,
    /// Also draw the rows as an SVG file.
    #[arg(long, value_name = "FILE.svg")]
    pub plot: Option<PathBuf>,
    #[command(flatten)]
    pub config: ConfigArgs,
}

fn parse_record_bytes(text: &str) -> Result<u64, String> {
    match parse_bytes(text)? {
        bytes @ 8..=0x100_0000 => Ok(bytes),
        _ => Err("records of 8 bytes to 16 MiB are measured".to_string()),
    }
}

fn parse_bytes_max(text: &str) -> Result<u64, String> {
    match parse_bytes(text)? {
        bytes if bytes >= 64 << 20 => Ok(bytes),
        _ => Err("at least 64M are needed".to_string()),
    }
}

fn parse_seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.001..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("a number of seconds from 0.001 to 3600".to_string()),
    }
}

/// Reads `65536`, `64K`, `64KiB` and so on; the units are powers of 1024.
fn parse_bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        other => return Err(format!("unknown unit `{other}`; use K, M or G")),
    };
    let number: u64 = digits.parse().map_err(|_| "not a number of bytes".to_string())?;
    number.checked_mul(unit).ok_or_else(|| "too many bytes".to_string())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn command_line_definition_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn sizes_are_read_with_and_without_units() {
        assert_eq!(parse_bytes("65536"), Ok(65536));
        assert_eq!(parse_bytes("64K"), Ok(65536));
        assert_eq!(parse_bytes("1MiB"), Ok(1 << 20));
        assert_eq!(parse_bytes("2g"), Ok(2 << 30));
        for bad in ["", "K", "1.5M", "-1", "1T", "99999999999G", "1é"] {
            assert!(parse_bytes(bad).is_err(), "{bad}");
        }
    }
}
