//! What is shown, and what keys do.

use crate::owners::{self, Group};
use crate::rates::Meter;
use crate::sampler::{Failed, Order, Sample};
use cma_running::{RegionState, State};
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use std::collections::HashMap;
use std::time::Instant;

/// The most owners whose colours are remembered.
const MOST_COLOURS: usize = 1000;

/// The rows that a page key moves the selection.
const PAGE: usize = 10;

/// What is shown.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) title: String,
    pub(crate) sample: Option<Sample>,
    pub(crate) meter: Meter,
    /// When the sample came, and why no later one did.
    pub(crate) read_at: Instant,
    pub(crate) gone: Option<Gone>,
    /// The first page of the selected region.
    selected: Option<u64>,
    /// Whether owners, waiters and refusals of all regions are shown.
    pub(crate) all: bool,
    pub(crate) group: Group,
    pub(crate) order: owners::Order,
    pub(crate) paused: bool,
    colours: HashMap<String, usize>,
}

/// The server can't be read.
#[derive(Clone, Debug)]
pub(crate) struct Gone {
    pub(crate) since: Instant,
    pub(crate) reason: String,
}

/// What a key does besides changing the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Quit,
    /// Stop the process, as Ctrl-Z does.
    Stop,
    Order(Order),
}

impl Model {
    pub(crate) fn new(now: Instant) -> Self {
        Model {
            title: String::new(),
            sample: None,
            meter: Meter::default(),
            read_at: now,
            gone: None,
            selected: None,
            all: false,
            group: Group::Device,
            order: owners::Order::Bytes,
            paused: false,
            colours: HashMap::new(),
        }
    }

    /// Shows a later state.
    pub(crate) fn show(&mut self, sample: Sample, now: Instant) {
        self.meter.read(sample.at, &sample.state);
        for region in &sample.state.regions {
            for chunk in region.books.iter().flat_map(|books| &books.chunks) {
                let device = owners::device(chunk);
                let next = self.colours.len();
                if next < MOST_COLOURS {
                    self.colours.entry(device).or_insert(next);
                }
            }
        }
        self.sample = Some(sample);
        (self.read_at, self.gone) = (now, None);
    }

    /// Notes that the state can't be read.
    pub(crate) fn fail(&mut self, failed: &Failed, now: Instant) {
        let since = self.gone.as_ref().map_or(now, |gone| gone.since);
        self.gone = Some(Gone { since, reason: failed.error.to_string() });
    }

    pub(crate) fn state(&self) -> Option<&State> {
        self.sample.as_ref().map(|sample| &sample.state)
    }

    pub(crate) fn regions(&self) -> &[RegionState] {
        self.state().map_or(&[], |state| &state.regions)
    }

    /// The index of the selected region; 0 if that is gone.
    pub(crate) fn selected(&self) -> usize {
        let is_selected = |region: &RegionState| Some(region.range.first_page()) == self.selected;
        self.regions().iter().position(is_selected).unwrap_or(0)
    }

    /// The regions whose owners, waiters and refusals are shown.
    pub(crate) fn in_detail(&self) -> &[RegionState] {
        let regions = self.regions();
        if self.all {
            regions
        } else {
            regions.get(self.selected()..=self.selected()).unwrap_or(&[])
        }
    }

    /// The number of the colour of a device.
    pub(crate) fn colour(&self, device: &str) -> usize {
        self.colours.get(device).copied().unwrap_or(MOST_COLOURS)
    }

    /// Does what `key` says.
    pub(crate) fn press(&mut self, key: KeyEvent) -> Option<Action> {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c') if control => return Some(Action::Quit),
            KeyCode::Char('z') if control => return Some(Action::Stop),
            _ if control => {}
            KeyCode::Char('q') | KeyCode::Esc => return Some(Action::Quit),
            KeyCode::Up | KeyCode::Char('k') => self.select(|at, _| at.saturating_sub(1)),
            KeyCode::Down | KeyCode::Char('j') => self.select(|at, last| (at + 1).min(last)),
            KeyCode::PageUp => self.select(|at, _| at.saturating_sub(PAGE)),
            KeyCode::PageDown => self.select(|at, last| (at + PAGE).min(last)),
            KeyCode::Home => self.select(|_, _| 0),
            KeyCode::End => self.select(|_, last| last),
            KeyCode::Char('a') => self.all = !self.all,
            KeyCode::Char('s') => self.order = self.order.next(),
            KeyCode::Char('g') => self.group = self.group.next(),
            KeyCode::Char(' ') => {
                self.paused = !self.paused;
                let order = if self.paused { Order::Pause } else { Order::Resume };
                return Some(Action::Order(order));
            }
            KeyCode::Right | KeyCode::Char('n') if self.paused => {
                return Some(Action::Order(Order::Step));
            }
            KeyCode::Char('+' | '=') => return Some(Action::Order(Order::Faster)),
            KeyCode::Char('-') => return Some(Action::Order(Order::Slower)),
            _ => {}
        }
        None
    }

    fn select(&mut self, to: impl FnOnce(usize, usize) -> usize) {
        let last = self.regions().len().saturating_sub(1);
        let region = self.regions().get(to(self.selected(), last));
        self.selected = region.map(|region| region.range.first_page());
    }
}
