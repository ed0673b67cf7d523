//! `midge script run`: a site for one script, in real time, that leaves nothing behind.
use crate::failure::Failure;
use crate::signals::{self, Request};
use host::config::{Config, ConsoleBind, Level, Listener, LogTarget};
use host::driver::Ending;
use host::rules::{Limits, Oddities, check};
use host::{Setup, Site};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The script; `-`: standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Configuration, for pins, the remote broker and the like; its listeners and its script are left out.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Port of its broker on loopback; 0: any free one.
    #[arg(short, long, default_value_t = 0)]
    port: u16,
    /// Tell every step of the script.
    #[arg(short, long)]
    verbose: bool,
}

/// A directory that goes away with its owner.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // What can't be removed is in the system's directory for such things.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let text = super::read(&args.file)?;
    let report = check(&text, Oddities::default(), &Limits::default());
    if !report.diagnostics.is_empty() {
        let code = super::refuse(false, &report.diagnostics, &text, &super::name(&args.file));
        if !report.is_ok() {
            return Ok(code);
        }
    }
    let mut config = match &args.config {
        Some(path) => crate::run::read(path)?,
        None => Config::default(),
    };
    config.listeners = vec![Listener::on_loopback(args.port)];
    config.log.to = vec![LogTarget::Stdout];
    config.log.level = Level::Info;
    config.script.logging = args.verbose;
    if config.console.bind == ConsoleBind::Loopback {
        // A trial beside a site leaves that one its port.
        config.console.bind = ConsoleBind::Off;
    }
    let data = scratch(&std::env::temp_dir())?;
    config.script.file = Some(if super::is_standard_input(&args.file) {
        let file = data.0.join("script");
        std::fs::write(&file, &text).map_err(|error| Failure::new(format!("{}: {error}", file.display())))?;
        file
    } else {
        args.file.clone()
    });
    let stop =
        signals::catch_with_requests().map_err(|error| Failure::new(format!("can't watch for signals: {error}")))?;
    let site =
        Site::start(Setup { config, data: data.0.clone(), datagrams: None, again: None }).map_err(Failure::new)?;
    let (stop_site, reload) = (site.stopper(), site.reloader());
    std::thread::spawn(move || {
        stop.wait_and(|request| match request {
            Request::Reload => reload(),
            Request::Save | Request::Tree => {}
        });
        stop_site();
    });
    match site.wait() {
        // What a trial has stored is gone with it: there is nothing to start again from.
        Ending::Stopped | Ending::Restart => Ok(ExitCode::SUCCESS),
        Ending::Store(error) => Err(Failure::new(error)),
        Ending::Poll(error) => Err(Failure::new(error)),
    }
}

fn scratch(place: &Path) -> Result<Scratch, Failure> {
    let seed = host::identity::random_seed().map_err(|error| Failure::new(format!("no random bytes: {error}")))?;
    let dir = place.join(format!("midge-script-{}", host::identity::to_hex(seed.get(..8).unwrap_or_default())));
    std::fs::create_dir(&dir).map_err(|error| Failure::new(format!("{}: {error}", dir.display())))?;
    Ok(Scratch(dir))
}
