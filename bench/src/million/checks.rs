//! What a machine must have before it is worth beginning: files, memory, ports, and room for what the firewall remembers.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::Path,
};

use anyhow::{Context as _, ensure};

use super::MillionArgs;
use crate::{clients::SOURCES, files, measure::real, scenario::progress};

/// Files of a process that are no connections: listeners, pipes, epoll, gRPC.
const OTHER_FILES: u64 = 1000;

/// Bytes that the kernel takes for each end of a connection: socket, file, inode, entry of epoll.
const KERNEL_END: u64 = 4506;

/// Bytes of a connection in comet.
const COMET: u64 = 1024;

/// Bytes of a connection in its client.
const CLIENT: u64 = 600;

/// Bytes of a connection in the firewall's table, where it has one.
const TRACKED: u64 = 400;

/// Bytes of a comet and its process of clients without connections.
const PAIR: u64 = 24 << 20;

/// Where the bound on the firewall's table is set.
const CONNTRACK_MAX: &str = "/proc/sys/net/netfilter/nf_conntrack_max";

/// How many tracked connections there are.
const CONNTRACK_COUNT: &str = "/proc/sys/net/netfilter/nf_conntrack_count";

/// How connections are spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    /// Connections of all.
    pub(super) connections: u32,
    /// Comets, and as many processes of clients.
    pub(super) comets: u32,
}

impl Plan {
    /// With as few comets as hold so many connections.
    pub(super) fn new(connections: u32, per_comet: u32) -> Self {
        Self {
            connections,
            comets: connections.div_ceil(per_comet.max(1)).max(1),
        }
    }

    /// Connections of a comet: those of two differ by one at most.
    pub(super) fn share(self, place: u32) -> u32 {
        self.connections / self.comets + u32::from(place < self.connections % self.comets)
    }

    /// Bytes that all of it takes.
    fn memory(self, is_tracked: bool) -> u64 {
        let tracked = if is_tracked { TRACKED } else { 0 };
        let each = 2 * KERNEL_END + COMET + CLIENT + tracked;
        u64::from(self.connections) * each + u64::from(self.comets) * PAIR
    }
}

/// What the machine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Facts {
    /// Files that a process may have: `RLIMIT_NOFILE`.
    files: u64,
    /// Files that all processes may still open: `fs.file-max`.
    all_files: u64,
    /// Bytes of memory that are free or can be freed.
    memory: u64,
    /// Ports from which an address connects.
    ports: u64,
    /// Connections that the firewall remembers, and how many it can; nothing where it does not track them.
    tracked: Option<(u64, u64)>,
}

/// How connections are to be spread, if the machine has what they need; an error that says all that is missing.
pub(super) fn prepare(args: &MillionArgs) -> anyhow::Result<(Plan, Option<Raised>)> {
    let mut facts = Facts {
        files: files::raise()?,
        all_files: free_files()?,
        memory: available_memory()?,
        ports: ports()?,
        tracked: tracked()?,
    };
    let possible = u32::try_from(facts.files.saturating_sub(OTHER_FILES)).unwrap_or(u32::MAX);
    let plan = Plan::new(args.connections, args.per_comet.min(possible));
    let tell = |bytes: u64| real(bytes) / real(1 << 30);
    progress(&format!(
        "{} connections over {} comets and as many processes of clients. Memory: 2 x {:.1} KiB in the kernel, {:.1} KiB in comet \
         and {:.1} KiB in the client for each, {:.1} GiB with the processes; {:.1} GiB are there",
        plan.connections,
        plan.comets,
        real(KERNEL_END) / 1024.0,
        real(COMET) / 1024.0,
        real(CLIENT) / 1024.0,
        tell(plan.memory(facts.tracked.is_some())),
        tell(facts.memory),
    ));
    match facts.tracked {
        None => progress("nf_conntrack does not track these connections"),
        Some((count, most)) => progress(&format!("nf_conntrack tracks {count} of {most}")),
    }
    let mut raised = None;
    if args.raise_conntrack
        && let Some((count, most)) = facts.tracked
        && needed(plan, count) > most
    {
        facts.tracked = Some((count, needed(plan, count)));
        raised = Some((most, needed(plan, count)));
    }
    let missing = missing(&facts, plan);
    ensure!(
        missing.is_empty(),
        "this machine cannot do it:\n- {}",
        missing.join("\n- ")
    );
    let raised = raised.map(|(before, to)| Raised::new(before, to));
    Ok((plan, raised.transpose()?))
}

/// What stands against the plan, a sentence each.
fn missing(facts: &Facts, plan: Plan) -> Vec<String> {
    let mut missing = Vec::new();
    let share = u64::from(plan.share(0));
    if facts.files < share + OTHER_FILES {
        missing.push(format!(
            "a process may have {} files and needs {}: ulimit -Hn, bounded by fs.nr_open",
            facts.files,
            share + OTHER_FILES
        ));
    }
    let files = 2 * (u64::from(plan.connections) + u64::from(plan.comets) * 100);
    if facts.all_files < files {
        missing.push(format!(
            "all processes may open {} more files and need {files}: sysctl fs.file-max",
            facts.all_files
        ));
    }
    let memory = plan.memory(facts.tracked.is_some());
    if facts.memory < memory {
        missing.push(format!(
            "{} MiB of memory are available and {} MiB are needed",
            facts.memory >> 20,
            memory >> 20
        ));
    }
    // The kernel finds free ports quickly while half of an address's are free.
    let ports = facts.ports * u64::from(SOURCES) / 2;
    if ports < u64::from(plan.connections) {
        missing.push(format!(
            "{SOURCES} addresses with {} ports each serve {ports} connections: sysctl net.ipv4.ip_local_port_range",
            facts.ports
        ));
    }
    if let Some((count, most)) = facts.tracked
        && needed(plan, count) > most
    {
        missing.push(format!(
            "the firewall tracks at most {most} connections and has to track {}: \
             sysctl -w net.netfilter.nf_conntrack_max={}, or --raise-conntrack",
            needed(plan, count),
            needed(plan, count)
        ));
    }
    missing
}

/// Entries of the firewall's table that the plan needs beside those that are there.
fn needed(plan: Plan, count: u64) -> u64 {
    // Whatever else the machine connects meanwhile stays in the table for two minutes after its end.
    count + u64::from(plan.connections) * 5 / 4 + 20_000
}

/// A bound on tracked connections that was raised here.
#[derive(Debug)]
pub(super) struct Raised {
    before: u64,
    is_restored: bool,
}

impl Raised {
    fn new(before: u64, to: u64) -> anyhow::Result<Self> {
        fs::write(CONNTRACK_MAX, to.to_string()).with_context(|| CONNTRACK_MAX.to_owned())?;
        progress(&format!(
            "nf_conntrack_max is raised from {before} to {to} for this run"
        ));
        Ok(Self {
            before,
            is_restored: false,
        })
    }

    /// Whether what is tracked now fits into the old bound.
    pub(super) fn fits(&self) -> anyhow::Result<bool> {
        Ok(number(CONNTRACK_COUNT)? < self.before)
    }

    /// Sets the old bound again.
    pub(super) fn restore(mut self) -> anyhow::Result<()> {
        fs::write(CONNTRACK_MAX, self.before.to_string())?;
        self.is_restored = true;
        progress(&format!("nf_conntrack_max is {} again", self.before));
        Ok(())
    }
}

impl Drop for Raised {
    fn drop(&mut self) {
        if !self.is_restored {
            progress(&format!(
                "nf_conntrack_max is still raised; sysctl -w net.netfilter.nf_conntrack_max={} sets it back",
                self.before
            ));
        }
    }
}

fn free_files() -> anyhow::Result<u64> {
    let text = fs::read_to_string("/proc/sys/fs/file-nr")?;
    let numbers: Vec<u64> = text
        .split_whitespace()
        .filter_map(|n| n.parse().ok())
        .collect();
    let [open, _, most] = numbers[..] else {
        anyhow::bail!("/proc/sys/fs/file-nr: {text:?}");
    };
    Ok(most.saturating_sub(open))
}

/// What the machine has, or less where the control group may have less.
fn available_memory() -> anyhow::Result<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    let machine = kib.context("/proc/meminfo: MemAvailable")? << 10;
    // Where there is no such file or no bound, as "max", only the machine counts.
    let group = Path::new("/sys/fs/cgroup");
    let bound = [group.join("memory.max"), group.join("memory.current")]
        .map(|path| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok());
    Ok(match bound {
        [Some(most), Some(current)] => machine.min(most.saturating_sub(current)),
        _ => machine,
    })
}

fn ports() -> anyhow::Result<u64> {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")?;
    let mut numbers = text
        .split_whitespace()
        .filter_map(|n| n.parse::<u64>().ok());
    let range = numbers.next().zip(numbers.next());
    let (first, last) = range.context("/proc/sys/net/ipv4/ip_local_port_range")?;
    Ok((last + 1).saturating_sub(first))
}

/// What the firewall tracks, if it tracks connections of loopback: it has counted one that is open just now.
pub(crate) fn tracked() -> anyhow::Result<Option<(u64, u64)>> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let _open = TcpStream::connect(listener.local_addr()?)?;
    // Without the module there are no such files.
    if !Path::new(CONNTRACK_MAX).exists() {
        return Ok(None);
    }
    let (count, most) = (number(CONNTRACK_COUNT)?, number(CONNTRACK_MAX)?);
    Ok((count > 0).then_some((count, most)))
}

fn number(path: &str) -> anyhow::Result<u64> {
    let text = fs::read_to_string(path).with_context(|| path.to_owned())?;
    text.trim().parse().with_context(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENOUGH: Facts = Facts {
        files: 20_000,
        all_files: 2_400_000,
        memory: 20 << 30,
        ports: 28_232,
        tracked: Some((100, 2_000_000)),
    };

    #[test]
    fn a_million_is_spread_evenly() {
        let plan = Plan::new(1_000_000, 19_000);
        assert_eq!(
            (plan.comets, plan.share(0), plan.share(52)),
            (53, 18_868, 18_867)
        );
        assert_eq!(
            (0..53).map(|place| plan.share(place)).sum::<u32>(),
            1_000_000
        );
        assert_eq!(Plan::new(0, 0).comets, 1);
    }

    #[test]
    fn each_thing_that_is_missing_is_said() {
        let plan = Plan::new(1_000_000, 19_000);
        assert_eq!(missing(&ENOUGH, plan), [""; 0]);
        let lacks = [
            (
                Facts {
                    files: 19_000,
                    ..ENOUGH
                },
                "ulimit",
            ),
            (
                Facts {
                    all_files: 1_900_000,
                    ..ENOUGH
                },
                "fs.file-max",
            ),
            (
                Facts {
                    memory: 11 << 30,
                    ..ENOUGH
                },
                "memory",
            ),
            (
                Facts {
                    ports: 7000,
                    ..ENOUGH
                },
                "ip_local_port_range",
            ),
            (
                Facts {
                    tracked: Some((100, 262_144)),
                    ..ENOUGH
                },
                "nf_conntrack_max=1270100",
            ),
        ];
        for (facts, word) in lacks {
            let missing = missing(&facts, plan);
            assert!(
                missing.len() == 1 && missing[0].contains(word),
                "{missing:?}"
            );
        }
        assert_eq!(
            missing(
                &Facts {
                    tracked: None,
                    ..ENOUGH
                },
                plan
            ),
            [""; 0]
        );
    }

    #[test]
    fn this_machine_can_be_asked() {
        assert!(files::raise().unwrap() > 0);
        assert!(free_files().unwrap() > 0);
        assert!(available_memory().unwrap() > 0);
        assert!(ports().unwrap() > 0);
        tracked().unwrap();
    }
}
