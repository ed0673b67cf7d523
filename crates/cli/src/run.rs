//! `midge run`: start a site and serve until told to stop.
use crate::data_dir::DataDir;
use crate::failure::Failure;
use crate::signals::{self, Request};
use crate::systemd;
use host::config::{self, Config, Level, Listener};
use host::driver::Ending;
use host::restart::Plan;
use host::{Setup, Site, StartError};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

#[derive(clap::Args, Debug, Clone)]
pub(crate) struct Args {
    /// Configuration: TOML or mosquitto.conf.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Port of the listener on loopback, instead of the configured ones.
    #[arg(short, long)]
    pub(crate) port: Option<u16>,
    /// Log every connection and every step of the mesh.
    #[arg(short, long)]
    pub(crate) verbose: bool,
    /// The script of the site, instead of the configured one.
    #[arg(long, value_name = "FILE")]
    pub(crate) script: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) data: DataDir,
}

/// As mosquitto: a configuration that can't be honoured ends with 3.
const BAD_CONFIGURATION: u8 = 3;
/// As mosquitto: a file of passwords or access rules that can't be used ends with 13.
const BAD_ACCESS_FILE: u8 = 13;

pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let config = configuration(args)?;
    let data = match args.data.given().or_else(|| config.site.data.clone()) {
        Some(data) => data,
        None => args.data.path()?,
    };
    let stop =
        signals::catch_with_requests().map_err(|error| Failure::new(format!("can't watch for signals: {error}")))?;
    let words = args.clone();
    let again = Plan::new(move || {
        program().map_err(Failure::into_words)?;
        configuration(&words).map_err(Failure::into_words)
    });
    let setup = Setup { config, data, datagrams: None, again: Some(again) };
    let site = Site::start(setup).map_err(|error| {
        let code = if matches!(error, StartError::Access(_)) { BAD_ACCESS_FILE } else { 1 };
        Failure::with_code(code, error)
    })?;
    let stop_site = site.stopper();
    let (reload, tell) = (site.reloader(), site.teller());
    systemd::ready(site.pulse());
    std::thread::spawn(move || {
        stop.wait_and(|signal| match signal {
            Request::Reload => systemd::reloading(&reload),
            Request::Save => tell("Every change is stored already: SIGUSR1 has nothing to do."),
            Request::Tree => tell("Subscriptions are listed by midge sub ls, clients by midge client ls."),
        });
        systemd::stopping();
        stop_site();
    });
    match site.wait() {
        Ending::Stopped => Ok(ExitCode::SUCCESS),
        Ending::Restart => Err(begin_again()),
        Ending::Store(error) => {
            Err(Failure::new(format!("nothing can be stored any more, so nothing is acknowledged: {error}")))
        }
        Ending::Poll(error) => Err(Failure::new(format!("the system's event queue failed: {error}"))),
    }
}

/// What file and command line say together.
fn configuration(args: &Args) -> Result<Config, Failure> {
    let mut config = match &args.config {
        Some(path) => read(path)?,
        None => Config::default(),
    };
    if let Some(port) = args.port {
        let local = Listener::on_loopback(port);
        config.listener_is_implied = false;
        // By the rules of the file all the same.
        let first = config.listeners.into_iter().next();
        config.listeners = vec![match first {
            Some(Listener { allow_anonymous, access, .. }) => Listener { allow_anonymous, access, ..local },
            None => local,
        }];
    }
    if let Some(file) = &args.script {
        config.script.file = Some(file.clone());
    }
    if args.verbose {
        config.log.level = Level::Debug;
    }
    Ok(config)
}

/// The same program with the same words, as the same process: a supervisor sees no end. Returns why that failed.
fn begin_again() -> Failure {
    let program = match program() {
        Ok(program) => program,
        Err(failure) => return failure,
    };
    let error = Command::new(&program).args(std::env::args_os().skip(1)).exec();
    Failure::new(format!("can't start {} again: {error}", program.display()))
}

/// This program's file, also if it was replaced by another version meanwhile.
fn program() -> Result<PathBuf, Failure> {
    let gone = |path: &Path, error: &dyn std::fmt::Display| {
        Failure::new(format!("the program {} is not there any more ({error})", path.display()))
    };
    let path = std::env::current_exe().map_err(|error| gone(Path::new("midge"), &error))?;
    // How Linux names the file of a running program that was replaced.
    let path = match path.to_str().and_then(|path| path.strip_suffix(" (deleted)")) {
        Some(path) => PathBuf::from(path),
        None => path,
    };
    std::fs::metadata(&path).map_err(|error| gone(&path, &error)).map(|_| path)
}

pub(crate) fn read(path: &Path) -> Result<Config, Failure> {
    config::read(path).into_config().map_err(|report| Failure::with_code(BAD_CONFIGURATION, report))
}
