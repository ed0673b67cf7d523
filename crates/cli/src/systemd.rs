//! What a site tells the service manager that started it (`sd_notify`): that it serves, reads its files again, stops,
//! and, if asked, again and again that it still answers. Without a service manager nothing is sent.
use sd_notify::NotifyState;
use std::time::Duration;

/// Begins: the site serves, since it answers. It is asked again at half the interval of the watchdog, if there is one.
pub(crate) fn ready(answers: impl Fn() -> bool + Send + 'static) {
    if std::env::var_os("NOTIFY_SOCKET").is_none() || !answers() {
        return;
    }
    tell(&[NotifyState::Ready]);
    if let Some(interval) = sd_notify::watchdog_enabled() {
        std::thread::spawn(move || {
            loop {
                if answers() {
                    tell(&[NotifyState::Watchdog]);
                }
                std::thread::sleep((interval / 2).max(Duration::from_millis(10)));
            }
        });
    }
}

/// The files are read again by `reload`.
pub(crate) fn reloading(reload: impl FnOnce()) {
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        tell(&[NotifyState::Reloading, now]);
    }
    reload();
    tell(&[NotifyState::Ready]);
}

/// The site has been told to stop.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        warn!("the service manager can't be told: {error}");
    }
}
