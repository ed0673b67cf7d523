//! Links between sites as the link layer promises them: authenticated, each lane in order, and they may break at any
//! time and lose what was under way. Beyond the promise, frames may be doubled or swapped.
use crate::dice::Dice;
use node::Lane;
use std::collections::{BTreeMap, VecDeque};

/// How bad the links are.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// Least time under way, in microseconds.
    pub delay: u64,
    /// Added at random.
    pub jitter: u64,
    /// Frames per thousand that come twice.
    pub doubled_per_mille: u64,
    /// Frames per thousand that overtake the one before.
    pub swapped_per_mille: u64,
}

impl Weather {
    /// A good day.
    pub const FAIR: Self = Self { delay: 500, jitter: 500, doubled_per_mille: 0, swapped_per_mille: 0 };
}

/// Two sites, the smaller number first.
pub type Pair = (usize, usize);

#[derive(Debug)]
struct Frame {
    at: u64,
    bytes: Vec<u8>,
}

/// One direction of one link.
#[derive(Debug, Default)]
struct Pipe {
    main: VecDeque<Frame>,
    own: Vec<Frame>,
}

#[derive(Debug, PartialEq, Eq, Clone, Copy)]
enum State {
    /// Comes up at this time.
    Down {
        until: u64,
    },
    Up,
}

#[derive(Debug)]
struct Link {
    state: State,
    cut: bool,
    pipes: [Pipe; 2],
}

/// All links.
#[derive(Debug)]
pub struct Network {
    links: BTreeMap<Pair, Link>,
    /// The present weather.
    pub weather: Weather,
    /// Frames handed over so far.
    pub frames: u64,
}

/// What a link did.
#[derive(Debug)]
pub enum News {
    /// It came up.
    Up(Pair),
    /// A frame arrived.
    Frame {
        /// Whose.
        from: usize,
        /// At whom.
        to: usize,
        /// What.
        bytes: Vec<u8>,
    },
}

const RECONNECT: u64 = 20_000;

impl Network {
    /// A full mesh of `sites`, all links about to come up.
    pub fn new(sites: usize) -> Self {
        let pairs = (0..sites).flat_map(|a| (a + 1..sites).map(move |b| (a, b)));
        let link = || Link { state: State::Down { until: RECONNECT }, cut: false, pipes: Default::default() };
        Self { links: pairs.map(|pair| (pair, link())).collect(), weather: Weather::FAIR, frames: 0 }
    }

    /// Sends a frame; lost if the link is down.
    pub fn send(&mut self, now: u64, (from, to): (usize, usize), lane: Lane, bytes: Vec<u8>, dice: &mut Dice) {
        let weather = self.weather;
        let Some(link) = self.links.get_mut(&(from.min(to), from.max(to))) else { return };
        if link.state != State::Up {
            return;
        }
        self.frames += 1;
        let pipe = &mut link.pipes[usize::from(from > to)];
        let at = now + weather.delay + dice.below(weather.jitter + 1);
        match lane {
            Lane::Own => pipe.own.push(Frame { at, bytes }),
            Lane::Main => {
                let at = pipe.main.back().map_or(at, |last| last.at.max(at));
                let twice = dice.chance(weather.doubled_per_mille).then(|| bytes.clone());
                pipe.main.push_back(Frame { at, bytes });
                if let Some(bytes) = twice {
                    pipe.main.push_back(Frame { at, bytes });
                }
                let count = pipe.main.len();
                if count >= 2 && dice.chance(weather.swapped_per_mille) {
                    let last = std::mem::take(&mut pipe.main[count - 1].bytes);
                    pipe.main[count - 1].bytes = std::mem::replace(&mut pipe.main[count - 2].bytes, last);
                }
            }
        }
    }

    /// When something happens next.
    pub fn due(&self) -> Option<u64> {
        let of_link = |link: &Link| {
            let up = match link.state {
                State::Down { until } if !link.cut => Some(until),
                State::Down { .. } | State::Up => None,
            };
            let frames = link.pipes.iter().flat_map(|pipe| pipe.main.front().into_iter().chain(&pipe.own));
            up.into_iter().chain(frames.map(|frame| frame.at)).min()
        };
        self.links.values().filter_map(of_link).min()
    }

    /// What happened by `now`, one thing at a time. `alive` says which sites can have a link.
    pub fn poll(&mut self, now: u64, alive: impl Fn(usize) -> bool) -> Option<News> {
        for (&pair, link) in &mut self.links {
            if let State::Down { until } = link.state
                && until <= now
                && !link.cut
            {
                if alive(pair.0) && alive(pair.1) {
                    link.state = State::Up;
                    return Some(News::Up(pair));
                }
                link.state = State::Down { until: now + RECONNECT };
            }
            for (direction, pipe) in link.pipes.iter_mut().enumerate() {
                let (from, to) = if direction == 0 { pair } else { (pair.1, pair.0) };
                if pipe.main.front().is_some_and(|frame| frame.at <= now)
                    && let Some(frame) = pipe.main.pop_front()
                {
                    return Some(News::Frame { from, to, bytes: frame.bytes });
                }
                if let Some(index) = pipe.own.iter().position(|frame| frame.at <= now) {
                    let frame = pipe.own.swap_remove(index);
                    return Some(News::Frame { from, to, bytes: frame.bytes });
                }
            }
        }
        None
    }

    /// The link breaks and what is under way is lost. Returns whether it was up: both ends are to be told.
    pub fn drop_link(&mut self, now: u64, (a, b): (usize, usize)) -> bool {
        let Some(link) = self.links.get_mut(&(a.min(b), a.max(b))) else { return false };
        link.pipes = Default::default();
        let was_up = link.state == State::Up;
        link.state = State::Down { until: now + RECONNECT };
        was_up
    }

    /// No link between the two until [`Network::mend`].
    pub fn cut(&mut self, pair: Pair) {
        if let Some(link) = self.links.get_mut(&pair) {
            link.cut = true;
        }
    }

    /// All cuts are over.
    pub fn mend(&mut self) {
        self.links.values_mut().for_each(|link| link.cut = false);
    }

    /// All pairs, in order.
    pub fn pairs(&self) -> Vec<Pair> {
        self.links.keys().copied().collect()
    }
}
