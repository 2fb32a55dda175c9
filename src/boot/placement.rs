//! Which CPU each core of the server runs on: a decision of the online CPUs and the configuration.
//!
//! Why on one or two CPUs nothing is pinned: a pinned thread cannot step aside for another process,
//! and there the data core, the control core and the rest of the host share what there is.
//!
//! Promise: the plan names each CPU for one core only, except when there are fewer CPUs than cores and
//! nothing is pinned.

use std::fmt;

use crate::config::Config;
use crate::config::values::{CpuList, Pinning};

/// Where the cores run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The CPU of each data core, by shard. `None` leaves the choice to the kernel.
    pub data: Vec<Option<usize>>,
    /// The CPU of the control core.
    pub control: Option<usize>,
}

impl Placement {
    /// How many shards there are.
    pub fn shards(&self) -> usize {
        self.data.len()
    }

    /// Whether threads are bound to CPUs.
    pub fn is_pinned(&self) -> bool {
        self.data.iter().any(Option::is_some)
    }
}

/// Why the settings cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlacementError {
    /// A CPU does not exist, is offline or not allowed to this process.
    NoSuchCpu {
        /// The directive that names it.
        directive: &'static str,
        /// The CPU.
        cpu: usize,
        /// What there is.
        online: String,
    },
    /// `shards` and `cpus` say different numbers.
    CountsDiffer {
        /// From `shards`.
        shards: usize,
        /// Length of `cpus`.
        cpus: usize,
    },
    /// More pinned cores than CPUs.
    TooFewCpus {
        /// From `shards`.
        shards: usize,
        /// CPUs that are left for data cores.
        cpus: usize,
    },
}

impl fmt::Display for PlacementError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchCpu { directive, cpu, online } => {
                write!(f, "{directive}: CPU {cpu} cannot be used; usable are {online}")
            }
            Self::CountsDiffer { shards, cpus } => {
                write!(f, "shards is {shards} but cpus names {cpus}; leave one of them out")
            }
            Self::TooFewCpus { shards, cpus } => write!(
                f,
                "{shards} pinned shards need as many CPUs but {cpus} are left for them; \
                 ask for fewer shards or for --no-pin"
            ),
        }
    }
}

impl std::error::Error for PlacementError {}

/// Plans where the cores of this configuration run, given the CPUs that the process may use.
pub fn place(online: &[usize], config: &Config) -> Result<Placement, PlacementError> {
    let cpus = &config.cpus.0;
    check_cpus(online, config)?;
    if config.shards != 0 && !cpus.is_empty() && config.shards != cpus.len() {
        return Err(PlacementError::CountsDiffer { shards: config.shards, cpus: cpus.len() });
    }
    // Data cores take from the low end and the control core the last CPU, unless told otherwise.
    let control = config.control_cpu.or_else(|| spare_cpu(online, cpus));
    let free: Vec<usize> = if cpus.is_empty() {
        online.iter().copied().filter(|cpu| Some(*cpu) != control).collect()
    } else {
        cpus.clone()
    };
    let shards = shard_count(online, config, free.len());
    if !is_pinned(online, config, shards, free.len()) {
        return Ok(Placement { data: vec![None; shards], control: None });
    }
    if shards > free.len() {
        return Err(PlacementError::TooFewCpus { shards, cpus: free.len() });
    }
    // A control core that is told to share a data core's CPU may: it sleeps nearly all the time.
    Ok(Placement { data: free[..shards].iter().copied().map(Some).collect(), control })
}

/// On a host as small as this, pinning is off and one shard is used unless asked.
const SMALL_HOST_CPUS: usize = 2;

fn shard_count(online: &[usize], config: &Config, free: usize) -> usize {
    match (config.shards, config.cpus.0.len()) {
        (0, 0) if online.len() <= SMALL_HOST_CPUS => 1,
        (0, 0) => free.max(1),
        (0, named) => named,
        (asked, _) => asked,
    }
}

/// `auto` pins when the host is not small and there is a CPU for each core.
fn is_pinned(online: &[usize], config: &Config, shards: usize, free: usize) -> bool {
    let asked_for_cpus = !config.cpus.0.is_empty();
    match config.pin {
        Pinning::Yes => true,
        Pinning::No => false,
        Pinning::Auto => asked_for_cpus || (online.len() > SMALL_HOST_CPUS && shards <= free),
    }
}

/// The last CPU that no data core was given.
fn spare_cpu(online: &[usize], data: &[usize]) -> Option<usize> {
    let spare = online.iter().rev().find(|cpu| !data.contains(cpu));
    // A host of one CPU has none to spare: its control core floats.
    spare.copied().filter(|_| online.len() > 1)
}

fn check_cpus(online: &[usize], config: &Config) -> Result<(), PlacementError> {
    let named = config.cpus.0.iter().map(|cpu| ("cpus", *cpu));
    for (directive, cpu) in named.chain(config.control_cpu.map(|cpu| ("control-cpu", cpu))) {
        if !online.contains(&cpu) {
            let online = CpuList(online.to_vec()).to_string();
            return Err(PlacementError::NoSuchCpu { directive, cpu, online });
        }
    }
    Ok(())
}

/// The CPUs that this process may run on, in order: those online that its affinity mask and its
/// cpuset allow. `taskset` and containers narrow it.
pub fn usable_cpus() -> Vec<usize> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let allowed = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))
        .and_then(|list| CpuList::from_ranges(list.trim()))
        .map(|list| list.0)
        .unwrap_or_default();
    if allowed.is_empty() { vec![0] } else { allowed }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(cpus: usize, settings: &[&str]) -> Result<(Vec<Option<usize>>, Option<usize>), String> {
        let text = settings.join("\n");
        let config = Config::from_text(text.as_bytes()).unwrap();
        let online: Vec<usize> = (0..cpus).collect();
        let placement = place(&online, &config).map_err(|error| error.to_string())?;
        Ok((placement.data, placement.control))
    }

    fn on(cpus: &[usize]) -> Vec<Option<usize>> {
        cpus.iter().copied().map(Some).collect()
    }

    #[test]
    fn cores_are_placed_by_the_host_and_the_settings() {
        for (cpus, settings, data, control) in [
            (8, &[][..], on(&[0, 1, 2, 3, 4, 5, 6]), Some(7)),
            (3, &[], on(&[0, 1]), Some(2)),
            (2, &[], vec![None], None),
            (1, &[], vec![None], None),
            (2, &["shards 4"], vec![None; 4], None),
            (8, &["shards 3"], on(&[0, 1, 2]), Some(7)),
            (8, &["shards 9"], vec![None; 9], None),
            (8, &["cpus 2-4"], on(&[2, 3, 4]), Some(7)),
            (8, &["cpus 4-7"], on(&[4, 5, 6, 7]), Some(3)),
            (8, &["cpus 1,0", "shards 2", "control-cpu 5"], on(&[1, 0]), Some(5)),
            (4, &["cpus 0-1", "control-cpu 1"], on(&[0, 1]), Some(1)),
            (8, &["control-cpu 0"], on(&[1, 2, 3, 4, 5, 6, 7]), Some(0)),
            (8, &["pin no"], vec![None; 7], None),
            (2, &["pin yes"], on(&[0]), Some(1)),
            (2, &["cpus 0-1"], on(&[0, 1]), None),
            (1, &["pin yes"], on(&[0]), None),
        ] {
            assert_eq!(plan(cpus, settings), Ok((data, control)), "{cpus} CPUs, {settings:?}");
        }
    }

    #[test]
    fn settings_that_cannot_be_followed_are_refused() {
        for (cpus, settings, expected) in [
            (4, &["cpus 2-4"][..], "cpus: CPU 4 cannot be used; usable are 0-3"),
            (4, &["control-cpu 9"], "control-cpu: CPU 9 cannot be used; usable are 0-3"),
            (4, &["cpus 0-1", "shards 3"], "shards is 3 but cpus names 2"),
            (4, &["shards 4", "pin yes"], "4 pinned shards need as many CPUs but 3 are left"),
        ] {
            let error = plan(cpus, settings).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn this_process_may_run_somewhere() {
        assert!(!usable_cpus().is_empty());
    }
}
