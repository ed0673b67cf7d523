//! The screen of `midge top`. Only draws: what is shown is decided by its caller.
use super::history::{History, Rates, bytes, count};
use super::{Choice, Order};
use host::listing::ClientLine;
use host::status::{MeshStatus, PeerLine, Status};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Cell, Paragraph, Row, Sparkline, Table};

/// Height of a curve with its title.
const CURVE: u16 = 4;

pub(super) fn draw(frame: &mut Frame<'_>, history: &History, clients: &[ClientLine], choice: &Choice) {
    let status = history.last();
    let peers = status.mesh.as_ref().map_or(0, |mesh| mesh.peers.len().max(1) as u16 + 2);
    let [head, curves, figures, mesh, rest, foot] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Length(CURVE),
        Constraint::Length(4),
        Constraint::Max(peers),
        Constraint::Min(3),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(Paragraph::new(head_lines(status)), head);
    let [left, right] = Layout::horizontal([Constraint::Percentage(50); 2]).spacing(1).areas(curves);
    curve(frame, left, history, "messages in", Color::Green, |rates| rates.messages_in, |rates| rates.bytes_in);
    curve(frame, right, history, "messages out", Color::Cyan, |rates| rates.messages_out, |rates| rates.bytes_out);
    frame.render_widget(Paragraph::new(figure_lines(status, history.rates())), figures);
    if let Some(found) = &status.mesh {
        draw_peers(frame, mesh, found, history.rates());
    }
    draw_clients(frame, rest, status, clients, choice.order);
    let paused = if choice.paused { "PAUSED  " } else { "" };
    let keys = Line::from(vec![paused.bold(), "q".bold(), " quit  ".into(), "s".bold(), " sort  ".into(), "p".bold()]);
    frame.render_widget(keys + Span::raw(" pause"), foot);
}

fn head_lines(status: &Status) -> Vec<Line<'static>> {
    let (days, rest) = (status.uptime_secs / 86_400, status.uptime_secs % 86_400);
    let days = if days > 0 { format!("{days} d ") } else { String::new() };
    let up = format!("{days}{:02}:{:02}:{:02}", rest / 3600, rest / 60 % 60, rest % 60);
    let first = Line::from(vec![
        format!("midge {}", status.version).bold(),
        format!("  site {}  up {up}  sync = {}", status.name, status.sync).into(),
    ]);
    let listening = format!("listening on {}", status.listeners.join(", "));
    let second = match status.damaged.len() {
        0 => listening.dark_gray().into(),
        damaged => Line::from(format!("{damaged} times the store was damaged: see midge status").red()),
    };
    vec![first, second]
}

fn curve(
    frame: &mut Frame<'_>,
    area: Rect,
    history: &History,
    title: &str,
    color: Color,
    messages: fn(&Rates) -> f64,
    volume: fn(&Rates) -> f64,
) {
    let rates = history.rates();
    let title = format!("{title} {}/s, {}/s", count(messages(&rates)), bytes(volume(&rates)));
    let mut row = history.row(usize::from(area.width), messages);
    // The newest stands at the right edge.
    let missing = usize::from(area.width).saturating_sub(row.len());
    row.splice(0..0, std::iter::repeat_n(0, missing));
    let block = Block::new().borders(Borders::TOP).title(title.fg(color).bold()).border_style(Style::new().dark_gray());
    frame.render_widget(Sparkline::default().block(block).data(row).style(color), area);
}

fn figure_lines(status: &Status, rates: Rates) -> Vec<Line<'static>> {
    let broker = &status.broker;
    let mut lines = vec![
        Line::from(format!(
            "clients {}  sessions {}  subscriptions {}  connects {}/s  retained {} ({})",
            broker.clients,
            broker.sessions,
            broker.subscriptions,
            count(rates.opened),
            broker.retained,
            bytes(broker.retained_bytes as f64)
        )),
        Line::from(format!("queued {} ({})", broker.queued, bytes(broker.queued_bytes as f64))),
    ];
    let drops = broker.dropped_by.iter().filter(|(_, count)| **count > 0);
    let troubles = [
        ("refused", broker.refused),
        ("denied", broker.denied),
        ("not let in", broker.not_admitted),
        ("turned away", broker.turned_away),
    ];
    let mut words: Vec<String> = drops.map(|(reason, count)| format!("dropped ({reason}) {count}")).collect();
    words.extend(troubles.iter().filter(|(_, count)| *count > 0).map(|(word, count)| format!("{word} {count}")));
    let color = if rates.dropped > 0.0 { Color::Red } else { Color::Yellow };
    lines.push(if words.is_empty() {
        Line::from("nothing dropped").dark_gray()
    } else {
        words.join("  ").fg(color).into()
    });
    if let Some(script) = &status.script {
        let running = if script.running { "script" } else { "script (not running)" };
        let faults: u64 = script.faults.values().sum();
        lines.push(format!("{running}: {} events, {} clauses, {faults} faults", script.events, script.clauses).into());
    }
    lines
}

fn draw_peers(frame: &mut Frame<'_>, area: Rect, mesh: &MeshStatus, rates: Rates) {
    let reachable = mesh.mailboxes.iter().filter(|mailbox| mailbox.reachable).count();
    let title = format!(
        "mesh {}  {}/s in, {}/s out  mailboxes {reachable} of {}",
        mesh.fingerprint,
        count(rates.mesh_in),
        count(rates.mesh_out),
        mesh.mailboxes.len()
    );
    let block = Block::new().borders(Borders::TOP).title(title.bold()).border_style(Style::new().dark_gray());
    if mesh.peers.is_empty() {
        return frame.render_widget(Paragraph::new("no other site has been met yet").dark_gray().block(block), area);
    }
    let widths = [Constraint::Max(20), Constraint::Fill(3), Constraint::Length(22), Constraint::Length(22)];
    let head = Row::new(["site", "path", "owed to it", "from it / to it"]).style(Modifier::BOLD);
    frame.render_widget(Table::new(mesh.peers.iter().map(peer_row), widths).header(head).block(block), area);
}

fn peer_row(peer: &PeerLine) -> Row<'static> {
    let (way, color) = match peer.way() {
        Some(way) => (way, Color::Green),
        None if peer.paused => ("paused".to_owned(), Color::DarkGray),
        None => ("no link".to_owned(), Color::Red),
    };
    let owed = if peer.outbox_messages == 0 {
        Cell::from("-")
    } else {
        let words = format!("{} ({})", peer.outbox_messages, bytes(peer.outbox_bytes as f64));
        Cell::from(words).style(if peer.obstructed { Color::Red } else { Color::Yellow })
    };
    let moved = format!("{} / {}", bytes(peer.link_bytes.1 as f64), bytes(peer.link_bytes.0 as f64));
    Row::new([Cell::from(peer.name.clone()), Cell::from(way).style(color), owed, Cell::from(moved)])
}

fn draw_clients(frame: &mut Frame<'_>, area: Rect, status: &Status, clients: &[ClientLine], order: Order) {
    let by = match order {
        Order::Queue => "queue",
        Order::Name => "name",
        Order::Subscriptions => "subscriptions",
    };
    let all = status.broker.sessions;
    let listed = clients.len() as u64;
    let first = if listed < all { format!(", the first {listed} of {all}") } else { String::new() };
    let block = Block::new()
        .borders(Borders::TOP)
        .title(format!("clients by {by}{first}").bold())
        .border_style(Style::new().dark_gray());
    let widths = [
        Constraint::Fill(2),
        Constraint::Fill(1),
        Constraint::Length(24),
        Constraint::Length(13),
        Constraint::Length(8),
    ];
    let head = Row::new(["client", "user", "address", "subscriptions", "queued"]).style(Modifier::BOLD);
    let shown = usize::from(area.height);
    let rows = clients.iter().take(shown).map(|client| {
        let address = client.address.clone().unwrap_or_else(|| "away".into());
        let style = if client.address.is_some() { Style::new() } else { Style::new().dark_gray() };
        let cells = [
            tame(&client.client_id),
            tame(client.user.as_deref().unwrap_or("-")),
            address,
            client.subscriptions.to_string(),
            client.queued.to_string(),
        ];
        Row::new(cells).style(style)
    });
    frame.render_widget(Table::new(rows, widths).header(head).block(block), area);
}

/// Names are other people's words: what would move the cursor is shown, not done.
fn tame(words: &str) -> String {
    words.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use std::time::Duration;

    fn screen(status: Status, clients: &[ClientLine], size: (u16, u16)) -> String {
        let mut history = History::new(Status::default());
        history.add(status, Duration::from_secs(1));
        let mut terminal = Terminal::new(TestBackend::new(size.0, size.1)).unwrap();
        terminal.draw(|frame| draw(frame, &history, clients, &Choice::default())).unwrap();
        terminal.backend().to_string()
    }

    fn client(name: &str, queued: usize) -> ClientLine {
        ClientLine {
            client_id: name.into(),
            user: None,
            address: (queued == 0).then(|| "127.0.0.1:1".into()),
            durable: true,
            subscriptions: 2,
            queued,
        }
    }

    #[test]
    fn everything_has_its_place() {
        let mut status = Status { name: "cabin".into(), uptime_secs: 90_061, ..Status::default() };
        status.broker.publishes_received = 12_345;
        status.broker.dropped_by.insert("queue full".into(), 3);
        let peer = PeerLine { name: "boat".into(), outbox_messages: 7, outbox_bytes: 7_000, ..peer() };
        status.mesh = Some(MeshStatus { fingerprint: "abcd".into(), peers: vec![peer], ..MeshStatus::default() });
        let shown = screen(status, &[client("pump\u{1b}[2J", 9), client("lamp", 0)], (100, 24));
        for words in [
            "cabin",
            "up 1 d 01:01:01",
            "12.3k/s",
            "dropped (queue full) 3",
            "boat",
            "no link",
            "7 (7.00 kB)",
            "pump",
            "away",
            "lamp",
        ] {
            assert!(shown.contains(words), "{words} in\n{shown}");
        }
        assert!(!shown.contains('\u{1b}'), "{shown}");
    }

    #[test]
    fn a_small_terminal_is_no_trouble() {
        for size in [(1, 1), (10, 3), (40, 8), (300, 2)] {
            screen(Status::default(), &[client("lamp", 0)], size);
        }
    }

    fn peer() -> PeerLine {
        serde_json::from_value(serde_json::json!({
            "name": "", "site": "", "up": false, "paused": false, "path": null, "local_candidate": null,
            "remote_candidate": null, "remote": null, "rtt_micros": null, "interest_confirmed": false,
            "outbox_messages": 0, "outbox_bytes": 0, "obstructed": false, "acknowledged": 0, "accepted": 0,
            "retained_equal": false, "link_bytes": [0, 0]
        }))
        .unwrap()
    }
}
