//! The viewer's terminal: taken over, drawn on, and given back however the player ends.

use std::fs::OpenOptions;
use std::io::{self, Stdout, Write};
use std::time::{Duration, Instant};

use crossterm::cursor::{Hide, Show};
use crossterm::event::{self, Event};
use crossterm::execute;
use crossterm::style::ResetColor;
use crossterm::terminal::{self, EnterAlternateScreen, LeaveAlternateScreen};
use ratatui::backend::CrosstermBackend;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

use crate::failure::{Exit, Failure};
use crate::viewer::{Ask, Viewer};

/// How long to wait for a key while something plays: about 60 pictures a second.
const PLAYING_WAIT_MS: u64 = 16;
/// The same while nothing does.
const RESTING_WAIT_MS: u64 = 100;

/// Raw mode and the alternate screen, given back when dropped.
struct Screen {
    watch: Handle,
}

impl Screen {
    fn enter() -> io::Result<Screen> {
        // A panic leaves through here first, and its text, which may quote a recording, is not printed.
        std::panic::set_hook(Box::new(|info| {
            restore();
            let place = info.location().map(ToString::to_string).unwrap_or_default();
            // With standard error gone there is nobody to tell.
            writeln!(
                io::stderr(),
                "portcullis-player: a bug of ours at {place}; please report it"
            )
            .ok();
        }));
        // From here on a failure gives back what was taken.
        let screen = Screen {
            watch: watch_signals()?,
        };
        terminal::enable_raw_mode()?;
        execute!(io::stdout(), EnterAlternateScreen, Hide)?;
        Ok(screen)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
        self.watch.close();
        drop(std::panic::take_hook());
    }
}

/// On its own thread: waiting for a key never returns once the terminal has gone (crossterm reads its end over and
/// over), so a flag would not be seen.
fn watch_signals() -> io::Result<Handle> {
    let mut signals = Signals::new([SIGTERM, SIGHUP, SIGINT])?;
    let watch = signals.handle();
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        if let Some(signal) = signals.forever().next() {
            restore();
            // Held, so that no picture is drawn on what was given back.
            let _stdout = io::stdout().lock();
            // Ends the process as the signal would have; this cannot fail for the three above.
            signal_hook::low_level::emulate_default_handler(signal).ok();
        }
    })?;
    Ok(watch)
}

/// Twice does no harm; what fails here has no better place to be told.
fn restore() {
    execute!(io::stdout(), ResetColor, Show, LeaveAlternateScreen).ok();
    terminal::disable_raw_mode().ok();
}

/// Plays until the viewer leaves.
pub fn play(viewer: &mut Viewer) -> Result<(), Failure> {
    let failed = |what: &str| {
        let what = what.to_owned();
        move |e: io::Error| Failure::new(Exit::Failed, format!("{what}: {e}"))
    };
    let _screen = Screen::enter().map_err(failed("cannot take over the terminal"))?;
    let backend = CrosstermBackend::new(io::stdout());
    let mut terminal = ratatui::Terminal::new(backend).map_err(failed("cannot draw"))?;
    show(&mut terminal, viewer).map_err(failed("cannot draw on the terminal or read its keys"))
}

fn show(terminal: &mut ratatui::Terminal<CrosstermBackend<Stdout>>, viewer: &mut Viewer) -> io::Result<()> {
    let started = Instant::now();
    let mut dirty = true;
    loop {
        let now_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        dirty |= viewer.advance(now_us);
        if std::mem::take(&mut dirty) {
            terminal.draw(|frame| {
                let area = frame.area();
                viewer.draw(frame.buffer_mut(), area);
            })?;
        }
        let wait_ms = match viewer {
            _ if viewer.is_busy() => 0,
            _ if viewer.is_resting() => RESTING_WAIT_MS,
            _ => PLAYING_WAIT_MS,
        };
        let mut wait = Duration::from_millis(wait_ms);
        // All keys that wait are taken before the next picture, so that a held arrow does not lag behind.
        while event::poll(wait)? {
            dirty = true;
            wait = Duration::ZERO;
            match event::read()? {
                Event::Key(key) => match viewer.key(key) {
                    None => {}
                    Some(Ask::Quit) => return Ok(()),
                    Some(Ask::Write { name, text }) => {
                        let told = match write_new(&name, &text) {
                            Ok(()) => format!("written to {name}"),
                            Err(e) => format!("cannot write {name}: {e}"),
                        };
                        viewer.say(&told);
                    }
                },
                Event::Resize(..) | Event::FocusGained | Event::FocusLost | Event::Mouse(_) | Event::Paste(_) => {}
            }
        }
    }
}

/// A file that exists is not overwritten.
fn write_new(name: &str, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(name)?;
    file.write_all(text.as_bytes())
}
