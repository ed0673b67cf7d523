//! The site's name and services on the local network, by multicast DNS.
use crate::config::{Bind, Listener, Mdns, Protocol};
use mdns_sd::{ServiceDaemon, ServiceInfo};
use std::net::SocketAddr;

/// Answers until it is dropped.
pub(crate) struct Announcer {
    daemon: ServiceDaemon,
}

impl std::fmt::Debug for Announcer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Announcer")
    }
}

/// What MQTT is called there, without and with TLS.
const MQTT: &str = "_mqtt._tcp.local.";
const SECURE_MQTT: &str = "_secure-mqtt._tcp.local.";
/// What the console is: a telnet client may talk to it.
const TELNET: &str = "_telnet._tcp.local.";

impl Announcer {
    /// Announces every listener that others can reach, and the console. `site` tells services of several sites apart.
    ///
    /// # Errors
    /// Says why nothing is announced, for the operator.
    pub(crate) fn start(
        mdns: &Mdns,
        site: &str,
        listeners: &[Listener],
        console: Option<SocketAddr>,
    ) -> Result<Self, String> {
        let console = console.filter(|address| !address.ip().is_loopback()).map(|address| (TELNET, address));
        let reachable: Vec<_> = listeners.iter().filter_map(announced).chain(console).collect();
        if reachable.is_empty() {
            return Err("no listener can be reached from other machines, so nothing is announced".into());
        }
        let daemon = ServiceDaemon::new().map_err(|error| error.to_string())?;
        let announcer = Self { daemon };
        if !mdns.interfaces.is_empty() {
            let wrong = |error: mdns_sd::Error| error.to_string();
            announcer.daemon.disable_interface(mdns_sd::IfKind::All).map_err(wrong)?;
            for interface in &mdns.interfaces {
                announcer.daemon.enable_interface(interface.as_str()).map_err(wrong)?;
            }
        }
        for (nth, (kind, address)) in reachable.into_iter().enumerate() {
            // Two listeners are two services.
            let instance = if nth == 0 { site.to_owned() } else { format!("{site} {}", nth + 1) };
            let service = service(kind, &instance, &mdns.name, address).map_err(|error| error.to_string())?;
            announcer.daemon.register(service).map_err(|error| error.to_string())?;
        }
        Ok(announcer)
    }
}

impl Drop for Announcer {
    fn drop(&mut self) {
        // Says goodbye on its own thread; nobody waits for it.
        let _ = self.daemon.shutdown();
    }
}

/// What others may be told of a listener.
fn announced(listener: &Listener) -> Option<(&'static str, SocketAddr)> {
    match listener.bind {
        Bind::Tcp(address) if !address.ip().is_loopback() && listener.protocol == Protocol::Mqtt => {
            Some((if listener.tls.is_some() { SECURE_MQTT } else { MQTT }, address))
        }
        Bind::Tcp(_) | Bind::Unix { .. } => None,
    }
}

fn service(kind: &str, instance: &str, name: &str, address: SocketAddr) -> mdns_sd::Result<ServiceInfo> {
    let host = format!("{name}.local.");
    let port = address.port();
    if address.ip().is_unspecified() {
        return Ok(ServiceInfo::new(kind, instance, &host, "", port, None)?.enable_addr_auto());
    }
    ServiceInfo::new(kind, instance, &host, address.ip(), port, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_have_the_sites_name_and_port() {
        let service = service(MQTT, "cabin 2", "mqtt", "192.0.2.7:1884".parse().unwrap()).unwrap();
        assert_eq!(service.get_fullname(), "cabin 2._mqtt._tcp.local.");
        assert_eq!((service.get_hostname(), service.get_port()), ("mqtt.local.", 1884));
        assert_eq!(service.get_addresses_v4().len(), 1);
    }

    #[test]
    fn tls_has_a_name_of_its_own() {
        let mut listener = Listener::on_loopback(1883);
        listener.bind = Bind::Tcp("192.0.2.7:8883".parse().unwrap());
        assert_eq!(announced(&listener).map(|(kind, _)| kind), Some(MQTT));
        listener.tls = Some(crate::config::Tls::default());
        assert_eq!(announced(&listener).map(|(kind, _)| kind), Some(SECURE_MQTT));
        listener.protocol = Protocol::WebSockets;
        assert_eq!(announced(&listener), None);
    }

    #[test]
    fn loopback_is_nothing_to_announce() {
        let mdns = Mdns { name: "mqtt".into(), interfaces: Vec::new() };
        let error = Announcer::start(&mdns, "cabin", &[Listener::on_loopback(1883)], None).unwrap_err();
        assert!(error.contains("no listener"), "{error}");
    }
}
