//! Whether a site that stops could start again. It is asked before a restart, while everything still serves: a process
//! without root's rights can't open everything that it has open, and a file may have changed for the worse.
use crate::access::Realms;
use crate::config::{Bind, Config, ConsoleBind, LogTarget};
use crate::gateway::Manner;
use socket2::{Domain, Protocol, Socket, Type};
use std::fmt;
use std::fs::{self, OpenOptions};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

/// What a restart would begin with: the configuration, or why there is none.
type Again = dyn Fn() -> Result<Config, String> + Send + Sync;

/// How the program that holds a site starts it again.
#[derive(Clone)]
pub struct Plan(Arc<Again>);

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Plan")
    }
}

impl Plan {
    /// `again` reads the configuration anew and looks at whatever else the program needs; its error is for people.
    pub fn new(again: impl Fn() -> Result<Config, String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(again))
    }

    /// What is in the way, in words. `own_ports` are those that the site has open itself.
    pub(crate) fn check(&self, own_ports: &[u16]) -> Result<(), String> {
        let config = (self.0)()?;
        Realms::load(&config.listeners).map_err(|error| error.to_string())?;
        for listener in &config.listeners {
            Manner::of(listener).map_err(|error| error.to_string())?;
            match &listener.bind {
                Bind::Tcp(address) => port(*address, own_ports)?,
                Bind::Unix { path, .. } => folder(path)?,
            }
        }
        config.http.map_or(Ok(()), |address| port(address, own_ports))?;
        if let ConsoleBind::At(address) = config.console.bind {
            port(address, own_ports)?;
        }
        for target in &config.log.to {
            match target {
                LogTarget::File(path) => writable(path)?,
                LogTarget::Stderr | LogTarget::Stdout | LogTarget::Syslog | LogTarget::Topic => {}
            }
        }
        config.site.pid_file.as_deref().map_or(Ok(()), writable)
    }
}

fn port(address: SocketAddr, own_ports: &[u16]) -> Result<(), String> {
    let tried = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP)).and_then(|socket| {
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())
    });
    match tried {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && own_ports.contains(&address.port()) => Ok(()),
        Err(error) => Err(format!("{address} can't be opened again ({error})")),
        Ok(()) => Ok(()),
    }
}

/// A socket's file goes with the site, and is made anew in its folder.
fn folder(path: &Path) -> Result<(), String> {
    let beside = path.with_extension(format!("midge-{}", std::process::id()));
    let tried = fs::File::create_new(&beside).and_then(|_| fs::remove_file(&beside));
    tried.map_err(|error| format!("{} can't be made again ({error})", path.display()))
}

fn writable(path: &Path) -> Result<(), String> {
    let tried = OpenOptions::new().append(true).create(true).open(path);
    tried.map(drop).map_err(|error| format!("{} can't be written again ({error})", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Listener;
    use std::net::TcpListener;

    fn check(config: Config, own_ports: &[u16]) -> Result<(), String> {
        Plan::new(move || Ok(config.clone())).check(own_ports)
    }

    #[test]
    fn what_is_in_the_way_is_named() {
        assert_eq!(Plan::new(|| Err("midge.toml:1: no".to_owned())).check(&[]).unwrap_err(), "midge.toml:1: no");
        let open = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = open.local_addr().unwrap();
        let on = |address| Config { listeners: vec![Listener::plain(Bind::Tcp(address))], ..Config::default() };
        assert_eq!(check(on(address), &[address.port()]), Ok(()), "its own");
        let taken = check(on(address), &[]).unwrap_err();
        assert!(taken.starts_with(&format!("{address} can't be opened again (")), "{taken}");

        let dir = tempfile::tempdir().unwrap();
        let free = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut config = on(free);
        config.listeners[0].access.password_file = Some(dir.path().join("nowhere"));
        assert!(check(config, &[]).unwrap_err().contains("nowhere"));
        let mut config = on(free);
        config.site.pid_file = Some(dir.path().join("no/pid"));
        assert!(check(config, &[]).unwrap_err().contains("no/pid can't be written again"));
        let mut config = on(free);
        config.log.to = vec![LogTarget::File(dir.path().join("no/log"))];
        assert!(check(config, &[]).unwrap_err().contains("no/log can't be written again"));
        let unix = |path: &str| {
            let bind = Bind::Unix { path: dir.path().join(path), mode: None };
            Config { listeners: vec![Listener::plain(bind)], ..Config::default() }
        };
        assert_eq!(check(unix("socket"), &[]), Ok(()));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left behind");
        assert!(check(unix("no/socket"), &[]).unwrap_err().contains("no/socket can't be made again"));
    }
}
