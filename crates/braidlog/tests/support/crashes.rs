//! A life that ends at each of its storage operations in turn, before the operation has its effect and after it.

use std::fmt::{self, Debug, Display};

use braidlog_sim::{Fault, Op, SimDisk};

/// Where a life was struck.
#[derive(Clone, Copy)]
pub struct Struck {
    /// At which operation, from 1.
    pub operation: u64,
    after_effect: bool,
}

impl Display for Struck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "operation {}, after {}", self.operation, self.after_effect)
    }
}

/// Opens on a new disk and lives until an operation fails, and every one behind it; then looks at what is on the disk, and begins anew with
/// the next operation. Gives how many there are, and what a life came to that was not struck.
pub fn at_each_operation<S, E: Debug>(
    open: impl Fn(&SimDisk) -> S,
    live: impl Fn(&mut S) -> Result<(), E>,
    mut look: impl FnMut(&SimDisk, &S, Struck),
) -> (u64, S) {
    let mut whole = None;
    let mut operations = 0;
    for after_effect in [false, true] {
        for operation in 1.. {
            let disk = SimDisk::new();
            let mut system = open(&disk);
            let died = Fault::eio(Op::Any).nth(operation);
            disk.inject(if after_effect { died.after_effect() } else { died });
            disk.inject(Fault::eio(Op::Any).nth(operation + 1).forever());
            let struck = disk.faults_struck();
            let lived = live(&mut system);
            let is_over = disk.faults_struck() == struck;
            disk.clear_faults();
            if is_over {
                lived.unwrap();
                operations += operation - 1;
                whole = Some(system);
                break;
            }
            look(&disk, &system, Struck { operation, after_effect });
        }
    }
    (operations, whole.expect("each life ends"))
}
