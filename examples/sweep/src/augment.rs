//! Variations of an image that a person could have written, too.

use serde::{Deserialize, Serialize};

use crate::digits::PIXELS;
use crate::rng::Rng;

/// How the images are varied in training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Augmentation {
    /// Not at all.
    None,
    /// Grey values wander by up to a fifth.
    Noise,
    /// Moved by up to half a pixel each way.
    Shift,
    /// Turned by up to 8 degrees.
    Rotate,
}

/// Draws one variation.
pub(crate) fn vary(pixels: &[f32; PIXELS], how: Augmentation, rng: &mut Rng) -> [f32; PIXELS] {
    match how {
        Augmentation::None => *pixels,
        Augmentation::Noise => pixels.map(|grey| (grey + rng.around_zero(0.2)).clamp(0.0, 1.0)),
        Augmentation::Shift => {
            let (dx, dy) = (rng.around_zero(0.5), rng.around_zero(0.5));
            resample(pixels, |x, y| (x + dx, y + dy))
        }
        Augmentation::Rotate => {
            let (sin, cos) = rng.around_zero(8.0_f32.to_radians()).sin_cos();
            let centre = 3.5;
            resample(pixels, |x, y| {
                let (x, y) = (x - centre, y - centre);
                (x * cos - y * sin + centre, x * sin + y * cos + centre)
            })
        }
    }
}

/// The image whose pixel at (x, y) is the old one's at `from(x, y)`, between pixels by bilinear
/// interpolation, outside of it paper.
fn resample(pixels: &[f32; PIXELS], from: impl Fn(f32, f32) -> (f32, f32)) -> [f32; PIXELS] {
    let mut varied = [0.0; PIXELS];
    for (row, y) in (0..8_u8).map(f32::from).enumerate() {
        for (column, x) in (0..8_u8).map(f32::from).enumerate() {
            let (x, y) = from(x, y);
            let (left, top) = (x.floor(), y.floor());
            let (right_share, low_share) = (x - left, y - top);
            let at = |dx: f32, dy: f32| grey(pixels, left + dx, top + dy);
            let upper = at(0.0, 0.0) * (1.0 - right_share) + at(1.0, 0.0) * right_share;
            let lower = at(0.0, 1.0) * (1.0 - right_share) + at(1.0, 1.0) * right_share;
            varied[row * 8 + column] = upper * (1.0 - low_share) + lower * low_share;
        }
    }
    varied
}

#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "both are whole numbers from 0 to 7, as just checked"
)]
fn grey(pixels: &[f32; PIXELS], x: f32, y: f32) -> f32 {
    if !(0.0..8.0).contains(&x) || !(0.0..8.0).contains(&y) {
        return 0.0;
    }
    pixels[y as usize * 8 + x as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variation_stays_an_image_and_close_to_the_first() {
        let digit = &crate::digits::load().unwrap()[0];
        let mut rng = Rng::new(1);
        for how in [Augmentation::Noise, Augmentation::Shift, Augmentation::Rotate] {
            let varied = vary(&digit.pixels, how, &mut rng);
            assert!(varied.iter().all(|grey| (0.0..=1.0).contains(grey)), "{how:?}");
            assert_ne!(varied, digit.pixels, "{how:?}");
            let far: f32 = varied.iter().zip(&digit.pixels).map(|(a, b)| (a - b).abs()).sum();
            assert!(far < 12.0, "{how:?} moved the image by {far}");
        }
        assert_eq!(resample(&digit.pixels, |x, y| (x, y)), digit.pixels);
    }
}
