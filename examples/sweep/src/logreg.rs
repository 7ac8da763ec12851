//! Multinomial logistic regression: 10 linear scores, softmax, stochastic gradient descent with
//! momentum.

use serde::{Deserialize, Serialize};

use crate::augment::{Augmentation, vary};
use crate::digits::{CLASSES, Digit, PIXELS};
use crate::rng::Rng;

const FEATURES: usize = PIXELS + 1;
const MOMENTUM: f32 = 0.9;
const DECAY: f32 = 1e-4;

/// The weights: for each digit one per pixel and one constant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Model {
    weights: Vec<f32>,
    velocity: Vec<f32>,
}

/// How to train.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Schedule {
    /// The step size at the first epoch; it falls as one over the square root of the epoch.
    pub(crate) learning_rate: f32,
    /// How images are varied.
    pub(crate) augmentation: Augmentation,
    /// How many variations of each image an epoch shows.
    pub(crate) variations: u32,
    /// What the order and the variations are drawn from.
    pub(crate) seed: u64,
}

/// How well a model does on some images.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Score {
    /// The share of images whose digit it names.
    pub(crate) accuracy: f32,
    /// The mean of minus the logarithm of the probability it gives to the right digit.
    pub(crate) loss: f32,
}

impl Default for Model {
    fn default() -> Model {
        Model { weights: vec![0.0; CLASSES * FEATURES], velocity: vec![0.0; CLASSES * FEATURES] }
    }
}

impl Model {
    /// Whether the weights have the shape of this model: they may come from a checkpoint.
    pub(crate) fn is_whole(&self) -> bool {
        let size = CLASSES * FEATURES;
        self.weights.len() == size && self.velocity.len() == size
    }

    /// The probability of each digit.
    fn probabilities(&self, pixels: &[f32; PIXELS]) -> [f32; CLASSES] {
        let mut scores = [0.0_f32; CLASSES];
        for (score, weights) in scores.iter_mut().zip(self.weights.chunks_exact(FEATURES)) {
            let (constant, weights) = weights.split_last().unwrap_or((&0.0, &[]));
            *score = constant + weights.iter().zip(pixels).map(|(w, x)| w * x).sum::<f32>();
        }
        let highest = scores.iter().copied().fold(f32::MIN, f32::max);
        let weights = scores.map(|score| (score - highest).exp());
        let total: f32 = weights.iter().sum();
        weights.map(|weight| weight / total)
    }

    /// Trains for one epoch, the `epoch`-th from 1, and returns the mean loss on what it saw.
    ///
    /// The result depends on the arguments alone, so training that continues from a checkpoint
    /// ends where uninterrupted training does.
    pub(crate) fn train_epoch(
        &mut self,
        images: &[&Digit],
        schedule: &Schedule,
        epoch: u32,
    ) -> f32 {
        let mut rng =
            Rng::new(schedule.seed ^ u64::from(epoch).wrapping_mul(0x5851_f42d_4c95_7f2d));
        let rate =
            schedule.learning_rate / f32::from(u16::try_from(epoch).unwrap_or(u16::MAX)).sqrt();
        let mut order: Vec<&Digit> = images.to_vec();
        let (mut loss, mut seen) = (0.0_f64, 0.0_f64);
        for _ in 0..schedule.variations {
            rng.shuffle(&mut order);
            for batch in order.chunks(32) {
                loss += f64::from(self.train_batch(batch, schedule.augmentation, rate, &mut rng));
                seen += 1.0;
            }
        }
        #[expect(
            clippy::as_conversions,
            clippy::cast_possible_truncation,
            reason = "a mean loss is shown, not computed with"
        )]
        let mean = (loss / f64::max(seen, 1.0)) as f32;
        mean
    }

    fn train_batch(
        &mut self,
        batch: &[&Digit],
        how: Augmentation,
        rate: f32,
        rng: &mut Rng,
    ) -> f32 {
        let share = 1.0 / f32::from(u16::try_from(batch.len()).unwrap_or(u16::MAX));
        let mut gradient = [0.0_f32; CLASSES * FEATURES];
        let mut loss = 0.0;
        for digit in batch {
            let pixels = vary(&digit.pixels, how, rng);
            let mut errors = self.probabilities(&pixels);
            let right = usize::from(digit.label);
            loss -= errors[right].max(f32::MIN_POSITIVE).ln() * share;
            errors[right] -= 1.0;
            for (error, gradient) in errors.iter().zip(gradient.chunks_exact_mut(FEATURES)) {
                let error = error * share;
                for (slope, pixel) in gradient.iter_mut().zip(pixels.iter().chain(&[1.0])) {
                    *slope += error * pixel;
                }
            }
        }
        let moving = self.weights.iter_mut().zip(self.velocity.iter_mut()).zip(&gradient);
        for ((weight, velocity), slope) in moving {
            *velocity = MOMENTUM * *velocity - rate * (slope + DECAY * *weight);
            *weight += *velocity;
        }
        loss
    }

    /// Scores the model on images as they are.
    pub(crate) fn score(&self, images: &[&Digit]) -> Score {
        let share = 1.0 / f32::from(u16::try_from(images.len().max(1)).unwrap_or(u16::MAX));
        let (mut named, mut loss) = (0_u16, 0.0);
        for digit in images {
            let probabilities = self.probabilities(&digit.pixels);
            let right = probabilities[usize::from(digit.label)];
            if probabilities.iter().all(|other| *other <= right) {
                named += 1;
            }
            loss -= right.max(f32::MIN_POSITIVE).ln() * share;
        }
        Score { accuracy: f32::from(named) * share, loss }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digits;

    fn schedule() -> Schedule {
        Schedule { learning_rate: 0.2, augmentation: Augmentation::Noise, variations: 1, seed: 7 }
    }

    #[test]
    fn it_learns_the_digits() {
        let all = digits::load().unwrap();
        let split = digits::split(all.len(), 1);
        let train = digits::pick(&all, &split.train).unwrap();
        let held_out = digits::pick(&all, &split.held_out).unwrap();
        let mut model = Model::default();
        let before = model.score(&held_out);
        for epoch in 1..=6 {
            model.train_epoch(&train, &schedule(), epoch);
        }
        let after = model.score(&held_out);
        assert!(after.accuracy > 0.93 && after.loss < before.loss, "{before:?} {after:?}");
    }

    #[test]
    fn going_on_from_a_checkpoint_ends_where_uninterrupted_training_does() {
        let all = digits::load().unwrap();
        let images: Vec<&Digit> = all.iter().take(200).collect();
        let mut whole = Model::default();
        whole.train_epoch(&images, &schedule(), 1);
        let checkpoint = serde_json::to_string(&whole).unwrap();
        assert!(checkpoint.len() < 64 * 1024, "{} bytes", checkpoint.len());
        whole.train_epoch(&images, &schedule(), 2);
        let mut resumed: Model = serde_json::from_str(&checkpoint).unwrap();
        resumed.train_epoch(&images, &schedule(), 2);
        assert_eq!(resumed, whole);
    }
}
