//! `midge top`: a running site on one screen, or line by line where there is no terminal.
mod history;
mod screen;

use crate::data_dir::DataDir;
use crate::failure::Failure;
use crate::status;
use history::History;
use host::control::Request;
use host::listing::{ClientLine, Page};
use host::status::Status;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use std::io::{self, IsTerminal};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Seconds between two looks.
    #[arg(short = 'd', long, value_name = "SECONDS", default_value_t = 1.0, value_parser = interval)]
    delay: f64,
    /// End after so many looks.
    #[arg(short = 'n', long, value_name = "COUNT")]
    count: Option<u64>,
    /// Line by line, as it is done without a terminal.
    #[arg(short, long)]
    batch: bool,
    /// One JSON object a line: the rates of each look.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    data: DataDir,
}

fn interval(words: &str) -> Result<f64, String> {
    match words.parse::<f64>() {
        Ok(seconds) if (0.1..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("a number of seconds from 0.1 to 3600".into()),
    }
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let data = args.data.path()?;
    let delay = Duration::from_secs_f64(args.delay);
    // The first refusal is told before the screen is taken.
    let mut history = History::new(look(&data)?);
    if args.batch || args.json || !io::stdout().is_terminal() {
        for _ in 0..args.count.unwrap_or(u64::MAX) {
            std::thread::sleep(delay);
            history.add(look(&data)?, delay);
            if args.json {
                say!("{}", serde_json::json!(history.rates()));
            } else {
                say!("{}", history.line());
            }
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut terminal = ratatui::try_init().map_err(|error| Failure::new(format!("can't use the terminal: {error}")))?;
    let outcome = watch(&mut terminal, &data, delay, args.count, &mut history);
    ratatui::restore();
    outcome.map(|()| ExitCode::SUCCESS)
}

/// What the keys have chosen.
#[derive(Debug, Default)]
struct Choice {
    order: Order,
    paused: bool,
}

/// What clients are sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Order {
    #[default]
    Queue,
    Name,
    Subscriptions,
}

impl Order {
    fn next(self) -> Self {
        match self {
            Self::Queue => Self::Name,
            Self::Name => Self::Subscriptions,
            Self::Subscriptions => Self::Queue,
        }
    }
}

fn watch(
    terminal: &mut ratatui::DefaultTerminal,
    data: &Path,
    delay: Duration,
    count: Option<u64>,
    history: &mut History,
) -> Result<(), Failure> {
    let mut choice = Choice::default();
    let mut clients = first_clients(data)?;
    let broken = |error: io::Error| Failure::new(format!("the terminal failed: {error}"));
    let (mut looks, mut last) = (0, Instant::now());
    loop {
        clients.sort_by(|a, b| match choice.order {
            Order::Queue => b.queued.cmp(&a.queued),
            Order::Name => a.client_id.cmp(&b.client_id),
            Order::Subscriptions => b.subscriptions.cmp(&a.subscriptions),
        });
        terminal.draw(|frame| screen::draw(frame, history, &clients, &choice)).map_err(broken)?;
        if event::poll(delay.saturating_sub(last.elapsed())).map_err(broken)? {
            if let Event::Key(key) = event::read().map_err(broken)?
                && is_end(key, &mut choice)
            {
                return Ok(());
            }
        } else if last.elapsed() >= delay {
            let elapsed = last.elapsed();
            last = Instant::now();
            looks += 1;
            if !choice.paused {
                history.add(look(data)?, elapsed);
                clients = first_clients(data)?;
            }
            if count.is_some_and(|count| looks >= count) {
                return Ok(());
            }
        }
    }
}

fn is_end(key: KeyEvent, choice: &mut Choice) -> bool {
    if key.kind != KeyEventKind::Press {
        return false;
    }
    match key.code {
        KeyCode::Char('q') | KeyCode::Esc => return true,
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return true,
        KeyCode::Char('s') => choice.order = choice.order.next(),
        KeyCode::Char('p' | ' ') => choice.paused = !choice.paused,
        _ => {}
    }
    false
}

fn look(data: &Path) -> Result<Status, Failure> {
    status::read(status::ask(data, &Request::Status)?)
}

/// The first page: more than a screen has.
fn first_clients(data: &Path) -> Result<Vec<ClientLine>, Failure> {
    let page: Page<ClientLine> = serde_json::from_value(status::ask(data, &Request::Clients { after: None })?)
        .map_err(|error| Failure::new(format!("the site is of another version than this command: {error}")))?;
    Ok(page.lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_choose() {
        let mut choice = Choice::default();
        let key = |code| KeyEvent::new(code, KeyModifiers::NONE);
        assert!(!is_end(key(KeyCode::Char('s')), &mut choice) && choice.order == Order::Name);
        assert!(!is_end(key(KeyCode::Char('p')), &mut choice) && choice.paused);
        assert!(!is_end(key(KeyCode::Char('c')), &mut choice), "only with Ctrl");
        assert!(is_end(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL), &mut choice));
        assert!(is_end(key(KeyCode::Char('q')), &mut choice));
        assert_eq!([0, 1, 2].iter().fold(Order::Queue, |order, _| order.next()), Order::Queue);
    }

    #[test]
    fn intervals_have_bounds() {
        assert_eq!(interval("0.5"), Ok(0.5));
        for words in ["0", "-1", "nan", "inf", "1e9", "", "x"] {
            assert!(interval(words).is_err(), "{words}");
        }
    }
}
