//! `show`: what there is to see.
use super::Console;
use super::command::{Ask, Clock, local_time};
use super::door::Remote;
use super::words::shown;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::Ipv4Addr;

/// Lines of each list; what is beyond is counted.
const LIST_MAX: u64 = 500;

impl Console {
    pub(super) fn show(&mut self, ask: &mut Ask<'_>) {
        match ask.word(1) {
            b"" | b"config" => self.show_config(ask),
            b"stats" => self.show_stats(ask),
            b"mqtt" => show_mqtt(ask),
            b"script" => show_script(ask),
            b"vars" => show_vars(ask),
            b"backlog" => {
                if let Some((backlog, _)) = &self.backlog {
                    ask.reply.extend(backlog);
                }
            }
            _ => ask.unknown(),
        }
    }

    fn show_config(&self, ask: &mut Ask<'_>) {
        let facts = &self.facts;
        ask.say(format_args!("Version {} (build: {})", facts.version, facts.build));
        self.show_network(ask);
        self.show_broker(ask);
        self.show_remote(ask);
        let set = |name| self.settings.text(name);
        if set("ntp_server") != "none" {
            let (server, interval, zone) = (set("ntp_server"), set("ntp_interval"), set("ntp_timezone"));
            ask.say(format_args!("NTP server: {server} (interval: {interval} s, tz: {zone})"));
        }
        ask.say(format_args!("Clock speed: {}", set("speed")));
        ask.say(format_args!("Serial bitrate: {}", set("bitrate")));
        match set("system_output") {
            "0" => ask.say("System output: none"),
            "1" => ask.say("System output: command reply"),
            _ => {}
        }
    }

    fn show_network(&self, ask: &mut Ask<'_>) {
        let set = |name| self.settings.text(name);
        let auto_connect = if set("auto_connect") == "0" { " [AutoConnect:0]" } else { "" };
        ask.say(format_args!("STA: SSID:{} PW:{}{auto_connect}", set("ssid"), self.secret("password")));
        let open = if set("ap_open") == "0" { "" } else { " [open]" };
        let disabled = if set("ap_on") == "0" { " [disabled]" } else { "" };
        let [a, b, c, _] = self.settings.address("network").octets();
        let own = Ipv4Addr::new(a, b, c, 1);
        let (ssid, password) = (set("ap_ssid"), self.secret("ap_password"));
        ask.say(format_args!("AP:  SSID:{ssid} PW:{password}{open}{disabled} IP:{own}/24"));
        if set("ip") != "dhcp" {
            let (ip, netmask, gateway) = (set("ip"), set("netmask"), set("gw"));
            ask.say(format_args!("Static IP: {ip} Netmask: {netmask} Gateway: {gateway}"));
        }
        if set("dns") != "dhcp" {
            ask.say(format_args!("DNS: {}", set("dns")));
        }
        if set("dns_name") != "none" && set("ap_on") != "0" {
            ask.say(format_args!("DNS name: {}", set("dns_name")));
        }
        match set("mdns_mode") {
            "0" => {}
            "1" => ask.say("mDNS: STA interface"),
            _ => ask.say("mDNS: SoftAP interface"),
        }
        match (set("config_port"), set("config_access")) {
            ("0", _) | (_, "0") => ask.say("No network console access"),
            (port, access) => ask.say(format_args!("Network console access on port {port} (mode {access})")),
        }
    }

    fn show_broker(&self, ask: &mut Ask<'_>) {
        let set = |name| self.settings.text(name);
        ask.say(format_args!("MQTT broker max. subscription: {}", set("broker_subscriptions")));
        let saved = if set("broker_autoretain") == "0" { "" } else { " (auto saved)" };
        ask.say(format_args!("MQTT broker max. retained messages: {}{saved}", set("broker_retained_messages")));
        if set("broker_port") != "1883" {
            ask.say(format_args!("MQTT broker port: {}", set("broker_port")));
        }
        if set("broker_clients") != "0" {
            ask.say(format_args!("MQTT broker max. clients: {}", set("broker_clients")));
        }
        if set("broker_user") != "none" {
            ask.say(format_args!("MQTT broker username: {}", set("broker_user")));
            ask.say(format_args!("MQTT broker password: {}", self.secret("broker_password")));
        }
        match set("broker_access") {
            "0" => ask.say("MQTT broker: disabled"),
            "1" => ask.say("MQTT broker: local access only"),
            "2" => ask.say("MQTT broker: remote access only"),
            _ => {}
        }
    }

    fn show_remote(&self, ask: &mut Ask<'_>) {
        let set = |name| self.settings.text(name);
        let enabled = ask.view.remote() != Remote::Disabled;
        ask.say(if enabled { "MQTT client enabled" } else { "MQTT client disabled" });
        if set("mqtt_host") == "none" {
            return;
        }
        ask.say(format_args!("MQTT client host: {}", set("mqtt_host")));
        ask.say(format_args!("MQTT client port: {}", set("mqtt_port")));
        ask.say(format_args!("MQTT client user: {}", set("mqtt_user")));
        ask.say(format_args!("MQTT client password: {}", self.secret("mqtt_password")));
        ask.say(format_args!("MQTT client id: {}", set("mqtt_id")));
        ask.say(format_args!("MQTT SSL: {}", if set("mqtt_ssl") == "0" { "off" } else { "on" }));
    }

    fn secret(&self, name: &str) -> &str {
        if self.settings.is_locked() { "***" } else { self.settings.text(name) }
    }

    fn show_stats(&self, ask: &mut Ask<'_>) {
        let uptime = self.started.map_or(0, |started| ask.now.instant.since(started).as_secs());
        ask.say(format_args!("System uptime: {}:{:02}:{:02}", uptime / 3600, uptime / 60 % 60, uptime % 60));
        ask.say(format_args!("Free mem: {}", self.facts.memory_free_bytes));
        ask.say(format_args!("Interpreter loop: {}", ask.view.script().events));
        match self.facts.address {
            Some(address) => ask.say(format_args!("External IP-address: {address}")),
            None => ask.say("Not connected to AP"),
        }
        match self.settings.text("ap_on") {
            "0" => ask.say("AP disabled"),
            _ => ask.say("0 Stations connected to AP"),
        }
        match ask.view.clock_offset() {
            Some(_) => {
                let (_, seconds) = local_time(ask);
                ask.say(format_args!("NTP synced: {} ", Clock(seconds)));
            }
            None => ask.say("NTP no sync"),
        }
    }
}

/// Lines of a list, as many as are shown.
struct List {
    lines: Vec<String>,
    count: u64,
}

impl List {
    fn new() -> Self {
        Self { lines: Vec::new(), count: 0 }
    }

    fn add(&mut self, line: impl FnOnce() -> String) {
        self.count += 1;
        if self.count <= LIST_MAX {
            self.lines.push(line());
        }
    }

    fn tell(self, ask: &mut Ask<'_>) {
        self.lines.iter().for_each(|line| ask.say(line));
        if self.count > LIST_MAX {
            ask.say(format_args!("... and {} more", self.count - LIST_MAX));
        }
    }
}

fn show_mqtt(ask: &mut Ask<'_>) {
    let mut clients = List::new();
    ask.view.clients(&mut |id| clients.add(|| shown(id.as_bytes())));
    ask.say(format_args!("Current clients: {}", clients.count));
    if clients.count > 0 {
        let more = if clients.count > LIST_MAX { ", ..." } else { "" };
        ask.say(format_args!("{}{more}", clients.lines.join(", ")));
    }
    // Spelled as the firmware spells it: programs look for it.
    ask.say("Current subsriptions:");
    let mut subscriptions = List::new();
    ask.view.subscriptions(&mut |id, filter, qos| {
        subscriptions.add(|| {
            let id = id.map_or_else(|| "local".into(), |id| shown(id.as_bytes()));
            format!("{id}: \"{}\" (QoS {})", shown(filter.as_bytes()), qos as u8)
        });
    });
    subscriptions.tell(ask);
    ask.say("Retained topics:");
    let mut retained = List::new();
    ask.view.retained(&mut |message| {
        let topic = message.topic();
        let (length, qos) = (message.payload().len(), message.qos() as u8);
        retained.add(|| format!("\"{}\" len: {length} (QoS {qos})", shown(topic.as_str().as_bytes())));
    });
    retained.tell(ask);
    let connected = ask.view.remote() == Remote::Connected;
    ask.say(if connected { "MQTT client connected" } else { "MQTT client disconnected" });
    let enabled = ask.view.script().is_running;
    ask.say(if enabled { "Script enabled" } else { "Script disabled" });
}

fn show_script(ask: &mut Ask<'_>) {
    let first = match ask.word(2) {
        b"" => 1,
        number => match core::str::from_utf8(number).ok().and_then(|number| number.parse::<usize>().ok()) {
            Some(first) => first.max(1),
            None => return ask.bad_word(2),
        },
    };
    let view = ask.view;
    let Some(text) = view.script().text else { return };
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    for (number, line) in (1..).zip(text.split(|byte| *byte == b'\n')).skip(first - 1) {
        if number > first {
            ask.reply.push(b'\n');
        }
        ask.reply.extend_from_slice(format!("\r{number:4}: ").as_bytes());
        // A script is text of somebody else: a terminal must not obey it.
        ask.reply.extend(line.iter().filter(|byte| **byte >= b' ' || **byte == b'\t'));
    }
    ask.reply.extend(b"\r\n--end--\r\n");
}

fn show_vars(ask: &mut Ask<'_>) {
    /// How many the firmware had.
    const SLOTS: u8 = 8;
    let mut lines = Vec::new();
    let view = ask.view;
    if view.script().is_running {
        view.variables(&mut |name, value| lines.push(format!("{}: {}", shown(name), shown(value))));
    }
    let mut flash: Vec<(u8, String)> = (1..=SLOTS).map(|slot| (slot, String::new())).collect();
    view.flash(&mut |slot, value| match flash.iter_mut().find(|(other, _)| *other == slot) {
        Some((_, text)) => *text = shown(value),
        None => flash.push((slot, shown(value))),
    });
    flash.sort_by_key(|(slot, _)| *slot);
    lines.extend(flash.into_iter().map(|(slot, value)| format!("@{slot}: {value}")));
    lines.iter().for_each(|line| ask.say(line));
}
