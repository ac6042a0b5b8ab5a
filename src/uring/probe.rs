//! What a kernel must have for a ring, asked feature by feature and never by version: some
//! distributions carry features back, some sandboxes take them away. Called by `Ring::new` and by
//! `headframe check`.

#![allow(unsafe_code)]

use std::fmt;
use std::os::fd::{AsRawFd, OwnedFd};

use io_uring::types::{CancelBuilder, Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, Probe, cqueue, opcode, squeue};
use rustix::event::{EventfdFlags, PollFlags, eventfd};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with};

use crate::UringError;
use crate::buffers::{BUFFER_GROUP, Buffers};

/// Something of io_uring that the data plane uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Feature {
    /// Completions are run by the waiting thread (Linux 6.1).
    DeferTaskrun,
    /// Completions are kept when their queue is full (5.5).
    NoDrop,
    /// A wait takes a timeout (5.11).
    ExtendedArguments,
    /// A socket that is not ready costs no kernel thread (5.7).
    FastPoll,
    /// The operations accept, receive, send, poll and cancel, by their numbers.
    Opcodes,
    /// Buffers that the kernel picks when bytes arrive (5.19).
    ProvidedBuffers,
    /// One submission accepts many connections (5.19).
    MultishotAccept,
    /// One submission receives many times (6.0).
    MultishotReceive,
    /// One submission reports many readinesses (5.13).
    MultishotPoll,
    /// Everything of one file can be cancelled at once (5.19).
    CancelByFile,
    /// A wait can let followers gather (6.12). Not required.
    MinimumWait,
}

impl Feature {
    /// Every feature without which no shard runs.
    pub const REQUIRED: [Feature; 10] = [
        Feature::DeferTaskrun,
        Feature::NoDrop,
        Feature::ExtendedArguments,
        Feature::FastPoll,
        Feature::Opcodes,
        Feature::ProvidedBuffers,
        Feature::MultishotAccept,
        Feature::MultishotReceive,
        Feature::MultishotPoll,
        Feature::CancelByFile,
    ];
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Feature::DeferTaskrun => "IORING_SETUP_DEFER_TASKRUN",
            Feature::NoDrop => "IORING_FEAT_NODROP",
            Feature::ExtendedArguments => "IORING_FEAT_EXT_ARG",
            Feature::FastPoll => "IORING_FEAT_FAST_POLL",
            Feature::Opcodes => "the opcodes ACCEPT, RECV, SEND, POLL_ADD, ASYNC_CANCEL",
            Feature::ProvidedBuffers => "provided buffer rings",
            Feature::MultishotAccept => "multishot accept",
            Feature::MultishotReceive => "multishot receive",
            Feature::MultishotPoll => "multishot poll",
            Feature::CancelByFile => "cancellation by file",
            Feature::MinimumWait => "IORING_FEAT_MIN_TIMEOUT",
        })
    }
}

/// What a test wants the kernel to lack. The default pretends nothing.
#[derive(Debug, Clone, Default)]
pub struct Pretend {
    /// Features that are reported as missing although they may be there.
    pub missing: Vec<Feature>,
    /// The errno with which making any ring fails, for instance 38 (ENOSYS) or 1 (EPERM).
    pub setup_fails: Option<i32>,
}

impl Pretend {
    pub(crate) fn lacks(&self, feature: Feature) -> bool {
        self.missing.contains(&feature)
    }
}

/// What a kernel that can run shards has beyond the required.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// A wait can let followers gather (`min_wait_usec`).
    pub gather: bool,
}

/// Entries of the ring that is made only to ask.
const PROBE_ENTRIES: u32 = 8;

/// Every probed operation completes or is cancelled at once; a kernel that needs longer is stuck.
const ANSWER_SECONDS_MAX: u64 = 2;

/// Asks the kernel for everything that a ring needs.
///
/// # Errors
/// [`UringError::Missing`] names all missing features; other variants say why no ring could be
/// made at all.
pub fn probe(pretend: &Pretend) -> Result<Capabilities, UringError> {
    let made = build(PROBE_ENTRIES, PROBE_ENTRIES, pretend);
    if let Err(UringError::Os { errno, .. }) = made
        && errno == Errno::INVAL.raw_os_error()
    {
        // Unknown set-up flags are EINVAL; the newest of ours is the one that is missing.
        return Err(UringError::Missing(vec![Feature::DeferTaskrun]));
    }
    let gather = made?.params().is_feature_min_timeout() && !pretend.lacks(Feature::MinimumWait);
    let mut missing = Vec::new();
    for feature in Feature::REQUIRED {
        // A ring for each question: what an old kernel leaves armed must not answer the next one.
        let mut io = build(PROBE_ENTRIES, PROBE_ENTRIES, pretend)?;
        if pretend.lacks(feature) || !has(&mut io, feature)? {
            missing.push(feature);
        }
    }
    if !missing.is_empty() {
        return Err(UringError::Missing(missing));
    }
    Ok(Capabilities { gather })
}

/// Makes a ring with the flags of the data plane. It belongs to the calling thread.
pub(crate) fn build(
    entries: u32,
    completions: u32,
    pretend: &Pretend,
) -> Result<IoUring, UringError> {
    const WHAT: &str = "io_uring_setup";
    if let Some(errno) = pretend.setup_fails {
        return Err(UringError::from_errno(WHAT, errno));
    }
    IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all()
        .setup_clamp()
        .setup_cqsize(completions)
        .build(entries)
        .map_err(|error| UringError::from_os(WHAT, &error))
}

fn has(io: &mut IoUring, feature: Feature) -> Result<bool, UringError> {
    let parameters = io.params();
    match feature {
        Feature::DeferTaskrun => Ok(true), // the ring was made with it
        Feature::NoDrop => Ok(parameters.is_feature_nodrop()),
        Feature::ExtendedArguments => Ok(parameters.is_feature_ext_arg()),
        Feature::FastPoll => Ok(parameters.is_feature_fast_poll()),
        Feature::MinimumWait => Ok(parameters.is_feature_min_timeout()),
        Feature::Opcodes => has_opcodes(io),
        Feature::ProvidedBuffers => Ok(provide_buffers(io)?.is_some()),
        Feature::MultishotReceive => receives_many(io),
        Feature::MultishotAccept => accepts_many(io),
        Feature::MultishotPoll => polls_many(io),
        Feature::CancelByFile => cancels_by_file(io),
    }
}

fn has_opcodes(io: &IoUring) -> Result<bool, UringError> {
    let mut known = Probe::new();
    io.submitter()
        .register_probe(&mut known)
        .map_err(|error| UringError::from_os("asking for the operations", &error))?;
    let needed = [
        opcode::AcceptMulti::CODE,
        opcode::RecvMulti::CODE,
        opcode::Send::CODE,
        opcode::PollAdd::CODE,
        opcode::AsyncCancel2::CODE,
    ];
    Ok(needed.into_iter().all(|code| known.is_supported(code)))
}

/// Registers one small buffer; `None` where the kernel knows no such thing.
fn provide_buffers(io: &IoUring) -> Result<Option<Buffers>, UringError> {
    match Buffers::register(io, 1, 64) {
        Ok(buffers) => Ok(Some(buffers)),
        Err(UringError::Os { errno, .. }) if errno == Errno::INVAL.raw_os_error() => Ok(None),
        Err(other) => Err(other),
    }
}

/// Receives one byte into a provided buffer by a receive that stays armed.
fn receives_many(io: &mut IoUring) -> Result<bool, UringError> {
    let Some(mut buffers) = provide_buffers(io)? else { return Ok(false) };
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()
        .map_err(|error| UringError::from_os("making a pair of sockets", &error))?;
    std::io::Write::write_all(&mut &theirs, b"x")
        .map_err(|error| UringError::from_os("writing to a pair of sockets", &error))?;
    let receive = opcode::RecvMulti::new(Fd(ours.as_raw_fd()), BUFFER_GROUP).build();
    let answer = ask(io, receive)?;
    if !answer.more || cancel(io, ours.as_raw_fd())?.is_some() {
        buffers.unregister(io);
    }
    Ok(answer.more && answer.result == 1)
}

/// Polls an event counter that is never ready, and cancels it by its file.
fn cancels_by_file(io: &mut IoUring) -> Result<bool, UringError> {
    let counter = event_counter(0)?;
    let poll = opcode::PollAdd::new(Fd(counter.as_raw_fd()), POLL_IN).build();
    push(io, poll.user_data(ASKED));
    let cancelled = cancel(io, counter.as_raw_fd())?;
    Ok(cancelled == Some(-Errno::CANCELED.raw_os_error()))
}

/// Arms an accept that finds nobody, and cancels it by its file.
fn accepts_many(io: &mut IoUring) -> Result<bool, UringError> {
    let failed = |errno: Errno| UringError::from_errno("making a socket", errno.raw_os_error());
    let listener: OwnedFd =
        socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .map_err(failed)?;
    bind(&listener, &rustix::net::SocketAddrUnix::new_unnamed()).map_err(failed)?;
    listen(&listener, 1).map_err(failed)?;
    let accept = opcode::AcceptMulti::new(Fd(listener.as_raw_fd())).build();
    push(io, accept.user_data(ASKED));
    let cancelled = cancel(io, listener.as_raw_fd())?;
    Ok(cancelled == Some(-Errno::CANCELED.raw_os_error()))
}

/// Polls an event counter that is ready, by a poll that stays armed.
fn polls_many(io: &mut IoUring) -> Result<bool, UringError> {
    let counter = event_counter(1)?;
    let poll = opcode::PollAdd::new(Fd(counter.as_raw_fd()), POLL_IN).multi(true).build();
    let answer = ask(io, poll)?;
    if answer.more {
        cancel(io, counter.as_raw_fd())?;
    }
    Ok(answer.more)
}

fn event_counter(initial: u32) -> Result<OwnedFd, UringError> {
    eventfd(initial, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
        .map_err(|errno| UringError::from_errno("making an eventfd", errno.raw_os_error()))
}

/// `POLLIN`, as the ring takes it.
pub(crate) const POLL_IN: u32 = PollFlags::IN.bits() as u32;

/// The tag of the one question, and of its cancellation.
const ASKED: u64 = 1;
const CANCELLED: u64 = 2;

struct Answer {
    result: i32,
    more: bool,
}

fn push(io: &mut IoUring, entry: squeue::Entry) {
    // SAFETY: the probes pass no memory of their own, or (the receive) memory that outlives the
    // operation: it is freed only after the cancellation was answered.
    let pushed = unsafe { io.submission().push(&entry) };
    pushed.expect("eight entries hold one question and its cancellation");
}

/// Submits one operation and waits for its first completion.
fn ask(io: &mut IoUring, entry: squeue::Entry) -> Result<Answer, UringError> {
    push(io, entry.user_data(ASKED));
    let first = next(io)?;
    Ok(Answer { result: first.result(), more: cqueue::more(first.flags()) })
}

/// Cancels everything of a file, and tells with which result the question ended.
fn cancel(io: &mut IoUring, file: i32) -> Result<Option<i32>, UringError> {
    let cancel = opcode::AsyncCancel2::new(CancelBuilder::fd(Fd(file)).all()).build();
    push(io, cancel.user_data(CANCELLED));
    let mut ended = None;
    let mut answered = false;
    // A kernel without cancellation by file refuses it, and the question would stay open.
    while ended.is_none() || !answered {
        let entry = next(io)?;
        if entry.user_data() == CANCELLED {
            answered = true;
            if entry.result() < 0 && ended.is_none() {
                return Ok(None);
            }
        } else if !cqueue::more(entry.flags()) {
            ended = Some(entry.result());
        }
    }
    Ok(ended)
}

fn next(io: &mut IoUring) -> Result<cqueue::Entry, UringError> {
    loop {
        if let Some(entry) = io.completion().next() {
            return Ok(entry);
        }
        let limit = Timespec::new().sec(ANSWER_SECONDS_MAX);
        let waited = io.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&limit));
        match waited {
            Err(error) if error.raw_os_error() != Some(Errno::INTR.raw_os_error()) => {
                return Err(UringError::from_os("waiting for a probe's answer", &error));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_kernel_has_what_is_required() {
        probe(&Pretend::default()).expect("the tests need a kernel that can run shards");
    }

    #[test]
    fn what_an_old_kernel_lacks_is_named() {
        let lacking = [Feature::ProvidedBuffers, Feature::MultishotReceive];
        let pretend = Pretend { missing: lacking.to_vec(), setup_fails: None };
        let error = probe(&pretend).expect_err("two features are missing");
        assert_eq!(error, UringError::Missing(lacking.to_vec()));
        let text = error.to_string();
        assert!(text.contains("provided buffer rings, multishot receive"), "{text}");
    }

    #[test]
    fn a_kernel_without_gathering_is_good_enough() {
        let pretend = Pretend { missing: vec![Feature::MinimumWait], setup_fails: None };
        assert_eq!(probe(&pretend), Ok(Capabilities { gather: false }));
    }

    #[test]
    fn a_forbidden_ring_is_told_from_an_absent_one() {
        for (errno, expected) in
            [(Errno::NOSYS, UringError::Absent), (Errno::PERM, UringError::Forbidden)]
        {
            let setup_fails = Some(errno.raw_os_error());
            let pretend = Pretend { missing: Vec::new(), setup_fails };
            assert_eq!(probe(&pretend), Err(expected));
        }
    }
}
