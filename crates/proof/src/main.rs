//! The command that runs the proof, whole or by part, and prints what was counted.

fn main() {}
