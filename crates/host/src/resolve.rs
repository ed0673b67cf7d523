//! Names into addresses, on a thread of its own: the system's resolver blocks.
use crate::config::{Address, Mesh};
use crate::driver::{Bus, Command, Servers};
use link::TurnServer;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

/// While something has no address yet.
const RETRY: Duration = Duration::from_secs(15);
/// When everything has one: addresses change.
const REFRESH: Duration = Duration::from_secs(600);

/// Resolves what the configuration names, now and from time to time. The thread ends with the process.
///
/// # Errors
/// When the system has no thread to give.
pub(crate) fn start(mesh: &Mesh, bus: Bus) -> io::Result<()> {
    let mesh = mesh.clone();
    std::thread::Builder::new().name("midge-resolver".into()).spawn(move || {
        let mut last = None;
        loop {
            let (servers, complete) = resolve(&mesh);
            if last.as_ref() != Some(&servers) {
                bus.send(Command::Resolved(servers.clone()));
                last = Some(servers);
            }
            if bus.is_closed() {
                return;
            }
            std::thread::sleep(if complete { REFRESH } else { RETRY });
        }
    })?;
    Ok(())
}

fn resolve(mesh: &Mesh) -> (Servers, bool) {
    let mut complete = true;
    let mut all = |address: &Address| {
        let found: Vec<SocketAddr> = match (address.host.as_str(), address.port).to_socket_addrs() {
            Ok(found) => found.collect(),
            Err(_) => Vec::new(),
        };
        complete &= !found.is_empty();
        found
    };
    let stun = mesh.stun.iter().flat_map(&mut all).collect();
    let peers = mesh.peers.iter().flat_map(&mut all).collect();
    let turn = mesh.turn.iter().flat_map(|server| {
        // One address is enough for a relay: a second allocation would only cost.
        all(&server.address).into_iter().take(1).map(|address| TurnServer {
            address,
            username: server.user.clone(),
            password: server.password.reveal().to_owned(),
        })
    });
    let turn = turn.collect();
    (Servers { stun, turn, peers }, complete)
}

/// What the machine calls itself, for sites without a configured name.
pub(crate) fn machine_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => "midge".to_owned(),
        name => name.to_owned(),
    }
}
