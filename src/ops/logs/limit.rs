//! Holds back lines that say the same of the same peer again and again: one broken machine of
//! 20,000 must not bury what is said of the others. A bounded table of windows of a minute, one for
//! each message and whom it is about, and one for each message. Nobody waits for another's lookup:
//! a line that finds the table taken is let through.

use std::collections::HashMap;
use std::fmt::{self, Write};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

/// How long a window lasts.
const WINDOW: Duration = Duration::from_secs(60);
/// Lines of one message about one peer in a window: whoever reads has understood by then.
const PER_PEER_MAX: u32 = 10;
/// Lines of one message in a window, whoever they are about: more than a person reads.
const PER_MESSAGE_MAX: u32 = 200;
/// Windows that are open at once, about 200 bytes each. Beyond them peers are not told apart.
const WINDOWS_MAX: usize = 4_096;
/// Bytes of a held-back line that are kept as an example.
const EXAMPLE_BYTES_MAX: usize = 160;
/// Fields that say whom a line is about. A block's hash is one: no block is like another.
const ABOUT: [&str; 6] = ["peer", "miner", "worker", "node", "shard", "hash"];

/// A message, and a hash of whom it is about; 0 stands for all of them together.
type Key = (Identifier, u64);

/// Counts lines by message and peer.
#[derive(Debug, Default)]
pub(crate) struct Limiter {
    windows: Mutex<HashMap<Key, Window>>,
    suppressed: AtomicU64,
}

#[derive(Debug)]
struct Window {
    began: Instant,
    said: u32,
    suppressed: u64,
    /// The first line that was held back.
    like: String,
}

/// What a window has held back.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Held {
    /// The first of the lines.
    pub(crate) like: String,
    /// How many they were.
    pub(crate) suppressed: u64,
}

impl Limiter {
    /// Lines held back since the start.
    pub(crate) fn suppressed(&self) -> u64 {
        self.suppressed.load(Relaxed)
    }

    /// Whether a line may be said. `example` makes its text, if it is the first held back.
    fn allows(&self, key: Key, now: Instant, example: impl FnOnce() -> String) -> bool {
        // Taken or poisoned: a line too many is better than a thread that waits to log.
        let Ok(mut windows) = self.windows.try_lock() else { return true };
        let whole = (key.0.clone(), 0);
        let full = windows.len() + 2 > WINDOWS_MAX;
        let own = if full && !windows.contains_key(&key) { None } else { Some(key) };
        for (key, most) in
            own.into_iter().map(|key| (key, PER_PEER_MAX)).chain([(whole, PER_MESSAGE_MAX)])
        {
            let fresh = || Window { began: now, said: 0, suppressed: 0, like: String::new() };
            let window = windows.entry(key).or_insert_with(fresh);
            // One that has held nothing back begins anew; the others are told of first.
            if window.suppressed == 0 && now.duration_since(window.began) >= WINDOW {
                *window = fresh();
            }
            if window.said >= most {
                if window.suppressed == 0 {
                    window.like = example();
                }
                window.suppressed += 1;
                self.suppressed.fetch_add(1, Relaxed);
                return false;
            }
            window.said += 1;
        }
        true
    }

    /// Closes the windows that have lasted their time, and tells what they have held back.
    pub(crate) fn ended(&self, now: Instant) -> Vec<Held> {
        let mut held = Vec::new();
        let Ok(mut windows) = self.windows.try_lock() else { return held };
        windows.retain(|_, window| {
            let open = now.duration_since(window.began) < WINDOW;
            if !open && window.suppressed > 0 {
                let like = std::mem::take(&mut window.like);
                held.push(Held { like, suppressed: window.suppressed });
            }
            open
        });
        held
    }
}

/// The limiter among the layers of the log.
pub(crate) struct HoldBack(pub(crate) std::sync::Arc<Limiter>);

impl<S: Subscriber> Layer<S> for HoldBack {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        // Whoever asks for finer lines looks closely, and wants them all.
        if *event.metadata().level() > Level::INFO {
            return true;
        }
        let mut about = About::default();
        event.record(&mut about);
        let key = (event.metadata().callsite(), about.hash());
        self.0.allows(key, Instant::now(), || {
            let mut example = Example::default();
            event.record(&mut example);
            example.text()
        })
    }
}

/// Reads whom a line is about.
#[derive(Default)]
struct About {
    hasher: Option<DefaultHasher>,
    text: String,
}

impl About {
    fn hash(&self) -> u64 {
        // 0 is everybody's.
        self.hasher.as_ref().map_or(1, |hasher| hasher.finish().max(1))
    }
}

impl Visit for About {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if ABOUT.contains(&field.name()) {
            self.text.clear();
            // A string takes everything.
            let _ = write!(self.text, "{value:?}");
            let hasher = self.hasher.get_or_insert_default();
            (field.name(), &self.text).hash(hasher);
        }
    }
}

/// Reads a line as an example of what was held back.
#[derive(Default)]
struct Example {
    message: String,
    about: String,
}

impl Example {
    fn text(self) -> String {
        let mut text = self.message;
        text.push_str(&self.about);
        let end = (0..=EXAMPLE_BYTES_MAX).rev().find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or(0));
        text
    }
}

impl Visit for Example {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // A string takes everything.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name if ABOUT.contains(&name) => write!(self.about, " {name}={value:?}"),
            _ => Ok(()),
        };
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    /// Runs `log` with a limiter and a line counter behind it.
    fn logged(limiter: &Arc<Limiter>, log: impl FnOnce()) -> u64 {
        struct Count(Arc<AtomicU64>);
        impl<S: Subscriber> Layer<S> for Count {
            fn on_event(&self, _: &Event<'_>, _: Context<'_, S>) {
                self.0.fetch_add(1, Relaxed);
            }
        }
        let lines = Arc::<AtomicU64>::default();
        let layers = tracing_subscriber::registry()
            .with(Count(lines.clone()))
            .with(HoldBack(limiter.clone()));
        tracing::subscriber::with_default(layers, log);
        lines.load(Relaxed)
    }

    #[test]
    fn a_peer_is_held_back_and_the_others_are_not() {
        let limiter = Arc::<Limiter>::default();
        let say = |peer: &str| tracing::warn!(peer, "a line that is no message");
        let said = logged(&limiter, || {
            (0..50).for_each(|_| say("10.0.0.7"));
            (0..3).for_each(|_| say("10.0.0.8"));
            tracing::warn!(peer = "10.0.0.7", "another message");
            (0..50).for_each(|_| tracing::debug!(peer = "10.0.0.7", "a fine line"));
        });
        assert_eq!(said, u64::from(PER_PEER_MAX) + 3 + 1 + 50);
        assert_eq!(limiter.suppressed(), 50 - u64::from(PER_PEER_MAX));
        assert_eq!(limiter.ended(Instant::now()), [], "the minute is not over");
        let like = "a line that is no message peer=\"10.0.0.7\"".to_owned();
        let held = limiter.ended(Instant::now() + WINDOW);
        assert_eq!(held, [Held { like, suppressed: 40 }]);
        assert_eq!(logged(&limiter, || say("10.0.0.7")), 1, "a new minute");
    }

    #[test]
    fn a_message_is_held_back_though_each_is_about_another() {
        let limiter = Arc::<Limiter>::default();
        let said = logged(&limiter, || {
            (0..20_000).for_each(|peer| tracing::info!(peer, "too slow"));
        });
        assert_eq!(said, u64::from(PER_MESSAGE_MAX));
        assert_eq!(limiter.suppressed() + said, 20_000);
        let open = limiter.windows.lock().expect("nobody panics with it").len();
        assert!(open <= WINDOWS_MAX, "{open}");
        let held = limiter.ended(Instant::now() + WINDOW);
        assert_eq!(held.iter().map(|held| held.suppressed).sum::<u64>(), limiter.suppressed());
        assert!(limiter.windows.lock().expect("nobody panics with it").is_empty());
    }

    #[test]
    fn an_example_is_cut_where_a_letter_ends() {
        let limiter = Arc::<Limiter>::default();
        logged(&limiter, || {
            (0..=PER_PEER_MAX).for_each(|_| tracing::info!("{}", "π".repeat(10_000)));
        });
        let held = limiter.ended(Instant::now() + WINDOW);
        assert_eq!(held[0].like, "π".repeat(EXAMPLE_BYTES_MAX / 2));
    }
}
