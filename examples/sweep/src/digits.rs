//! The data: 1,797 handwritten digits, and a split of them into training and held-out images.

use std::io::Read;

use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::rng::Rng;

/// Pixels of one image: 8 rows of 8.
pub(crate) const PIXELS: usize = 64;
/// The digits 0 to 9.
pub(crate) const CLASSES: usize = 10;

static DIGITS: &[u8] = include_bytes!("../data/digits.csv.gz");

/// One image with its label.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Digit {
    /// Grey values from 0 (paper) to 1 (ink), row by row.
    pub(crate) pixels: [f32; PIXELS],
    /// The digit, 0 to 9.
    pub(crate) label: u8,
}

/// Which images train and which are held out, as positions in the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Split {
    /// Positions of the images to train on.
    pub(crate) train: Vec<u16>,
    /// Positions of the images that training never sees: every fifth of a shuffled order.
    pub(crate) held_out: Vec<u16>,
}

/// Reads the images that are built into the program.
///
/// # Errors
/// If the file is not 1 or more rows of 64 grey values from 0 to 16 and a label from 0 to 9.
pub(crate) fn load() -> anyhow::Result<Vec<Digit>> {
    let mut text = String::new();
    flate2::read::GzDecoder::new(DIGITS).read_to_string(&mut text).context("unpack digits")?;
    let digits: Vec<Digit> = text
        .lines()
        .enumerate()
        .map(|(row, line)| parse(line).with_context(|| format!("read digits row={}", row + 1)))
        .collect::<anyhow::Result<_>>()?;
    ensure!(!digits.is_empty(), "the digits file is empty");
    Ok(digits)
}

fn parse(line: &str) -> anyhow::Result<Digit> {
    let values: Vec<f32> = line
        .split(',')
        .map(|field| field.trim().parse().with_context(|| format!("read number `{field}`")))
        .collect::<anyhow::Result<_>>()?;
    let [pixels @ .., label] = values.as_slice() else { bail!("the row is empty") };
    ensure!(pixels.len() == PIXELS, "expected {PIXELS} pixels, found {}", pixels.len());
    ensure!(pixels.iter().all(|grey| (0.0..=16.0).contains(grey)), "a pixel is not in 0..=16");
    let label = (0..10_u8).find(|digit| f32::from(*digit) == *label);
    let mut digit = Digit { pixels: [0.0; PIXELS], label: label.context("a label is 0 to 9")? };
    for (to, from) in digit.pixels.iter_mut().zip(pixels) {
        *to = from / 16.0;
    }
    Ok(digit)
}

/// Shuffles the positions of `count` images by `seed` and holds out a fifth.
pub(crate) fn split(count: usize, seed: u64) -> Split {
    let mut order: Vec<u16> = (0..u16::MAX).take(count).collect();
    Rng::new(seed).shuffle(&mut order);
    let (held_out, train) = order.split_at(count / 5);
    Split { train: train.to_vec(), held_out: held_out.to_vec() }
}

/// The images at `positions`.
///
/// # Errors
/// If a position is past the end: the split is of another file.
pub(crate) fn pick<'a>(digits: &'a [Digit], positions: &[u16]) -> anyhow::Result<Vec<&'a Digit>> {
    let find = |at: &u16| digits.get(usize::from(*at)).with_context(|| format!("no image {at}"));
    positions.iter().map(find).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_whole_and_every_image_is_used_once() {
        let digits = load().unwrap();
        assert_eq!(digits.len(), 1_797);
        let Split { train, held_out } = split(digits.len(), 1);
        assert_eq!((train.len(), held_out.len()), (1_438, 359));
        let mut all: Vec<u16> = train.into_iter().chain(held_out).collect();
        all.sort_unstable();
        assert!(all.iter().enumerate().all(|(at, image)| at == usize::from(*image)));
    }

    #[test]
    fn a_damaged_row_is_named() {
        assert!(parse("1,2,3").unwrap_err().to_string().contains("expected 64 pixels"));
        let row = |label: &str| format!("{},{label}", vec!["0"; PIXELS].join(","));
        assert!(parse(&row("9")).is_ok());
        assert!(parse(&row("10")).is_err() && parse(&row("x")).is_err());
    }
}
