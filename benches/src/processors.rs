//! How much of the processors other processes used during a measurement. A row that waits for a
//! processor shows its neighbours instead of itself, and a single thread that syncs in a loop waits
//! longer than many threads that take turns.

use anyhow::Context;

/// The processors' time since the machine started, all of them together, in the kernel's ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Processors {
    all: u32,
    idle: u32,
    /// This process's and that of the children that it has waited for.
    own: u32,
}

impl Processors {
    /// Until now.
    pub(crate) fn now() -> anyhow::Result<Processors> {
        let of_machine = std::fs::read_to_string("/proc/stat")?;
        let of_process = std::fs::read_to_string("/proc/self/stat")?;
        Processors::parse(&of_machine, &of_process).context("/proc/stat cannot be read")
    }

    /// See `man 5 proc`.
    fn parse(of_machine: &str, of_process: &str) -> Option<Processors> {
        let ticks = |text: &str, skip: usize, take: usize| -> Option<Vec<u64>> {
            let fields = text.split_whitespace().skip(skip).take(take);
            let ticks: Vec<u64> = fields.map(|field| field.parse().ok()).collect::<Option<_>>()?;
            (ticks.len() == take).then_some(ticks)
        };
        // user, nice, system, idle, iowait, irq, softirq, steal
        let machine = ticks(of_machine.lines().next()?.strip_prefix("cpu ")?, 0, 8)?;
        // What follows the name, which may have spaces: the state, ten more, and utime, stime,
        // cutime, cstime.
        let own = ticks(of_process.rsplit_once(')')?.1, 11, 4)?;
        Some(Processors {
            all: u32::try_from(machine.iter().sum::<u64>()).ok()?,
            idle: u32::try_from(machine[3] + machine[4]).ok()?,
            own: u32::try_from(own.iter().sum::<u64>()).ok()?,
        })
    }

    /// The share of the processors' time that others used since `before`, from 0 to 1. The kernel's
    /// own threads are others.
    pub(crate) fn others_since(self, before: Processors) -> f64 {
        let all = self.all.saturating_sub(before.all).max(1);
        let not = (self.idle.saturating_sub(before.idle)) + (self.own.saturating_sub(before.own));
        f64::from(all.saturating_sub(not)) / f64::from(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_have_what_is_neither_idle_nor_ours() {
        let machine = |user, idle| format!("cpu  {user} 1 2 {idle} 4 5 6 7 0 0\ncpu0 1 2 3\n");
        let process = |own| format!("7 (a b) c) R 1 2 3 4 5 6 7 8 9 10 {own} 1 2 3 20 0\n");
        let before = Processors::parse(&machine(100, 200), &process(10)).unwrap();
        assert_eq!(before, Processors { all: 325, idle: 204, own: 16 });
        let after = Processors::parse(&machine(180, 220), &process(40)).unwrap();
        assert!((after.others_since(before) - 0.5).abs() < 1e-9, "50 of 100 ticks");
        assert_eq!(Processors::parse("cpu  1 2 3\n", &process(1)), None);
    }

    #[test]
    fn this_machine_tells() {
        let now = Processors::now().unwrap();
        assert!(now.all > now.idle && now.idle > 0, "{now:?}");
    }
}
