//! A line of a GPIO chip, by the kernel's character device.
use super::{Device, cannot};
use gpiocdev::Request;
use gpiocdev::line::{Bias, EdgeDetection, EdgeKind, Offset, Value};
use node::rules::{Level, PinMode, Pull};
use std::io;
use std::path::PathBuf;

/// One line; asked for when it is first used, and again with each other mode.
pub(super) struct Line {
    chip: PathBuf,
    line: Offset,
    request: Option<Request>,
    mode: Option<PinMode>,
    is_fresh: bool,
}

/// Edges taken at one look: a line that trembles must not keep the others from their turn.
const EDGES_MAX: usize = 64;

impl Line {
    pub(super) fn new(chip: PathBuf, line: Offset) -> Self {
        Self { chip, line, request: None, mode: None, is_fresh: false }
    }

    fn explain(&self, error: &gpiocdev::Error) -> io::Error {
        io::Error::other(format!("{} line {}: {error}", self.chip.display(), self.line))
    }

    fn ask(&mut self, mode: PinMode, level: Level) -> io::Result<()> {
        // The kernel gives a line to one request at a time.
        self.request = None;
        let bias = |pull: Pull| if pull == Pull::Up { Bias::PullUp } else { Bias::Disabled };
        let mut builder = Request::builder();
        builder.on_chip(&self.chip).with_consumer("midge").with_line(self.line);
        match mode {
            PinMode::Output => builder.as_output(value(level)),
            PinMode::Input(pull) => builder.as_input().with_bias(bias(pull)),
            PinMode::Watched(pull) => {
                builder.as_input().with_bias(bias(pull)).with_edge_detection(EdgeDetection::BothEdges)
            }
        };
        let request = builder.request();
        self.request = Some(request.map_err(|error| self.explain(&error))?);
        self.mode = Some(mode);
        self.is_fresh = true;
        Ok(())
    }
}

impl Device for Line {
    fn set_mode(&mut self, mode: PinMode) -> io::Result<()> {
        self.ask(mode, Level::Low)
    }

    fn write(&mut self, level: Level) -> io::Result<()> {
        match &self.request {
            Some(request) if self.mode == Some(PinMode::Output) => {
                request.set_value(self.line, value(level)).map_err(|error| self.explain(&error)).map(|_| ())
            }
            _ => self.ask(PinMode::Output, level),
        }
    }

    fn levels(&mut self) -> io::Result<Vec<Level>> {
        let Some(request) = &self.request else { return Err(cannot(&format!("{}", self.chip.display()))) };
        let mut levels = Vec::new();
        let wrong = |error| self.explain(&error);
        if matches!(self.mode, Some(PinMode::Watched(_))) && !self.is_fresh {
            while levels.len() < EDGES_MAX && request.has_edge_event().map_err(wrong)? {
                levels.push(match request.read_edge_event().map_err(wrong)?.kind {
                    EdgeKind::Rising => Level::High,
                    EdgeKind::Falling => Level::Low,
                });
            }
            return Ok(levels);
        }
        let now = request.value(self.line).map_err(wrong)?;
        self.is_fresh = false;
        Ok(vec![if now == Value::Active { Level::High } else { Level::Low }])
    }

    fn set_pulse(&mut self, per_mille: u16) -> io::Result<()> {
        match per_mille {
            0 => self.write(Level::Low),
            1000.. => self.write(Level::High),
            _ => Err(cannot("this line has no pulses: give the pin a place such as \"pwmchip0:1\"")),
        }
    }
}

fn value(level: Level) -> Value {
    if level == Level::High { Value::Active } else { Value::Inactive }
}
