//! The loop of the screen: updates, keys, signals, drawing.

use crate::keys::{Arrival, Keys};
use crate::model::{Action, Model};
use crate::sampler::{Sampler, Update};
use crate::signals::{self, Signals};
use crate::terminal::{self, Screen};
use crate::theme::Theme;
use crate::{Closed, ClosedBy, Error, view};
use ratatui::crossterm::event::{Event, KeyEventKind};
use signal_hook::consts::SIGHUP;
use std::sync::mpsc::TryRecvError;
use std::time::{Duration, Instant};

/// The longest time until an update, a signal or the next second is seen.
const TICK: Duration = Duration::from_millis(50);

/// Shows what `sampler` sends, until the user quits or a signal arrives.
pub(crate) fn show(sampler: Sampler) -> Result<Closed, Error> {
    let theme = Theme::of_environment();
    show_by(sampler, |frame, model, now| view::draw(frame, model, theme, now))
}

/// The same, drawn by `draw`.
#[allow(clippy::needless_pass_by_value, reason = "dropping it ends the thread")]
fn show_by(
    sampler: Sampler,
    draw: impl Fn(&mut ratatui::Frame<'_>, &Model, Instant),
) -> Result<Closed, Error> {
    let mut model = Model::new(Instant::now());
    // Before the terminal is taken: what fails at once is an error like others.
    while model.sample.is_none() {
        match sampler.updates.recv() {
            Ok(Update::Failed(failed)) => return Err(failed.error.into()),
            Ok(update) => apply(&mut model, update)?,
            Err(_) => return Err(reader_ended()),
        }
    }
    let signals = Signals::catch()?;
    let keys = Keys::open().map_err(|_| Error::NoTerminal)?;
    let mut screen = Screen::enter()?;
    let by = run(&sampler, &signals, &keys, &mut screen, &mut model, draw);
    drop(screen);
    drop(signals);
    Ok(Closed { by: by?, panics: terminal::take_panics() })
}

fn run(
    sampler: &Sampler,
    signals: &Signals,
    keys: &Keys,
    screen: &mut Screen,
    model: &mut Model,
    draw: impl Fn(&mut ratatui::Frame<'_>, &Model, Instant),
) -> Result<ClosedBy, Error> {
    let (mut drawn, mut is_old) = (Instant::now(), true);
    loop {
        if let Some(signal) = signals.ending() {
            return Ok(ClosedBy::Signal(signal));
        }
        if signals.take_stop() {
            screen.without(signals::stop)?;
            is_old = true;
        }
        loop {
            match sampler.updates.try_recv() {
                Ok(update) => apply(model, update)?,
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return Err(reader_ended()),
            }
            is_old = true;
        }
        // Ages change although nothing else does.
        if is_old || drawn.elapsed() >= Duration::from_secs(1) {
            drawn = Instant::now();
            screen.draw(|frame| draw(frame, model, drawn))?;
            is_old = false;
        }
        // Takes all keys that are there before it draws again.
        let mut timeout = TICK;
        loop {
            let event = match keys.next(timeout)? {
                Arrival::Event(event) => event,
                Arrival::Nothing => break,
                Arrival::HungUp => return Ok(ClosedBy::Signal(SIGHUP)),
            };
            timeout = Duration::ZERO;
            is_old = true;
            let Event::Key(key) = event else { continue };
            if key.kind == KeyEventKind::Release {
                continue;
            }
            match model.press(key) {
                Some(Action::Quit) => return Ok(ClosedBy::User),
                Some(Action::Stop) => screen.without(signals::stop)?,
                Some(Action::Order(order)) => sampler.order(order),
                None => {}
            }
        }
    }
}

fn apply(model: &mut Model, update: Update) -> Result<(), Error> {
    let now = Instant::now();
    match update {
        Update::Title(title) => model.title = title,
        Update::Sample(sample) => model.show(sample, now),
        Update::Failed(failed) => model.fail(&failed, now),
        Update::NotStarted(error) => return Err(error),
    }
    Ok(())
}

fn reader_ended() -> Error {
    Error::Reader { panics: terminal::take_panics() }
}

#[cfg(test)]
mod tests;
