//! Measures the log beside the device that it stands on, and tells the figures as text or JSON.
//!
//! `cargo run --release -p braidlog-benches --bin floor -- --help`; how to read it is in `benches/README.md`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use braidlog_benches::adaptive::{self, Choice};
use braidlog_benches::build::Build;
use braidlog_benches::call::{self, Call, Cost};
use braidlog_benches::cores::{self, Cores};
use braidlog_benches::floor::{self, Asynchronous, Group, Lone};
use braidlog_benches::growth::{self, Counted, Growth, Work};
use braidlog_benches::living::{self, Living};
use braidlog_benches::memory::{self, Half, Memory};
use braidlog_benches::opening::{self, Opening};
use braidlog_benches::packed::{self, Packed, Pair};
use braidlog_benches::partitioned::{self, Partitioned};
use braidlog_benches::pipelined::{self, Row, Shape};
use braidlog_benches::presets::{self, Preset};
use braidlog_benches::replay::{self, Replay};
use braidlog_benches::scratch;
use braidlog_benches::tasks::{self, Tasks};
use braidlog_benches::typed::{self, TypedReplay};
use braidlog_measure::Result;
use braidlog_measure::machine::Machine;
use clap::{Parser, ValueEnum};
use serde::Serialize;

/// Measures Braidlog beside the raw device, in one run, by turns.
#[derive(Parser, Debug)]
struct Arguments {
    /// How often each measurement is repeated; the median is told, with the least and the greatest
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..=1000))]
    repetitions: u32,
    /// Measure these only
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// Also append and replay more than memory holds, and tell how much memory that takes (Linux)
    #[arg(long)]
    memory: bool,
    /// Bytes of payload for --memory
    #[arg(long, default_value_t = 10 << 30)]
    memory_bytes: u64,
    /// Where to write, in a fresh directory that is removed afterwards [default: below the build directory]
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Let each sync of the group take at least so many microseconds, as on a slower disk
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    sync_us: Option<u64>,
    /// Tell the figures as JSON
    #[arg(long)]
    json: bool,
    /// Bytes of payload of the long log of `growth` and `opening`; the disk must have some GiB more
    #[arg(long, default_value_t = 10 << 30)]
    growth_bytes: u64,
    #[arg(long, hide = true)]
    child_appends: Option<PathBuf>,
    #[arg(long, hide = true)]
    child_commits: Option<PathBuf>,
    #[arg(long, hide = true)]
    child_batches: Option<PathBuf>,
    #[arg(long, hide = true)]
    child_long: Option<PathBuf>,
    #[arg(long, hide = true)]
    child_append: Option<PathBuf>,
    #[arg(long, hide = true)]
    child_replay: Option<PathBuf>,
    #[arg(long, hide = true)]
    child_partitioned: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Part {
    /// One thread under `Synchronous`, beside a loop of write and fdatasync
    Lone,
    /// 64 threads under `GroupCommit`
    Group,
    /// 1, 4, 16 and 64 threads under `Async`
    Async,
    /// Durable records with many on their way, beside `Async`: batches of 100, and 10,000 in flight
    Pipelined,
    /// One append call of one thread under `Async`, beside a copy and a CRC
    Call,
    /// Replay, from a warm and a cold page cache, beside a loop that checks the same bytes
    Replay,
    /// Partitioned replay beside one thread that applies, at 1 us a record; only if it is named
    Partitioned,
    /// Replay of text from compressed segments beside the same log without compression; only if it is named
    Packed,
    /// Replay of typed entries beside the same records as bytes; only if it is named
    Typed,
    /// Appends under each preset, by turns; only if it is named
    Presets,
    /// Durable records from tasks: one with 10,000 tickets in flight, and 10,000 that await one append each; only if it is
    /// named
    Tasks,
    /// What group commit chooses on disks of 50 us, 500 us and 5 ms; only if it is named
    Adaptive,
    /// Appends and commits on a log of 200 segments beside those on a short one; only if it is named
    Growth,
    /// Writers of a log with checkpoints, retention, recycling and backups beside those of one without; only if it is
    /// named
    Living,
    /// Opening a log of 10 GiB with a recent checkpoint after a crash; only if it is named
    Opening,
    /// What 16 and 64 cores would do, by a model that is held against this machine; only if it is named
    Cores,
}

/// What was measured.
#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    build: Build,
    machine: Machine,
    repetitions: u32,
    lone: Option<Lone>,
    group: Option<Group>,
    asynchronous: Option<Vec<Asynchronous>>,
    pipelined: Option<Vec<Row>>,
    call: Option<Call>,
    replay: Option<Replay>,
    partitioned: Option<Partitioned>,
    packed: Option<Vec<Packed>>,
    typed: Option<Vec<TypedReplay>>,
    presets: Option<Vec<Preset>>,
    tasks: Option<Tasks>,
    adaptive: Option<Vec<Choice>>,
    growth: Option<Growth>,
    living: Option<Vec<Living>>,
    opening: Option<Opening>,
    cores: Option<Cores>,
    memory: Option<Memory>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("floor: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    if let Some(dir) = &arguments.child_append {
        return memory::run_half(Half::Append, dir, arguments.memory_bytes);
    }
    if let Some(dir) = &arguments.child_replay {
        return memory::run_half(Half::Replay, dir, arguments.memory_bytes);
    }
    if let Some(dir) = &arguments.child_partitioned {
        return memory::run_half(Half::Partitioned, dir, arguments.memory_bytes);
    }
    let growth_bytes = arguments.growth_bytes;
    if let Some(dir) = &arguments.child_appends {
        return growth::run_child(Work::Appends, dir, growth_bytes);
    }
    if let Some(dir) = &arguments.child_commits {
        return growth::run_child(Work::Commits, dir, growth_bytes);
    }
    if let Some(dir) = &arguments.child_batches {
        return growth::run_child(Work::Batches, dir, growth_bytes);
    }
    if let Some(dir) = &arguments.child_long {
        return opening::run_child(dir, growth_bytes);
    }
    let base = arguments.dir.as_deref();
    let machine = Machine::here(scratch::directory(base)?.path());
    let repetitions = arguments.repetitions as usize;
    let wanted = |part, name| {
        let named_only = matches!(
            part,
            Part::Partitioned
                | Part::Packed
                | Part::Typed
                | Part::Presets
                | Part::Tasks
                | Part::Adaptive
                | Part::Growth
                | Part::Living
                | Part::Opening
                | Part::Cores
        );
        let is_default = arguments.only.is_empty() && !named_only;
        let wanted = is_default || arguments.only.contains(&part);
        if wanted {
            eprintln!("measuring: {name}");
        }
        wanted
    };
    let report = Report {
        build: Build::here(),
        machine,
        repetitions: arguments.repetitions,
        lone: wanted(Part::Lone, "one thread").then(|| floor::lone(base, repetitions)).transpose()?,
        group: wanted(Part::Group, "group commit")
            .then(|| floor::group(base, repetitions, arguments.sync_us.map(Duration::from_micros)))
            .transpose()?,
        asynchronous: wanted(Part::Async, "asynchronous threads")
            .then(|| floor::asynchronous(base, repetitions))
            .transpose()?,
        pipelined: wanted(Part::Pipelined, "pipelined commits")
            .then(|| pipelined::measure(base, repetitions))
            .transpose()?,
        call: wanted(Part::Call, "the append call").then(|| call::measure(base, repetitions)).transpose()?,
        replay: wanted(Part::Replay, "replay").then(|| replay::replay(base, repetitions)).transpose()?,
        partitioned: wanted(Part::Partitioned, "partitioned replay")
            .then(|| partitioned::measure(base, repetitions))
            .transpose()?,
        packed: wanted(Part::Packed, "compressed segments")
            .then(|| packed::measure(base, repetitions))
            .transpose()?,
        typed: wanted(Part::Typed, "typed replay").then(|| typed::measure(base, repetitions)).transpose()?,
        presets: wanted(Part::Presets, "presets").then(|| presets::measure(base, repetitions)).transpose()?,
        tasks: wanted(Part::Tasks, "tasks").then(|| tasks::measure(base, repetitions)).transpose()?,
        adaptive: wanted(Part::Adaptive, "what group commit chooses")
            .then(|| adaptive::measure(base, repetitions))
            .transpose()?,
        growth: wanted(Part::Growth, "growth")
            .then(|| growth::measure(base, repetitions, arguments.growth_bytes))
            .transpose()?,
        living: wanted(Part::Living, "a log that lives")
            .then(|| living::measure(base, repetitions))
            .transpose()?,
        opening: wanted(Part::Opening, "opening")
            .then(|| opening::measure(base, repetitions, arguments.growth_bytes))
            .transpose()?,
        cores: wanted(Part::Cores, "more cores").then(|| cores::measure(base, repetitions)).transpose()?,
        memory: if arguments.memory {
            eprintln!("measuring: memory");
            let dir = scratch::directory(base)?;
            Some(memory::measure(&dir.path().join("log"), arguments.memory_bytes)?)
        } else {
            None
        },
    };
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print(&report);
    }
    Ok(())
}

fn print(report: &Report) {
    let Machine { processor, threads, kernel, file_system, load } = &report.machine;
    println!("commit {}, {}", report.build.commit, report.build.compiler);
    println!("{processor}, {threads} threads, Linux {kernel}, load {load}");
    println!("{file_system}");
    println!("medians of {} repetitions (least to greatest)", report.repetitions);
    if let Some(lone) = &report.lone {
        println!("\none thread, Synchronous, 128 bytes: {} commits a repetition, median in us", lone.commits);
        println!("  log                             {:.1}", lone.log_us);
        println!("  write 4096 + fdatasync          {:.1}", lone.buffered_us);
        if let Some(direct) = lone.direct_us {
            println!("  write 4096 (direct) + fdatasync {direct:.1}");
        }
        println!("  log / write + fdatasync         {:.3}", lone.to_buffered);
        if let Some(ratio) = lone.to_direct {
            println!("  log / direct write + fdatasync  {ratio:.3}");
        }
    }
    if let Some(group) = &report.group {
        let slow = group.sync_min_us.map_or(String::new(), |us| format!(", each sync at least {us} us"));
        println!("\n{} threads, GroupCommit, 128 bytes{slow}", group.threads);
        println!("  durable commits per second      {:.0}", group.commits_per_second);
        println!("  records per fdatasync           {:.1}", group.records_per_sync);
        println!("  commit, p50 in us               {:.0}", group.commit_p50_us);
        println!("  commit, p99 in us               {:.0}", group.commit_p99_us);
        println!("  fdatasync of the log, p50 in us {:.0}", group.sync_p50_us);
        println!("  fdatasync alone, median in us   {:.0}", group.raw_sync_us);
    }
    if let Some(rows) = &report.asynchronous {
        println!("\nAsync, 128 bytes, final flush included, records per second");
        for Asynchronous { threads, records_per_second, disk_bytes_per_record } in rows {
            println!("  {threads:2} threads                      {records_per_second:.0}");
            println!("    bytes on disk for a record    {disk_bytes_per_record:.1}");
        }
    }
    if let Some(rows) = &report.pipelined {
        println!("\npipelined, GroupCommit, 128 bytes, all durable, records per second");
        for row in rows {
            let what = match row.shape {
                Shape::Batches(records) => format!("batches of {records}, one wait"),
                Shape::InFlight(tickets) => format!("{tickets} tickets in flight"),
            };
            let in_flight_kib = row.in_flight_bytes_max as f64 / 1024.0;
            println!("  {what}, {} threads: {:.0}", row.threads, row.records_per_second);
            println!("    the same under Async          {:.0}", row.asynchronous_per_second);
            println!("    to Async                      {:.3}", row.to_asynchronous);
            println!("    payloads in flight, at most   {in_flight_kib:.0} KiB");
            println!("    write 4096 + fdatasync, us    {:.0}", row.raw_us);
        }
    }
    if let Some(call) = &report.call {
        println!(
            "\nappend call, one thread, Async, 128 bytes, in ns: 1 of {} timed, the timer's {:.0} subtracted, its step {}",
            call.timed_every, call.timer_ns.median, call.timer_step_ns
        );
        for (what, Cost { mean_ns, p50_ns, p99_ns, p999_ns, waited_share }) in [
            ("flat out", call.flat_out),
            ("a million per second", call.paced),
            ("copy + CRC", call.copy_and_crc),
        ] {
            println!("  {what}: p50{:1$} {p50_ns:.0}", "", 25_usize.saturating_sub(what.len()));
            println!("    p99                           {p99_ns:.0}");
            println!("    p99.9                         {p999_ns:.0}");
            if let Some(mean_ns) = mean_ns {
                println!("    mean, waits included          {mean_ns:.1}");
            }
            println!("    calls that waited             {:.4} %", waited_share.median * 100.0);
        }
    }
    if let Some(Replay { records, caches, memory }) = &report.replay {
        println!("\nreplay of {records} records of 128 bytes, records per second");
        for cache in caches {
            println!("  {} page cache", if cache.warm { "warm" } else { "cold" });
            println!("  plain loop, one thread          {:.0}", cache.plain);
            println!("  one thread                      {:.0}", cache.one_thread);
            println!("  one thread / plain loop         {:.3}", cache.one_to_plain);
            println!("  all threads                     {:.0}", cache.all_threads);
            println!("  all threads / plain loop        {:.3}", cache.all_to_plain);
        }
        println!("  VmHWM of open and replay        {:.1} MiB", mib(memory.replay.resident_bytes));
    }
    if let Some(partitioned) = &report.partitioned {
        println!(
            "\nreplay of {} records of 128 bytes into a map, 1 us to apply one, warm, records per second",
            partitioned.records
        );
        println!("  one thread applies              {:.0}", partitioned.one_thread);
        println!("  {} partitions                    {:.0}", partitioned.partitions, partitioned.partitioned);
        println!("  partitions / one thread         {:.3}", partitioned.ratio);
        println!("  CPU ns a record, one thread     {:.0}", partitioned.one_thread_cpu_ns);
        println!("  CPU ns a record, partitions     {:.0}", partitioned.partitioned_cpu_ns);
        println!("  VmHWM of open and replay        {:.1} MiB", mib(partitioned.memory.resident_bytes));
    }
    report.packed.iter().flatten().for_each(print_packed);
    for typed in report.typed.iter().flatten() {
        println!(
            "\nreplay of {} values of {} bytes, {}, warm, records per second",
            typed.records, typed.payload_bytes, typed.shape
        );
        println!("  as bytes                        {:.0}", typed.raw);
        println!("  as values, where they lie       {:.0}", typed.typed);
        println!("  as values, deserialised         {:.0}", typed.deserialised);
        println!("  time: values / bytes            {:.3}", typed.typed_to_raw);
        println!("  time: deserialised / bytes      {:.3}", typed.deserialised_to_raw);
    }
    report.presets.iter().flatten().for_each(print_preset);
    if let Some(tasks) = &report.tasks {
        println!("\ntasks, GroupCommit, 128 bytes, all durable, records per second");
        println!("  one task, {} tickets in flight  {:.0}", tasks.in_flight, tasks.one_task_per_second);
        println!("  one thread, the same            {:.0}", tasks.one_thread_per_second);
        println!("  task / thread                   {:.3}", tasks.to_thread);
        println!("  {} tasks, one append each    {:.0}", tasks.in_flight, tasks.many_tasks_per_second);
        println!("  write 4096 + fdatasync, us      {:.0}", tasks.raw_us);
    }
    if let Some(choices) = &report.adaptive {
        println!("\nGroupCommit, 128 bytes, by the disk: what is chosen, and what comes of it; medians");
        println!(
            "  sync us  threads  cost us  expected  limit us  held  filled  commits/s  rec/sync  p50 us  p99.9 us"
        );
        for choice in choices {
            println!(
                "  {:7}  {:7}  {:7.0}  {:8.0}  {:8.0}  {:4.2}  {:6.2}  {:9.0}  {:8.1}  {:6.0}  {:8.0}",
                choice.sync_min_us,
                choice.threads,
                choice.round_cost_us.median,
                choice.hold_records.median,
                choice.hold_limit_us.median,
                choice.held.median,
                choice.filled.median,
                choice.commits_per_second.median,
                choice.records_per_sync.median,
                choice.commit_p50_us.median,
                choice.commit_p999_us.median
            );
        }
    }
    if let Some(growth) = &report.growth {
        println!(
            "\n128 bytes on a log of {} MiB in {} segments, beside a short one",
            growth.payload_bytes >> 20,
            growth.segments
        );
        for (what, pair) in [("append, ns", growth.append_ns), ("commit, us", growth.commit_us)] {
            println!("  {what}: short               {:.1}", pair.short);
            println!("    long                          {:.1}", pair.long);
            println!("    long / short                  {:.3}", pair.ratio);
        }
        let counted = [("append", growth.append_instructions), ("commit", growth.commit_instructions)];
        for (what, counted) in counted {
            match counted {
                Some(Counted { short, long }) => println!(
                    "  {what}, instructions: short     {short:.1}, long {long:.1}, long / short {:.3}",
                    long / short
                ),
                None => println!("  {what}, instructions: valgrind is not there to count them"),
            }
        }
    }
    if let Some(rows) = &report.living {
        println!(
            "\n128 bytes, records per second, on a log with checkpoints, retention and backups beside one without"
        );
        for row in rows {
            let what = if row.durable { "GroupCommit" } else { "Async" };
            println!("  {what}, {} threads: without       {:.0}", row.threads, row.growing_per_second);
            println!("    with                          {:.0}", row.living_per_second);
            println!("    with / without                {:.3}", row.ratio);
            println!(
                "    {} checkpoints, {} segments given up, {} of them recycled, {} backups",
                row.checkpoints, row.segments_removed, row.segments_recycled, row.backups
            );
        }
    }
    if let Some(opening) = &report.opening {
        println!(
            "\na log of {} MiB in {} segments with a recent checkpoint, after a crash, cold; in ms",
            opening.payload_bytes >> 20,
            opening.segments
        );
        println!("  open                            {:.1}", opening.open_ms);
        println!("  up to the first record          {:.1}", opening.first_record_ms);
        println!("  replay of {} records        {:.1}", opening.replayed, opening.replay_ms);
    }
    if let Some(cores) = &report.cores {
        print!("\n{cores}");
    }
    if let Some(memory) = &report.memory {
        println!("\n{:.0} MiB of 128-byte records, Async, default options", mib(memory.payload_bytes));
        println!("  directory                       {:.0} MiB", mib(memory.directory_bytes));
        for (what, peak) in [("append", memory.append), ("replay", memory.replay)] {
            println!(
                "  {what}: VmHWM                   {:.1} MiB, {:.1} s",
                mib(peak.resident_bytes),
                peak.seconds
            );
        }
    }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn print_preset(preset: &Preset) {
    println!(
        "\n{}, {} threads, 128 bytes, a crash may lose {} ms",
        preset.name, preset.threads, preset.loss_window_ms
    );
    println!("  records per second              {:.0}", preset.records_per_second);
    println!("  to the default                  {:.2}", preset.to_default);
    println!("  an append, us, median           {:.2}", preset.call_p50_us);
    println!("  an append, us, 99 of 100        {:.2}", preset.call_p99_us);
    println!("  records a sync                  {:.0}", preset.records_per_sync);
}

fn print_packed(packed: &Packed) {
    println!(
        "\n{} lines of 128 bytes, {:?}, compressed from {:.1} to {:.1} MiB at {:.0} MiB/s; warm, records per second",
        packed.records,
        packed.text,
        mib(packed.plain_bytes),
        mib(packed.packed_bytes),
        packed.packing / f64::from(1 << 20)
    );
    let pair = |name: &str, pair: &Pair| {
        println!("  {name:<32}{:.0}", pair.plain);
        println!("  {:<32}{:.0}", "  compressed", pair.packed);
        println!("  {:<32}{:.3}", "  compressed / plain", pair.ratio);
    };
    pair("one thread", &packed.one_thread);
    pair("all threads", &packed.all_threads);
    pair("one record at a time", &packed.reads);
    pair("CPU ns a record, all threads", &packed.cpu_ns);
}
