//! Where a value lies on a chart, and which values its grid has. Pure.
//!
//! Values are any that JSON has: `-1e308` beside `1e308`, all the same, or 5e-324 apart. Nothing
//! here overflows, and the values of a grid are found in decimal, so that they are the same on
//! every machine.

/// Lines of a grid, at most.
const TICKS_MAX: usize = 12;

/// A scale from values to places on the screen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Scale {
    /// The least and the greatest value; the first is the smaller one.
    span: (f64, f64),
    /// Where they are on the screen.
    screen: (f64, f64),
    log: bool,
}

/// How far a value lies between two others, from 0 to 1. A half is taken of each, because the
/// difference of two floats may be none.
pub(crate) fn share(value: f64, (least, greatest): (f64, f64)) -> f64 {
    let whole = greatest / 2.0 - least / 2.0;
    if whole > 0.0 { ((value / 2.0 - least / 2.0) / whole).clamp(0.0, 1.0) } else { 0.0 }
}

impl Scale {
    /// A scale of what these values span; between 0 and 1 for none. One with `log` shows powers of
    /// ten at equal distances, if all values are greater than 0.
    pub(crate) fn of(values: impl Iterator<Item = f64>, log: bool, screen: (f64, f64)) -> Scale {
        let first = (f64::INFINITY, f64::NEG_INFINITY);
        let span = values.fold(first, |span, value| (span.0.min(value), span.1.max(value)));
        let span = if span.0 <= span.1 { span } else { (0.0, 1.0) };
        let log = log && span.0 > 0.0;
        Scale { span: widened(span, log), screen, log }
    }

    /// The least and the greatest value that have a place.
    pub(crate) fn span(&self) -> (f64, f64) {
        self.span
    }

    /// Whether powers of ten are at equal distances.
    pub(crate) fn is_log(&self) -> bool {
        self.log
    }

    /// Where a value is on the screen.
    pub(crate) fn place(&self, value: f64) -> f64 {
        let share = if self.log {
            share(value.ln(), (self.span.0.ln(), self.span.1.ln()))
        } else {
            share(value, self.span)
        };
        self.screen.0 + share * (self.screen.1 - self.screen.0)
    }

    /// The values of the grid: about `count` round ones.
    pub(crate) fn ticks(&self, count: u32) -> Vec<f64> {
        let powers = if self.log { powers(self.span) } else { Vec::new() };
        if powers.len() > 1 { powers } else { round(self.span, count) }
    }

    /// A value with no more digits than can be seen on the chart: a ten-thousandth of it, and more.
    pub(crate) fn shortened(&self, value: f64) -> f64 {
        let text = if self.log {
            format!("{value:.5e}")
        } else {
            let (_, power) = decimal((self.span.1 / 2.0 - self.span.0 / 2.0) / 10_000.0);
            match usize::try_from(-power) {
                Ok(digits) if digits <= 15 && value.abs() < 1e15 => format!("{value:.digits$}"),
                Err(_) if value.abs() < 1e15 => format!("{value:.0}"),
                Ok(_) | Err(_) => return value,
            }
        };
        text.parse().ok().filter(|short: &f64| short.is_finite()).unwrap_or(value)
    }
}

/// One value becomes a span with the value in the middle.
fn widened((least, greatest): (f64, f64), log: bool) -> (f64, f64) {
    if greatest / 2.0 - least / 2.0 > 0.0 {
        return (least, greatest);
    }
    if log {
        return ((least / 2.0).max(f64::MIN_POSITIVE), (greatest * 2.0).clamp(1e-300, f64::MAX));
    }
    let by = if least.abs() > 1e-300 { least.abs() / 20.0 } else { 1.0 };
    ((least - by).max(f64::MIN), (greatest + by).min(f64::MAX))
}

/// Multiples of 1, 2 or 5 times a power of ten.
fn round(span: (f64, f64), count: u32) -> Vec<f64> {
    let half = (span.1 / 2.0 - span.0 / 2.0) / f64::from(count.max(1));
    let (digit, power) = decimal(half);
    // Twice the half: 2 becomes 4, so 5.
    let step = match digit {
        digit if digit <= 1.0 => (2, power),
        digit if digit <= 2.5 => (5, power),
        digit if digit <= 5.0 => (1, power + 1),
        _ => (2, power + 1),
    };
    let step = number(step.0, step.1);
    let first = (span.0 / step).ceil();
    let mut ticks: Vec<f64> = Vec::new();
    for at in 0..TICKS_MAX {
        let at = f64::from(u8::try_from(at).unwrap_or(u8::MAX));
        // A multiple, not a sum: sums drift. The text takes off what the product has too much.
        let tick = (first + at) * step;
        let tick = format!("{tick:.12e}").parse().unwrap_or(tick);
        // Adding to a large number may leave it as it is.
        if tick > span.1 || !tick.is_finite() || ticks.last().is_some_and(|last| *last >= tick) {
            break;
        }
        ticks.push(tick);
    }
    ticks
}

/// The powers of ten within, at most [`TICKS_MAX`] of them.
fn powers(span: (f64, f64)) -> Vec<f64> {
    let (from, to) = (decimal(span.0).1, decimal(span.1).1);
    let most = i32::try_from(TICKS_MAX).unwrap_or(i32::MAX);
    let by = usize::try_from((to - from) / most + 1).unwrap_or(1);
    let within = |power: &f64| (span.0..=span.1).contains(power);
    (from..=to).step_by(by).map(|power| number(1, power)).filter(within).collect()
}

/// A number as a digit with a fraction, 1 to 10, and the power of ten; 1 and -300 for 0.
fn decimal(value: f64) -> (f64, i32) {
    if value.abs() < 1e-300 {
        return (1.0, -300);
    }
    let text = format!("{:e}", value.abs());
    let (digit, power) = text.split_once('e').unwrap_or((&text, "0"));
    (digit.parse().unwrap_or(1.0), power.parse().unwrap_or(0))
}

fn number(digit: u32, power: i32) -> f64 {
    format!("{digit}e{power}").parse().unwrap_or(1.0)
}

/// A number as people read it: five digits, and a power of ten for the very large and small.
pub(crate) fn short(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 {
        return "0".to_owned();
    }
    if value.fract() == 0.0 && size < 1e7 {
        return format!("{value:.0}");
    }
    if !(1e-4..1e7).contains(&size) {
        let text = format!("{value:.4e}");
        let (digits, power) = text.split_once('e').unwrap_or((&text, "0"));
        return format!("{}e{power}", trimmed(digits));
    }
    let (_, power) = decimal(value);
    let digits = usize::try_from(4 - power).unwrap_or(0);
    let text = format!("{value:.digits$}");
    if digits == 0 { text } else { trimmed(&text).to_owned() }
}

fn trimmed(digits: &str) -> &str {
    match digits.contains('.') {
        true => digits.trim_end_matches('0').trim_end_matches('.'),
        false => digits,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn scale(values: &[f64], log: bool) -> Scale {
        Scale::of(values.iter().copied(), log, (0.0, 100.0))
    }

    #[test]
    fn grids_are_round() {
        let ticks = |values: &[f64]| scale(values, false).ticks(5);
        assert_eq!(ticks(&[0.0, 1.0]), [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]);
        assert_eq!(ticks(&[0.0, 300_000.0]), [0.0, 100_000.0, 200_000.0, 300_000.0]);
        assert_eq!(ticks(&[-0.3, 0.7]), [-0.2, 0.0, 0.2, 0.4, 0.6]);
        assert_eq!(ticks(&[2.5, 2.5]), [2.4, 2.45, 2.5, 2.55, 2.6]);
        assert_eq!(ticks(&[]), ticks(&[0.0, 1.0]));
        assert_eq!(scale(&[0.001, 20.0], true).ticks(5), [0.001, 0.01, 0.1, 1.0, 10.0]);
        assert_eq!(scale(&[2.0, 3.0], true).ticks(2), [2.0, 2.5, 3.0]);
    }

    #[test]
    fn powers_of_ten_need_values_above_zero() {
        assert!(!scale(&[0.0, 1.0], true).is_log() && scale(&[0.1, 1.0], true).is_log());
        let scale = scale(&[0.01, 100.0], true);
        assert!((scale.place(1.0) - 50.0).abs() < 1e-9);
    }

    #[test]
    fn numbers_are_short() {
        let cases = [
            (0.0, "0"),
            (-3.0, "-3"),
            (300_000.0, "300000"),
            (0.123_456_7, "0.12346"),
            (12.5, "12.5"),
            (99_999.96, "100000"),
            (1_234_567.5, "1234568"),
            (1e-5, "1e-5"),
            (-1.234_567e-8, "-1.2346e-8"),
            (1.5e300, "1.5e300"),
        ];
        for (value, expected) in cases {
            assert_eq!(short(value), expected);
        }
    }

    #[test]
    fn what_cannot_be_seen_is_left_off() {
        assert_eq!(scale(&[0.0, 1.0], false).shortened(0.123_456_789), 0.123_46);
        assert_eq!(scale(&[0.0, 1e6], false).shortened(1234.567), 1235.0);
        let near = scale(&[1_000_000.010, 1_000_000.014], false);
        assert_eq!(near.shortened(1_000_000.011_234_56), 1_000_000.011_234_6);
        assert_eq!(scale(&[1e-9, 1.0], true).shortened(1.234_567_89e-9), 1.234_57e-9);
    }

    proptest! {
        #[test]
        fn no_value_breaks_a_scale(a in any::<f64>(), b in any::<f64>(), log in any::<bool>()) {
            prop_assume!(a.is_finite() && b.is_finite());
            let scale = scale(&[a, b], log);
            for value in [a, b] {
                let place = scale.place(value);
                prop_assert!((0.0..=100.0).contains(&place), "{place}");
                prop_assert!(scale.shortened(value).is_finite());
            }
            let ticks = scale.ticks(5);
            prop_assert!(ticks.len() <= TICKS_MAX + 1);
            prop_assert!(ticks.iter().all(|tick| tick.is_finite()));
            prop_assert!(ticks.is_sorted_by(|a, b| a < b), "{ticks:?}");
            let order = (scale.place(a.min(b)), scale.place(a.max(b)));
            prop_assert!(order.0 <= order.1);
        }
    }
}
