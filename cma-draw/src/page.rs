//! What all pictures have: a title, and a legend of devices.

use crate::colour::{Colour, Theme};
use crate::geometry::Rect;
use crate::scene::{Anchor, Scene};
use crate::style::Style;
use crate::text;

/// A picture that is drawn from top to bottom.
pub(crate) struct Page {
    pub(crate) scene: Scene,
    pub(crate) theme: Theme,
    /// The height of letters in pixels.
    pub(crate) letters: f64,
    /// Where the next thing begins.
    pub(crate) y: f64,
}

/// The free space along the edges.
pub(crate) const MARGIN: f64 = 14.0;

impl Page {
    /// A page with a title, and with a line below it.
    pub(crate) fn new(style: &Style, title: &str, below: &str) -> Page {
        let (width, height) = (style.size.width(), style.size.height());
        let letters = if width < 640 { 10.5 } else { 12.0 };
        let title = text::plain(title);
        let scene = Scene {
            width,
            height,
            title: title.clone(),
            paper: style.theme.paper(),
            items: Vec::new(),
        };
        let mut page = Page { scene, theme: style.theme, letters, y: MARGIN };
        page.paragraph(&title, letters + 3.0, page.theme.ink(), 2);
        page.paragraph(&text::plain(below), letters, page.theme.pale_ink(), 2);
        page
    }

    pub(crate) fn left(&self) -> f64 {
        MARGIN
    }

    pub(crate) fn right(&self) -> f64 {
        f64::from(self.scene.width) - MARGIN
    }

    /// The height of a line of text.
    pub(crate) fn line(&self) -> f64 {
        self.letters * 1.4
    }

    /// A text, broken into at most `most` lines over the width of the page.
    pub(crate) fn paragraph(&mut self, words: &str, size: f64, colour: Colour, most: usize) {
        let width = self.right() - self.left();
        let lines = text::wrapped(words, size, width);
        let at_the_end = lines.len().min(most).saturating_sub(1);
        for (index, line) in lines.iter().take(most).enumerate() {
            let rest = lines[index..].join(" ");
            let line = if index == at_the_end { &text::fitted(&rest, size, width) } else { line };
            self.y += size * 1.35;
            let at = (self.left(), self.y - size * 0.3);
            self.scene.text(at, Anchor::Start, size, colour, line.clone());
        }
    }

    /// Entries side by side, each with its colour, in as many lines as they need.
    pub(crate) fn legend(&mut self, entries: impl IntoIterator<Item = (Colour, String)>) {
        let (size, square) = (self.letters, self.letters * 0.85);
        let most = self.right() - self.left();
        let mut x = self.left();
        self.y += 4.0;
        for (colour, name) in entries {
            let name = text::fitted(&text::plain(&name), size, most.min(420.0) - 2.0 * square);
            let width = square + 5.0 + text::width(&name, size);
            if x > self.left() && x + width > self.right() {
                x = self.left();
                self.y += self.line();
            }
            let top = self.y + (self.line() - square) / 2.0;
            self.scene.rect(Rect::new(x, top, square, square), colour);
            let at = (x + square + 5.0, self.y + self.line() - size * 0.35);
            self.scene.text(at, Anchor::Start, size, self.theme.ink(), name);
            x += width + 16.0;
        }
        self.y += self.line() + 4.0;
    }
}
