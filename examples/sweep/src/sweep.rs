//! The workflows: a parent that tries every combination of a grid, and a child per trial.
//!
//! A trial's training records its weights and metrics after every epoch, so a machine that
//! vanishes costs the epochs since the last shipped checkpoint and nothing else.

use anyhow::{Context, ensure};
use futures_util::future::try_join_all;
use serde::{Deserialize, Serialize};
use tidemill::{Ctx, Result, Step};

use crate::augment::Augmentation;
use crate::digits::{self, Split};
use crate::logreg::{Model, Schedule, Score};

/// A grid of trials. Every field has a default: the empty object is the default sweep, which keeps
/// two cores busy for about 40 seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Grid {
    /// The step sizes to try.
    pub(crate) learning_rates: Vec<f32>,
    /// The variations of images to try.
    pub(crate) augmentations: Vec<Augmentation>,
    /// Epochs of each trial.
    pub(crate) epochs: u32,
    /// How many variations of each image an epoch shows.
    pub(crate) variations: u32,
    /// What the split, the order and the variations are drawn from.
    pub(crate) seed: u64,
}

impl Default for Grid {
    fn default() -> Grid {
        Grid {
            learning_rates: vec![0.02, 0.1, 0.5],
            augmentations: vec![
                Augmentation::None,
                Augmentation::Noise,
                Augmentation::Shift,
                Augmentation::Rotate,
            ],
            epochs: 20,
            variations: 160,
            seed: 1,
        }
    }
}

/// One point of the grid.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Trial {
    /// How to train.
    pub(crate) schedule: Schedule,
    /// For how many epochs.
    pub(crate) epochs: u32,
}

/// What a trial came to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// The step size.
    pub(crate) learning_rate: f32,
    /// The variation of images.
    pub(crate) augmentation: Augmentation,
    /// How it does on the images that it never saw.
    pub(crate) held_out: Score,
}

/// What the sweep came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ranking {
    /// The best trial.
    pub(crate) best: Outcome,
    /// All trials, the best first.
    pub(crate) trials: Vec<Outcome>,
}

/// The parent: one child per point of the grid, all at once, then the ranking.
pub(crate) async fn sweep(ctx: Ctx, grid: Grid) -> Result<Ranking> {
    let trials = grid.trials();
    let children = trials.into_iter().map(|each| ctx.child(trial, each));
    let mut trials = try_join_all(children).await?;
    trials.sort_by(|a, b| {
        let by_accuracy = b.held_out.accuracy.total_cmp(&a.held_out.accuracy);
        by_accuracy.then(a.held_out.loss.total_cmp(&b.held_out.loss))
    });
    let best = *trials
        .first()
        .context("the grid is empty: give it a learning rate and an augmentation")?;
    Ok(Ranking { best, trials })
}

impl Grid {
    fn trials(&self) -> Vec<Trial> {
        let mut trials = Vec::new();
        for &augmentation in &self.augmentations {
            for &learning_rate in &self.learning_rates {
                let variations = self.variations;
                let seed = self.seed;
                let schedule = Schedule { learning_rate, augmentation, variations, seed };
                trials.push(Trial { schedule, epochs: self.epochs });
            }
        }
        trials
    }
}

/// The child: load and split, train, evaluate.
pub(crate) async fn trial(ctx: Ctx, trial: Trial) -> Result<Outcome> {
    let Schedule { learning_rate, augmentation, seed, .. } = trial.schedule;
    let split = ctx.step("load", load, seed).await?;
    let task = Training { trial, split: split.clone() };
    let model = ctx.step("train", train, task).blocking().await?;
    let held_out = ctx.step("evaluate", evaluate, Evaluation { model, split }).await?;
    Ok(Outcome { learning_rate, augmentation, held_out })
}

/// Reads the images and says which train and which are held out.
async fn load(_step: Step, seed: u64) -> anyhow::Result<Split> {
    Ok(digits::split(digits::load()?.len(), seed))
}

/// What the training step is given.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Training {
    trial: Trial,
    split: Split,
}

/// What the training step records after each epoch.
#[derive(Debug, Serialize, Deserialize)]
struct Progress {
    epoch: u32,
    training_loss: f32,
    held_out: Score,
    model: Model,
}

/// Trains for all epochs, continuing after the last one that was recorded.
async fn train(step: Step, task: Training) -> anyhow::Result<Model> {
    let images = digits::load()?;
    let training = digits::pick(&images, &task.split.train)?;
    let held_out = digits::pick(&images, &task.split.held_out)?;
    let (mut model, done) = match step.last_checkpoint::<Progress>()? {
        Some(progress) => (progress.model, progress.epoch),
        None => (Model::default(), 0),
    };
    ensure!(model.is_whole(), "the checkpoint is of another model");
    for epoch in done + 1..=task.trial.epochs {
        let training_loss = model.train_epoch(&training, &task.trial.schedule, epoch);
        let held_out = model.score(&held_out);
        let progress = Progress { epoch, training_loss, held_out, model };
        step.checkpoint(&progress).await?;
        model = progress.model;
    }
    Ok(model)
}

/// What the evaluation step is given.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Evaluation {
    model: Model,
    split: Split,
}

/// Scores the model on the images that it never saw.
async fn evaluate(_step: Step, task: Evaluation) -> anyhow::Result<Score> {
    ensure!(task.model.is_whole(), "the model has another shape");
    let images = digits::load()?;
    Ok(task.model.score(&digits::pick(&images, &task.split.held_out)?))
}
