//! Times, sizes and counts as people read them. Pure.

use maud::{Markup, html};
use tidemill_model::{RunStatus, Timestamp};

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// A duration in milliseconds: `0.5 s`, `12 s`, `3 min 20 s`, `5 h 2 min`, `12 d 3 h`.
pub fn duration(ms: u64) -> String {
    let two = |big: u64, unit: &str, rest: u64, small: &str| match rest {
        0 => format!("{big} {unit}"),
        rest => format!("{big} {unit} {rest} {small}"),
    };
    match ms {
        0..SECOND => format!("{ms} ms"),
        SECOND..10_000 => format!("{}.{} s", ms / SECOND, ms % SECOND / 100),
        10_000..MINUTE => format!("{} s", ms / SECOND),
        MINUTE..HOUR => two(ms / MINUTE, "min", ms % MINUTE / SECOND, "s"),
        HOUR..DAY => two(ms / HOUR, "h", ms % HOUR / MINUTE, "min"),
        _ => two(ms / DAY, "d", ms % DAY / HOUR, "h"),
    }
}

/// A duration between two times, in milliseconds; 0 if the second is the earlier.
pub fn ms_between(from: Timestamp, to: Timestamp) -> u64 {
    u64::try_from(to.since(from).as_millis()).unwrap_or(u64::MAX)
}

/// `1 run`, `2 runs`, `12,431 runs`.
pub fn count(n: u64, noun: &str) -> String {
    let plural = if n == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", thousands(n))
}

/// A whole number with its thousands apart: `12,431`.
pub fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A size: `512 B`, `4.0 KiB`, `1.2 MiB`.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if n < 1024 {
        return format!("{n} B");
    }
    let mut tenths = u128::from(n) * 10 / 1024;
    let mut unit = 0;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

/// A time to the second, as it is in the page where nothing else says when: `2026-11-20 10:00:07`.
pub fn clock(at: Timestamp) -> String {
    let text = at.to_string();
    text.get(..19).unwrap_or(&text).replace('T', " ")
}

/// How long ago a time is, with the time itself for those who point at it.
pub fn ago(at: Timestamp, now: Timestamp) -> Markup {
    let words = match now.since(at).is_zero() && at > now {
        true => format!("in {}", duration(ms_between(now, at))),
        false => format!("{} ago", duration(ms_between(at, now))),
    };
    html! { time datetime=(at) title=(at) { (words) } }
}

/// A time to the second, with the whole of it for those who point at it.
pub fn time(at: Timestamp) -> Markup {
    html! { time datetime=(at) title=(at) { (clock(at)) } }
}

/// A run's status.
pub fn status(status: RunStatus) -> Markup {
    html! { span class={ "status " (status.as_str()) } { (status.as_str()) } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_two_units_at_most() {
        let cases = [
            (0, "0 ms"),
            (999, "999 ms"),
            (1_550, "1.5 s"),
            (59_999, "59 s"),
            (60_000, "1 min"),
            (200_500, "3 min 20 s"),
            (3_600_000, "1 h"),
            (86_399_999, "23 h 59 min"),
            (90_000_000, "1 d 1 h"),
        ];
        for (ms, expected) in cases {
            assert_eq!(duration(ms), expected);
        }
    }

    #[test]
    fn counts_and_sizes_are_readable() {
        assert_eq!([thousands(0), thousands(999), thousands(1_000)], ["0", "999", "1,000"]);
        assert_eq!([count(1, "run"), count(12_431, "run")], ["1 run", "12,431 runs"]);
        assert_eq!([bytes(1_023), bytes(1_024), bytes(1_536)], ["1023 B", "1.0 KiB", "1.5 KiB"]);
        assert_eq!([bytes(200 << 20), bytes(u64::MAX)], ["200.0 MiB", "16777215.9 TiB"]);
    }

    #[test]
    fn a_time_is_said_from_now() {
        let at = |second: i64| Timestamp::from_micros(second * 1_000_000).unwrap();
        let text = |markup: Markup| markup.into_string();
        assert!(text(ago(at(0), at(90))).contains("1 min 30 s ago"));
        assert!(text(ago(at(90), at(0))).contains(">in 1 min 30 s<"));
        assert_eq!(clock(at(7)), "1970-01-01 00:00:07");
    }
}
