//! What a shard has done, as numbers that other threads may read at any time. One shard writes,
//! with relaxed loads and stores (no locked instruction); ops sums over the shards and names the
//! metrics. No names, strings or maps here.

use core::net::{IpAddr, Ipv6Addr};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use session::Class;

/// Number of values of `session::ShareOutcome`; the index is the enum's own order.
pub const SHARE_OUTCOMES: usize = 10;

/// Buckets of a [`Histogram`]: bucket `i` counts values below 2^i, the last one all others.
/// 2^26 µs is 67 s, longer than any deadline of a shard.
pub const HISTOGRAM_BUCKETS: usize = 28;

/// One number with a single writer.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// The value as some recent moment left it.
    pub fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }

    /// Adds to the value. Only the owning shard's thread may call it.
    pub fn add(&self, amount: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(amount), Relaxed);
    }

    /// Replaces the value, for gauges. Only the owning shard's thread may call it.
    pub fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }
}

/// A sum or maximum of floating-point values with a single writer.
#[derive(Debug, Default)]
pub struct FloatCounter(AtomicU64);

impl FloatCounter {
    /// The value as some recent moment left it.
    pub fn value(&self) -> f64 {
        f64::from_bits(self.0.load(Relaxed))
    }

    /// Adds to the sum. Only the owning shard's thread may call it.
    pub fn add(&self, amount: f64) {
        self.0.store((self.value() + amount).to_bits(), Relaxed);
    }

    /// Raises the maximum. Only the owning shard's thread may call it.
    pub fn raise(&self, value: f64) {
        if value > self.value() {
            self.0.store(value.to_bits(), Relaxed);
        }
    }
}

/// A peer's address with a single writer: zero for none. An IPv4 address is read whole; the halves
/// of an IPv6 address may be of two peers while it changes, which a log line can bear.
#[derive(Debug, Default)]
pub struct Peer([AtomicU64; 2]);

impl Peer {
    /// The address as some recent moment left it; `None` before the first.
    pub fn value(&self) -> Option<IpAddr> {
        let [high, low] = [&self.0[0], &self.0[1]].map(|half| u128::from(half.load(Relaxed)));
        let bits = high << 64 | low;
        (bits != 0).then(|| Ipv6Addr::from_bits(bits).to_canonical())
    }

    /// Replaces the address. Only the owning shard's thread may call it.
    pub fn set(&self, peer: IpAddr) {
        let bits = match peer {
            IpAddr::V4(peer) => peer.to_ipv6_mapped().to_bits(),
            IpAddr::V6(peer) => peer.to_bits(),
        };
        self.0[0].store((bits >> 64) as u64, Relaxed);
        self.0[1].store(bits as u64, Relaxed);
    }
}

/// A distribution of microseconds in buckets of powers of two.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [Counter; HISTOGRAM_BUCKETS],
    sum_us: Counter,
}

impl Histogram {
    /// Counts a value `times` times. Only the owning shard's thread may call it.
    pub fn record(&self, value_us: u64, times: u64) {
        let bits = (u64::BITS - value_us.leading_zeros()) as usize;
        self.buckets[bits.min(HISTOGRAM_BUCKETS - 1)].add(times);
        self.sum_us.add(value_us.saturating_mul(times));
    }

    /// How many values each bucket has counted: bucket `i` holds values `v` with
    /// `2^(i-1) <= v < 2^i` µs, bucket 0 only zeros, the last one also everything beyond.
    pub fn counts(&self) -> [u64; HISTOGRAM_BUCKETS] {
        core::array::from_fn(|index| self.buckets[index].value())
    }

    /// The upper bound of a bucket in µs, exclusive; `None` for the last bucket, which has none.
    pub fn bound_us(bucket: usize) -> Option<u64> {
        (bucket + 1 < HISTOGRAM_BUCKETS).then(|| 1_u64 << bucket)
    }

    /// The sum of all recorded values in µs.
    pub fn sum_us(&self) -> u64 {
        self.sum_us.value()
    }
}

/// Why the shard has closed a connection, or why it was lost. Whose fault it is follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(usize)]
pub enum CloseReason {
    /// The peer ended its stream.
    PeerClosed,
    /// The socket failed, for instance by a reset.
    PeerReset,
    /// The peer began with an HTTP request: a browser, a scraper or a scanner on the miners' port.
    Http,
    /// The peer began with a TLS ClientHello: a miner that is set to an encrypted pool address.
    Tls,
    /// The peer began with a PROXY header and is not trusted to send one: a load balancer.
    ProxyHeader,
    /// The peer must send a PROXY header and began with something else: a miner beside its load
    /// balancer, or a load balancer that was not told to send one.
    ProxyMissing,
    /// The peer must send a PROXY header, and began one that breaks the protocol.
    ProxyMalformed,
    /// The peer began with anything else: the random key of a Stratum V2 miner, or garbage.
    NotStratum,
    /// The peer spoke Stratum V1, then sent a line that is no message: a broken miner.
    Malformed,
    /// The peer submitted without ever having subscribed, and was told so (25).
    NotSubscribed,
    /// The peer went beyond a limit: line length, queued replies, fingerprints.
    Limit,
    /// The source that its PROXY header named has as many unauthorized connections as it may.
    PerSource,
    /// The handshake was not over in time.
    Handshake,
    /// It was the oldest that was not authorized, and made room for others at a limit.
    Crowded,
    /// Every place was taken, and it acknowledged nothing any more: half-open, as a power cut
    /// leaves it.
    Unresponsive,
    /// Every place was taken, and it never had a share accepted.
    Idle,
    /// It was not authorized or idle, and the shard was overloaded.
    Overload,
    /// Nothing of the pending send went out within its limit.
    SlowReader,
    /// There was no extranonce prefix left to give.
    NoPrefix,
    /// A call into its session panicked: our fault.
    Panicked,
    /// The shard is draining.
    Drained,
    /// There is no work, so that the miner had better use its next pool.
    NoWork,
    /// Its miner is back on another connection, which has taken up the session.
    Resumed,
}

impl CloseReason {
    /// All reasons, in the order of [`Counters::closed`].
    pub const ALL: [CloseReason; 23] = [
        CloseReason::PeerClosed,
        CloseReason::PeerReset,
        CloseReason::Http,
        CloseReason::Tls,
        CloseReason::ProxyHeader,
        CloseReason::ProxyMissing,
        CloseReason::ProxyMalformed,
        CloseReason::NotStratum,
        CloseReason::Malformed,
        CloseReason::NotSubscribed,
        CloseReason::Limit,
        CloseReason::PerSource,
        CloseReason::Handshake,
        CloseReason::Crowded,
        CloseReason::Unresponsive,
        CloseReason::Idle,
        CloseReason::Overload,
        CloseReason::SlowReader,
        CloseReason::NoPrefix,
        CloseReason::Panicked,
        CloseReason::Drained,
        CloseReason::NoWork,
        CloseReason::Resumed,
    ];

    /// The reason as a metric's label.
    pub fn label(self) -> &'static str {
        match self {
            CloseReason::PeerClosed => "peer_closed",
            CloseReason::PeerReset => "peer_reset",
            CloseReason::Http => "http",
            CloseReason::Tls => "tls",
            CloseReason::ProxyHeader => "proxy_header",
            CloseReason::ProxyMissing => "proxy_missing",
            CloseReason::ProxyMalformed => "proxy_malformed",
            CloseReason::NotStratum => "not_stratum",
            CloseReason::Malformed => "malformed",
            CloseReason::NotSubscribed => "not_subscribed",
            CloseReason::Limit => "limit",
            CloseReason::PerSource => "per_source",
            CloseReason::Handshake => "handshake",
            CloseReason::Crowded => "crowded",
            CloseReason::Unresponsive => "unresponsive",
            CloseReason::Idle => "idle",
            CloseReason::Overload => "overload",
            CloseReason::SlowReader => "slow_reader",
            CloseReason::NoPrefix => "no_prefix",
            CloseReason::Panicked => "panicked",
            CloseReason::Drained => "drained",
            CloseReason::NoWork => "no_work",
            CloseReason::Resumed => "resumed",
        }
    }

    /// Whose fault the close is: `peer`, `us`, `limit`, `shutdown` or `upstream`.
    pub fn fault(self) -> &'static str {
        match self {
            CloseReason::PeerClosed | CloseReason::PeerReset => "peer",
            CloseReason::Http | CloseReason::Tls | CloseReason::ProxyHeader => "peer",
            CloseReason::ProxyMissing | CloseReason::ProxyMalformed => "peer",
            CloseReason::NotStratum | CloseReason::Malformed => "peer",
            CloseReason::NotSubscribed | CloseReason::Handshake => "peer",
            CloseReason::SlowReader | CloseReason::Resumed => "peer",
            CloseReason::Unresponsive => "peer",
            CloseReason::Limit | CloseReason::PerSource | CloseReason::NoPrefix => "limit",
            CloseReason::Crowded | CloseReason::Idle | CloseReason::Overload => "limit",
            CloseReason::Panicked => "us",
            CloseReason::Drained => "shutdown",
            CloseReason::NoWork => "upstream",
        }
    }
}

/// Why an accepted socket got no slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(usize)]
pub enum RefusalReason {
    /// Its source is not on the listener's allow list.
    NotAllowed,
    /// There are as many connections as may be, and nobody to make room.
    Connections,
    /// Its source has as many connections that are not authorized as it may.
    PerSource,
    /// The shard is draining.
    Draining,
    /// There is no work: closed at once, so that the miner uses its next pool.
    NoWork,
}

impl RefusalReason {
    /// All reasons, in the order of [`Counters::refused`].
    pub const ALL: [RefusalReason; 5] = [
        RefusalReason::NotAllowed,
        RefusalReason::Connections,
        RefusalReason::PerSource,
        RefusalReason::Draining,
        RefusalReason::NoWork,
    ];

    /// The reason as a metric's label.
    pub fn label(self) -> &'static str {
        match self {
            RefusalReason::NotAllowed => "not_allowed",
            RefusalReason::Connections => "connections",
            RefusalReason::PerSource => "per_source",
            RefusalReason::Draining => "draining",
            RefusalReason::NoWork => "no_work",
        }
    }
}

/// Everything that one shard counts. Aligned, so that two shards never share a cache line (the
/// adjacent-line prefetcher makes it two).
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Counters {
    /// Shares by `session::ShareOutcome`.
    pub shares: [Counter; SHARE_OUTCOMES],
    /// Sum of the difficulties that accepted shares were credited with.
    pub difficulty_accepted: FloatCounter,
    /// Sum of the assigned difficulties of rejected shares.
    pub difficulty_rejected: FloatCounter,
    /// The highest difficulty that any hash here has met.
    pub best_share_difficulty: FloatCounter,
    /// From the arrival of a share to the moment at which its reply was taken by the kernel, in µs.
    pub share_latency: Histogram,
    /// Accepted sockets that got a slot.
    pub connections_accepted: Counter,
    /// Accepted sockets that got none, by [`RefusalReason`].
    pub refused: [Counter; RefusalReason::ALL.len()],
    /// Closed connections by [`CloseReason`].
    pub closed: [Counter; CloseReason::ALL.len()],
    /// Subscribes by `session::Class`, which is what the miner says it is.
    pub subscribed: [Counter; Class::ALL.len()],
    /// Miners that rolled the version and stopped.
    pub rolling_lost: Counter,
    /// The newest peer that was closed for a line that is no message.
    pub malformed_peer: Peer,
    /// Sessions that a later connection has taken up.
    pub sessions_resumed: Counter,
    /// Sessions that came from another shard, to be taken up here.
    pub sessions_moved: Counter,
    /// Connections that named a session and got a new one.
    pub resumes_in_vain: Counter,
    /// Gauge: sessions that are kept for their miners to come back.
    pub sessions_parked: Counter,
    /// Gauge: connections that are not authorized yet.
    pub miners_setup: Counter,
    /// Gauge: connections that have work.
    pub miners_mining: Counter,
    /// Gauge: authorized connections for which there is no work.
    pub miners_parked: Counter,
    /// Jobs that the shard has adopted.
    pub jobs: Counter,
    /// Jobs that a newer one replaced before every connection had them.
    pub jobs_coalesced: Counter,
    /// From the receipt of a job with a new tip to its last connection's write, in µs.
    pub fan_out_clean: Histogram,
    /// The same for jobs on the tip that was already mined.
    pub fan_out_refresh: Histogram,
    /// Hashes that met the network's target.
    pub blocks_found: Counter,
    /// Gauge: blocks that wait for room in the lane.
    pub blocks_held: Counter,
    /// Messages to the coordinator that had to wait because the lane was full.
    pub lane_full: Counter,
    /// Reads that delivered bytes.
    pub receives: Counter,
    /// Bytes read.
    pub bytes_received: Counter,
    /// Writes given to the ring.
    pub sends: Counter,
    /// Bytes written.
    pub bytes_sent: Counter,
    /// Writes that took fewer bytes than asked.
    pub short_sends: Counter,
    /// Receives that ended because the provided buffers ran out.
    pub no_buffers: Counter,
    /// Accepts that ended because descriptors or memory ran out, or that failed.
    pub accept_errors: Counter,
    /// Completions of a former use of a slot, which were dropped.
    pub completions_stale: Counter,
    /// Calls into a session that panicked.
    pub panics: Counter,
    /// Batches of shares that were hashed together.
    pub batches: Counter,
    /// Turns taken.
    pub turns: Counter,
    /// Time inside turns, in µs; the host adds it, because the shard has no clock.
    pub busy_us: Counter,
    /// Duration of turns, in µs; recorded by the host.
    pub turn_duration: Histogram,
    /// Gauge: how overloaded the shard is, 0 to 3 (`overload`).
    pub overload_level: Counter,
    /// Gauge: the tick of the newest turn, in µs.
    pub heartbeat_us: Counter,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_counted_below_its_bound() {
        for value in [0, 1, 2, 3, 4, 500, 511, 512, 1 << 25, 1 << 26, u64::MAX / 4] {
            let histogram = Histogram::default();
            histogram.record(value, 1);
            let counts = histogram.counts();
            let bucket = counts.iter().position(|count| *count == 1).expect("it was counted");
            assert!(Histogram::bound_us(bucket).is_none_or(|bound| value < bound), "{value}");
            let below = bucket.checked_sub(1).and_then(Histogram::bound_us);
            assert!(below.is_none_or(|bound| value >= bound), "{value}");
            assert_eq!(histogram.sum_us(), value);
        }
    }

    #[test]
    fn a_peer_reads_back() {
        let kept = Peer::default();
        assert_eq!(kept.value(), None);
        for text in ["10.0.0.7", "2001:db8::7", "192.168.1.20"] {
            let peer: IpAddr = text.parse().expect("an address");
            kept.set(peer);
            assert_eq!(kept.value(), Some(peer));
        }
    }

    #[test]
    fn reasons_stand_in_the_order_of_their_counters() {
        for (index, reason) in CloseReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
        }
        for (index, reason) in CloseReason::ALL.into_iter().enumerate() {
            let same = |other: &CloseReason| other.label() == reason.label();
            assert_eq!(CloseReason::ALL.iter().position(same), Some(index), "{reason:?}");
        }
        for (index, reason) in RefusalReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
        }
    }
}
