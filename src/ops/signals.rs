//! Signals. They are blocked before any other thread starts, so that none ever interrupts a
//! shard, and one small thread waits for them. What is asked goes to the ops thread; only a
//! second request to end is obeyed right here, because it must work when everything else hangs.

use nix::sys::signal::{SigSet, Signal, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::exit::Stop;

/// What somebody asked this process to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// SIGTERM or SIGINT, for the first time: drain and end.
    End,
    /// SIGHUP: read the configuration again.
    Reload,
    /// SIGUSR2: replace the program in place.
    Upgrade,
}

/// Signals that ask for nothing here, and by default would end the process without a drain.
const MEANINGLESS: [Signal; 3] = [Signal::SIGUSR1, Signal::SIGALRM, Signal::SIGVTALRM];

/// What was asked, in order. People send signals, so the queue needs no limit of its own.
pub type Signals = UnboundedReceiver<Asked>;

/// Blocks the signals in this thread and in every thread that it starts from now on, and starts
/// the one that waits for them: to be called before any other thread.
pub fn start() -> Result<Signals, Stop> {
    let mut signals = SigSet::empty();
    let obeyed = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR2];
    for signal in obeyed.into_iter().chain(MEANINGLESS) {
        signals.add(signal);
    }
    signals.thread_block().map_err(Stop::internal)?;
    let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
    let waiting = SignalFd::with_flags(&signals, flags).map_err(Stop::unavailable)?;
    let (sender, receiver) = unbounded_channel();
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || wait(&signals, waiting, &sender))
        .map_err(Stop::unavailable)?;
    Ok(receiver)
}

fn wait(signals: &SigSet, mut waiting: SignalFd, sender: &UnboundedSender<Asked>) {
    let mut ending = false;
    while let Ok(signal) = signals.wait() {
        let asked = match signal {
            Signal::SIGHUP => Asked::Reload,
            Signal::SIGUSR2 => Asked::Upgrade,
            other if MEANINGLESS.contains(&other) => continue,
            again if ending => return die(signals, again),
            // Two that came together: nobody waits to see whether the drain is quicker.
            first if second_waits(&mut waiting) => return die(signals, first),
            _ => {
                ending = true;
                Asked::End
            }
        };
        if sender.send(asked).is_err() && ending {
            // Nobody listens any more: the process is on its way out, or hangs there.
            return die(signals, signal);
        }
    }
}

/// Whether another request to end came together with the first; what else waits is moot then.
fn second_waits(waiting: &mut SignalFd) -> bool {
    let ends = [Signal::SIGTERM, Signal::SIGINT].map(|signal| signal as u32);
    std::iter::from_fn(|| waiting.read_signal().ok()?).any(|next| ends.contains(&next.ssi_signo))
}

/// Ends the process by the signal itself, as if it had never been blocked: the exit status then
/// says truly that nothing was drained. By SIGKILL where the signal is ignored: shells start what
/// runs in the background so, and it goes on to the program.
fn die(signals: &SigSet, signal: Signal) {
    let died = signals.thread_unblock().and_then(|()| raise(signal));
    if died.and_then(|()| raise(Signal::SIGKILL)).is_err() {
        std::process::abort();
    }
}
