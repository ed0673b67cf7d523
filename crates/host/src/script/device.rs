//! Pins and the serial line of scripts. Real ones are the kernel's: GPIO by its character devices, PWM and analog
//! inputs by sysfs, serial lines by tty; a simulated pin is a file.
//!
//! One thread owns all pins, two others the serial line: a device that hangs or is unplugged costs nobody else
//! anything.
mod gpio;
mod serial;
mod sysfs;

use crate::config::{AnalogPlace, PinPlace, Pins};
use node::rules::{Level, PinMode};
pub(crate) use serial::{Lines, SerialLine, Use};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// What devices tell.
#[derive(Debug)]
pub enum News {
    /// The level of a pin, when it changes.
    Pin {
        /// Pin of the script.
        pin: u8,
        /// `None`: it can't be read any more.
        level: Option<Level>,
    },
    /// The analog input, 0 to 1023, when it changes.
    Adc(Option<u16>),
    /// A line from the serial port, its end removed.
    Line(Vec<u8>),
    /// From a serial port that is a console, too.
    Bytes(Vec<u8>),
    /// What went wrong, once until it works again.
    Trouble(String),
}

/// A pin. What it cannot do is an error with the reason.
trait Device: Send {
    /// Prepares it.
    fn set_mode(&mut self, mode: PinMode) -> io::Result<()>;
    /// Drives it.
    fn write(&mut self, level: Level) -> io::Result<()>;
    /// The present level, or those since the last look if they are known.
    fn levels(&mut self) -> io::Result<Vec<Level>>;
    /// Pulses; thousandths of the period.
    fn set_pulse(&mut self, per_mille: u16) -> io::Result<()>;
}

/// What a script wants of its pins.
#[derive(Debug)]
pub(crate) enum Order {
    /// Settings are known: what was ordered before is done now. Pulses have this period.
    Begin {
        period: Duration,
    },
    Mode(u8, PinMode),
    Write(u8, Level),
    Pulse(u8, u16),
}

/// Between two looks at inputs. The kernel keeps the edges of real pins meanwhile.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);
/// Between two looks at the analog input.
const ADC_INTERVAL: Duration = Duration::from_millis(200);

/// The driver's end; the thread ends with it.
#[derive(Debug)]
pub(crate) struct Board {
    orders: Sender<Order>,
}

impl Board {
    /// Starts the thread, which waits for [`Order::Begin`]. `tell` is called on it. `sys` is where sysfs is mounted,
    /// `dev` where devices are.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub(crate) fn start(
        pins: &Pins,
        (sys, dev): (&Path, &Path),
        tell: impl Fn(News) + Send + 'static,
    ) -> io::Result<Self> {
        let (orders, received) = channel();
        let (pins, sys, dev) = (pins.clone(), sys.to_owned(), dev.to_owned());
        let work = move || {
            let mut early = Vec::new();
            let period = loop {
                match received.recv() {
                    Ok(Order::Begin { period }) => break period,
                    Ok(order) => early.push(order),
                    Err(_) => return,
                }
            };
            let mut desk = Desk::new(&pins, (&sys, &dev), period, (received, Box::new(tell)));
            early.iter().for_each(|order| desk.obey(order));
            desk.work();
        };
        std::thread::Builder::new().name("midge-pins".into()).spawn(work)?;
        Ok(Self { orders })
    }

    pub(crate) fn order(&self, order: Order) {
        // The thread lives as long as we do.
        let _ = self.orders.send(order);
    }
}

struct Pin {
    device: Box<dyn Device>,
    is_input: bool,
    level: Option<Level>,
    is_troubled: bool,
}

impl Pin {
    fn new(device: Box<dyn Device>) -> Self {
        Self { device, is_input: false, level: None, is_troubled: false }
    }
}

struct Adc {
    input: sysfs::Analog,
    due: Instant,
    value: Option<u16>,
    is_troubled: bool,
}

impl Adc {
    fn new(input: sysfs::Analog) -> Self {
        Self { input, due: Instant::now(), value: None, is_troubled: false }
    }
}

struct Desk {
    pins: BTreeMap<u8, Pin>,
    adc: Option<Adc>,
    orders: Receiver<Order>,
    tell: Tell,
}

type Tell = Box<dyn Fn(News) + Send>;

impl Desk {
    fn new(pins: &Pins, (sys, dev): (&Path, &Path), period: Duration, (orders, tell): (Receiver<Order>, Tell)) -> Self {
        let device = |place: &PinPlace| -> Box<dyn Device> {
            match place {
                PinPlace::Gpio { chip, line } => Box::new(gpio::Line::new(dev.join(chip), *line)),
                PinPlace::Pwm { chip, channel } => Box::new(sysfs::Pulse::new(sys, chip, *channel, period)),
                PinPlace::Simulated(path) => Box::new(sysfs::Simulated::new(path.clone())),
            }
        };
        Self {
            pins: pins.places.iter().map(|(pin, place)| (*pin, Pin::new(device(place)))).collect(),
            adc: pins.adc.as_ref().map(|place: &AnalogPlace| Adc::new(sysfs::Analog::new(sys, place))),
            orders,
            tell,
        }
    }

    fn work(&mut self) {
        loop {
            let looks = self.pins.values().any(|pin| pin.is_input) || self.adc.is_some();
            let wait = if looks { LOOK_INTERVAL } else { Duration::from_secs(3600) };
            match self.orders.recv_timeout(wait) {
                Ok(order) => self.obey(&order),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.look();
        }
    }

    fn obey(&mut self, order: &Order) {
        let number = match order {
            Order::Begin { .. } => return,
            Order::Mode(pin, _) | Order::Write(pin, _) | Order::Pulse(pin, _) => *pin,
        };
        let Some(pin) = self.pins.get_mut(&number) else {
            let words = format!("pin {number} is not in the configuration: give it a place in [pins]");
            return (self.tell)(News::Trouble(words));
        };
        let done = match order {
            Order::Begin { .. } => Ok(()),
            Order::Mode(_, mode) => {
                pin.is_input = *mode != PinMode::Output;
                pin.level = None;
                pin.device.set_mode(*mode)
            }
            Order::Write(_, level) => {
                pin.is_input = false;
                pin.device.write(*level)
            }
            Order::Pulse(_, per_mille) => pin.device.set_pulse(*per_mille),
        };
        pin.report(number, done.err(), &*self.tell);
    }

    fn look(&mut self) {
        for (number, pin) in self.pins.iter_mut().filter(|(_, pin)| pin.is_input) {
            let (levels, trouble) = match pin.device.levels() {
                Ok(levels) => (levels.into_iter().map(Some).collect(), None),
                Err(error) => (vec![None], Some(error)),
            };
            for level in levels {
                if std::mem::replace(&mut pin.level, level) != level {
                    (self.tell)(News::Pin { pin: *number, level });
                }
            }
            pin.report(*number, trouble, &*self.tell);
        }
        let Some(adc) = self.adc.as_mut().filter(|adc| adc.due <= Instant::now()) else { return };
        adc.due = Instant::now() + ADC_INTERVAL;
        let read = adc.input.read();
        let is_troubled = read.is_err();
        if let Err(error) = &read
            && !adc.is_troubled
        {
            (self.tell)(News::Trouble(format!("analog input: {error}")));
        }
        adc.is_troubled = is_troubled;
        if std::mem::replace(&mut adc.value, read.as_ref().ok().copied()) != adc.value {
            (self.tell)(News::Adc(adc.value));
        }
    }
}

impl Pin {
    /// Trouble is told once, until it is over.
    fn report(&mut self, number: u8, trouble: Option<io::Error>, tell: &dyn Fn(News)) {
        let was_troubled = std::mem::replace(&mut self.is_troubled, trouble.is_some());
        if let Some(error) = trouble.filter(|_| !was_troubled) {
            tell(News::Trouble(format!("pin {number}: {error}")));
        }
    }
}

fn cannot(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, what.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use node::rules::Pull;
    use std::fs::{create_dir_all, read_to_string, write};

    /// A board on a sysfs of our own, and what it tells.
    fn board(folder: &Path, pins: &Pins) -> (Board, Receiver<News>) {
        let (sender, news) = channel();
        let board = Board::start(pins, (&folder.join("sys"), &folder.join("dev")), move |said| {
            drop(sender.send(said));
        });
        let board = board.unwrap();
        board.order(Order::Begin { period: Duration::from_millis(1) });
        (board, news)
    }

    fn next(news: &Receiver<News>) -> String {
        format!("{:?}", news.recv_timeout(Duration::from_secs(10)).expect("news"))
    }

    fn until(file: &Path, text: &str) {
        let began = Instant::now();
        while read_to_string(file).unwrap_or_default().trim() != text {
            assert!(began.elapsed() < Duration::from_secs(10), "{} never says {text}", file.display());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn a_simulated_pin_is_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let (switch, lamp) = (folder.path().join("switch"), folder.path().join("lamp"));
        let places = [(4, switch.clone()), (5, lamp.clone())];
        let places = places.into_iter().map(|(pin, path)| (pin, PinPlace::Simulated(path))).collect();
        let (board, news) = board(folder.path(), &Pins { places, ..Pins::default() });
        board.order(Order::Mode(4, PinMode::Watched(Pull::Up)));
        assert_eq!(next(&news), "Pin { pin: 4, level: Some(High) }", "pulled up until somebody says something else");
        write(&switch, "0").unwrap();
        assert_eq!(next(&news), "Pin { pin: 4, level: Some(Low) }");
        write(&switch, "quite wrong").unwrap();
        assert_eq!(next(&news), "Pin { pin: 4, level: None }");
        assert!(next(&news).contains("Trouble(\"pin 4: "));
        write(&switch, "1\n").unwrap();
        assert_eq!(next(&news), "Pin { pin: 4, level: Some(High) }");
        board.order(Order::Write(5, Level::High));
        until(&lamp, "1");
        board.order(Order::Pulse(5, 250));
        until(&lamp, "250/1000");
        board.order(Order::Write(6, Level::High));
        assert!(next(&news).contains("pin 6 is not in the configuration"));
    }

    #[test]
    fn pulses_and_analog_inputs_go_by_sysfs() {
        let folder = tempfile::tempdir().unwrap();
        let pwm = folder.path().join("sys/class/pwm/pwmchip0");
        let adc = folder.path().join("sys/bus/iio/devices/iio:device0");
        create_dir_all(pwm.join("pwm1")).unwrap();
        create_dir_all(&adc).unwrap();
        write(adc.join("in_voltage3_raw"), "2048\n").unwrap();
        let pins = Pins {
            places: [(12, PinPlace::Pwm { chip: "pwmchip0".into(), channel: 1 })].into(),
            adc: Some(AnalogPlace { device: "iio:device0".into(), channel: 3, full: 4095 }),
            ..Pins::default()
        };
        let (board, news) = board(folder.path(), &pins);
        assert_eq!(next(&news), "Adc(Some(511))");
        board.order(Order::Pulse(12, 250));
        until(&pwm.join("pwm1/enable"), "1");
        until(&pwm.join("pwm1/period"), "1000000");
        until(&pwm.join("pwm1/duty_cycle"), "250000");
        std::fs::remove_file(adc.join("in_voltage3_raw")).unwrap();
        assert!(next(&news).contains("Trouble(\"analog input: "), "an unplugged sensor is named");
        assert_eq!(next(&news), "Adc(None)");
        board.order(Order::Mode(12, PinMode::Output));
        assert!(next(&news).contains("only pulses"));
    }

    /// Lines that can be driven and read are those of `tests/real/scripts.py`, where the kernel has `gpio-sim`.
    #[test]
    fn a_line_that_is_not_there_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let places = [(4, PinPlace::Gpio { chip: "gpiochip9".into(), line: 17 })].into();
        let (board, news) = board(folder.path(), &Pins { places, ..Pins::default() });
        board.order(Order::Mode(4, PinMode::Input(Pull::Up)));
        let said = next(&news);
        assert!(said.contains("pin 4: ") && said.contains("gpiochip9"), "{said}");
    }
}
