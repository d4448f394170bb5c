//! The command from outside: every test runs the program that users run, on real directories.
//!
//! One program, so that there is one to link. What each module promises is in its first lines.

mod support;

mod bench;
mod command;
mod config;
mod demo;
mod features;
mod kill;
mod life;
mod points;
mod quiet;
mod repair;
mod tail;
mod terminal;
mod writers_side;
