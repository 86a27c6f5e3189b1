//! What a user's terminal is left like, on a real one. The program is this test, started again.

use super::*;
use crate::sampler::{Failed, Reader, Sample, Source};
use cma_running::State;
use cma_testkit_pty::{CommandBuilder, Signal, Terminal};
use std::env;
use std::io::Write;

/// Makes a process the program, and says what it does.
const VARIABLE: &str = "CMA_TOP_IN_TEST";

/// A source without regions. It panics at its third read if it is told to.
struct Empty {
    reads: u32,
    panics: bool,
}

impl Source for Empty {
    fn title(&self) -> String {
        "nothing".to_string()
    }

    fn interval(&self) -> Duration {
        Duration::from_millis(20)
    }

    fn change_pace(&mut self, _: bool) {}

    fn read(&mut self, _: Duration) -> Result<Sample, Failed> {
        self.reads += 1;
        assert!(!self.panics || self.reads < 30, "the reader panics");
        let at = Duration::from_millis(u64::from(self.reads));
        Ok(Sample { state: State::default(), at, pace: "pace".to_string(), ended: false })
    }

    fn step(&mut self) -> Result<Sample, Failed> {
        self.read(Duration::ZERO)
    }
}

/// The program, in processes that tests start. In others it does nothing.
#[test]
fn the_program() {
    let Ok(what) = env::var(VARIABLE) else { return };
    let panics = what == "reader-panics";
    let body = move |reader: &Reader| reader.run(&mut Empty { reads: 0, panics });
    let theme = Theme { colour: false, unicode: true };
    let drawn = std::cell::Cell::new(0);
    let closed = show_by(Sampler::start(body).unwrap(), |frame, model, now| {
        drawn.set(drawn.get() + 1);
        assert!(what != "screen-panics" || drawn.get() < 10, "the screen panics");
        view::draw(frame, model, theme, now);
    });
    writeln!(std::io::stdout(), "closed: {closed:?}").unwrap();
}

fn program(what: &str) -> Terminal {
    let mut command = CommandBuilder::new(env::current_exe().unwrap());
    command.args(["--exact", "screen::tests::the_program", "--nocapture"]);
    command.env(VARIABLE, what);
    command.env("RUST_BACKTRACE", "0");
    Terminal::start(command, (100, 30))
}

#[test]
fn a_user_who_quits_gets_the_terminal_back() {
    for key in ["q", "\x03", "\x1b"] {
        let mut terminal = program("");
        terminal.wait_for("there is no region");
        assert!(terminal.is_on_second_screen() && !terminal.is_cooked());
        terminal.press(key);
        terminal.wait_for("closed: Ok(Closed { by: User, panics: [] })");
        terminal.assert_restored();
        assert!(terminal.end().success());
    }
}

#[test]
fn each_signal_that_ends_a_program_restores_the_terminal() {
    for (signal, number) in
        [(Signal::INT, 2), (Signal::TERM, 15), (Signal::HUP, 1), (Signal::QUIT, 3)]
    {
        let terminal = program("");
        terminal.wait_for("there is no region");
        terminal.signal(signal);
        terminal.wait_for(&format!("closed: Ok(Closed {{ by: Signal({number}), panics: [] }})"));
        terminal.assert_restored();
    }
}

#[test]
fn a_panic_while_drawing_restores_the_terminal_before_it_is_reported() {
    let mut terminal = program("screen-panics");
    terminal.wait_for("the screen panics");
    terminal.assert_restored();
    assert!(!terminal.end().success());
}

#[test]
fn a_panic_of_the_reader_ends_the_screen_with_its_message() {
    let terminal = program("reader-panics");
    terminal.wait_for("closed: Err(Reader");
    terminal.wait_for("the reader panics");
    terminal.assert_restored();
}

#[test]
fn a_program_that_is_stopped_gives_the_terminal_back_until_it_goes_on() {
    for stop in ["\x1a", ""] {
        let mut terminal = program("");
        terminal.wait_for("there is no region");
        if stop.is_empty() {
            terminal.signal(Signal::TSTP);
        } else {
            terminal.press(stop);
        }
        terminal.assert_restored();
        // It may not have stopped yet, and then it would not notice this.
        terminal.wait_until("it goes on", |terminal| {
            terminal.signal(Signal::CONT);
            terminal.is_on_second_screen()
        });
        terminal.wait_for("there is no region");
        terminal.press("q");
        terminal.wait_for("closed: Ok");
        terminal.assert_restored();
    }
}
