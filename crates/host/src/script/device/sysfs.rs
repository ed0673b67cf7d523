//! Devices that are files: pulses and analog inputs in sysfs, and simulated pins.
use super::{Device, cannot};
use crate::config::AnalogPlace;
use node::rules::{Level, PinMode, Pull};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

fn named(path: &Path) -> impl Fn(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    fs::write(path, text).map_err(named(path))
}

/// A channel of a PWM chip, `/sys/class/pwm`.
pub(super) struct Pulse {
    chip: PathBuf,
    channel: u32,
    period_nanos: u64,
    is_ready: bool,
}

/// After its export, a channel's files come when udev has seen to their rights.
const EXPORT_WAIT: Duration = Duration::from_millis(20);
const EXPORT_LOOKS: u32 = 10;

impl Pulse {
    pub(super) fn new(sys: &Path, chip: &str, channel: u32, period: Duration) -> Self {
        let period_nanos = u64::try_from(period.as_nanos()).unwrap_or(u64::MAX);
        Self { chip: sys.join("class/pwm").join(chip), channel, period_nanos, is_ready: false }
    }

    fn prepare(&mut self) -> io::Result<PathBuf> {
        let files = self.chip.join(format!("pwm{}", self.channel));
        if self.is_ready {
            return Ok(files);
        }
        if !files.exists() {
            write(&self.chip.join("export"), &self.channel.to_string())?;
            (0..EXPORT_LOOKS).any(|_| {
                std::thread::sleep(EXPORT_WAIT);
                files.exists()
            });
        }
        // A duty longer than the period is refused, whichever is written first.
        write(&files.join("duty_cycle"), "0")?;
        write(&files.join("period"), &self.period_nanos.to_string())?;
        write(&files.join("enable"), "1")?;
        self.is_ready = true;
        Ok(files)
    }
}

impl Device for Pulse {
    fn set_mode(&mut self, _: PinMode) -> io::Result<()> {
        Err(cannot("this pin has only pulses: use gpio_pwm"))
    }

    fn write(&mut self, level: Level) -> io::Result<()> {
        self.set_pulse(if level == Level::High { 1000 } else { 0 })
    }

    fn levels(&mut self) -> io::Result<Vec<Level>> {
        Err(cannot("this pin has only pulses: it can't be read"))
    }

    fn set_pulse(&mut self, per_mille: u16) -> io::Result<()> {
        let files = self.prepare()?;
        let duty = self.period_nanos.saturating_mul(u64::from(per_mille.min(1000))) / 1000;
        let written = write(&files.join("duty_cycle"), &duty.to_string());
        // Whoever unexported it meanwhile finds it prepared anew the next time.
        self.is_ready = written.is_ok();
        written
    }
}

/// A channel of an analog input, `/sys/bus/iio`.
pub(super) struct Analog {
    path: PathBuf,
    full: u32,
}

/// What scripts see at the highest reading.
const SCRIPT_FULL: u64 = 1023;

impl Analog {
    pub(super) fn new(sys: &Path, place: &AnalogPlace) -> Self {
        let file = format!("in_voltage{}_raw", place.channel);
        Self { path: sys.join("bus/iio/devices").join(&place.device).join(file), full: place.full.max(1) }
    }

    pub(super) fn read(&self) -> io::Result<u16> {
        let text = fs::read_to_string(&self.path).map_err(named(&self.path))?;
        let Ok(raw) = text.trim().parse::<i64>() else {
            return Err(io::Error::other(format!("{}: no number", self.path.display())));
        };
        let raw = raw.clamp(0, i64::from(self.full)) as u64;
        Ok((raw * SCRIPT_FULL / u64::from(self.full)) as u16)
    }
}

/// A pin that is a file: `0` or `1`, and `N/1000` for pulses.
pub(super) struct Simulated {
    path: PathBuf,
}

impl Simulated {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }
}

impl Device for Simulated {
    fn set_mode(&mut self, mode: PinMode) -> io::Result<()> {
        let rest = match mode {
            PinMode::Output => return Ok(()),
            PinMode::Input(Pull::Up) | PinMode::Watched(Pull::Up) => "1",
            PinMode::Input(Pull::None) | PinMode::Watched(Pull::None) => "0",
        };
        if self.path.exists() { Ok(()) } else { write(&self.path, rest) }
    }

    fn write(&mut self, level: Level) -> io::Result<()> {
        write(&self.path, if level == Level::High { "1" } else { "0" })
    }

    fn levels(&mut self) -> io::Result<Vec<Level>> {
        let text = fs::read_to_string(&self.path).map_err(named(&self.path))?;
        match text.trim() {
            "0" => Ok(vec![Level::Low]),
            "1" => Ok(vec![Level::High]),
            // Whoever writes the file has emptied it first.
            "" => Ok(Vec::new()),
            _ => Err(io::Error::other(format!("{}: write 0 or 1 into it", self.path.display()))),
        }
    }

    fn set_pulse(&mut self, per_mille: u16) -> io::Result<()> {
        write(&self.path, &format!("{per_mille}/1000"))
    }
}
