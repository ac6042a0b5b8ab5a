//! Who may connect, and how many: the allow list of a listener, the limits in all, of those that
//! are not authorized yet and per source of those, and the queue in which accepted sockets wait for
//! their turn's budget. It decides and counts; sockets are adopted and refused by `turn`, and who
//! makes room for others is `shedding`'s.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use session::Tick;

use crate::counters::RefusalReason;
use crate::ring::ListenerIndex;

/// Accepted sockets that get a slot in one turn. A storm of connects then costs a turn about as
/// much as 64 shares do, so that running miners keep their latency.
pub const ADOPTIONS_PER_TURN: usize = 64;

/// Accepted sockets that may wait for a slot before the listeners pause; beyond it the kernel's
/// backlog is the better place to wait.
pub const SOCKETS_WAITING_MAX: usize = 1_024;

/// Pause before a listener that ran out of descriptors is armed again, doubled up to the second.
pub const ACCEPT_PAUSE_US_MIN: u64 = 10_000;
/// The longest such pause: long enough to cost nothing, short enough for a farm that returns.
pub const ACCEPT_PAUSE_US_MAX: u64 = 1_000_000;

/// Accepted sockets that may wait, when every place is taken, for those who are not authorized or
/// half-open to make room: one turn's worth of descriptors, from those that are kept free beside
/// the miners'.
pub const WAITING_FOR_ROOM_MAX: usize = ADOPTIONS_PER_TURN;

const _: () = assert!(ADOPTIONS_PER_TURN < SOCKETS_WAITING_MAX);

/// What "private" means: the address blocks that a farm's own network may use.
const PRIVATE_BLOCKS: [&str; 9] = [
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "100.64.0.0/10",
    "::1/128",
    "fe80::/10",
    "fc00::/7",
];

/// One block of addresses, for instance `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    address: IpAddr,
    bits: u8,
}

/// Why a text is no address block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CidrError {
    /// The part before the slash is no IP address.
    Address(String),
    /// The part after the slash is no number from 0 to the address's width in bits.
    Bits(String),
    /// Bits beyond the prefix are set, so the writer meant something else; the block that the
    /// prefix names is given.
    HostBits(Cidr),
}

impl fmt::Display for CidrError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CidrError::Address(text) => write!(f, "\"{text}\" is no IP address"),
            CidrError::Bits(text) => write!(f, "\"{text}\" is no prefix length of this address"),
            CidrError::HostBits(block) => {
                write!(f, "bits beyond the prefix are set; the block is {block}")
            }
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

impl Cidr {
    /// Reads `address/bits`, or a lone address as a block of one.
    pub fn parse(text: &str) -> Result<Cidr, CidrError> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr =
            address.parse().map_err(|_| CidrError::Address(address.to_string()))?;
        let width = width(address);
        let bits = match bits {
            None => width,
            Some(bits) => parse_bits(bits, width).ok_or(CidrError::Bits(bits.to_string()))?,
        };
        let network = masked(address, bits);
        if network != address {
            return Err(CidrError::HostBits(Cidr { address: network, bits }));
        }
        Ok(Cidr { address, bits })
    }

    /// Whether an address lies in the block. IPv4-mapped IPv6 addresses count as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = canonical(address);
        width(address) == width(self.address) && masked(address, self.bits) == self.address
    }
}

/// The sources that a listener serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowList {
    blocks: Vec<Cidr>,
    any: bool,
}

impl AllowList {
    /// Every source.
    pub fn any() -> AllowList {
        AllowList { blocks: Vec::new(), any: true }
    }

    /// No source.
    pub fn none() -> AllowList {
        AllowList { blocks: Vec::new(), any: false }
    }

    /// RFC 1918, loopback, link-local, fc00::/7 and 100.64/10.
    pub fn private() -> AllowList {
        let blocks = PRIVATE_BLOCKS.iter().map(|block| Cidr::parse(block));
        let blocks = blocks.map(|block| block.expect("the table holds address blocks")).collect();
        AllowList { blocks, any: false }
    }

    /// Reads entries that are address blocks, `private` or `any`. The error says which entry is
    /// wrong, by its index, and why.
    pub fn parse<'a>(
        entries: impl IntoIterator<Item = &'a str>,
    ) -> Result<AllowList, (usize, CidrError)> {
        let mut list = AllowList::none();
        for (index, entry) in entries.into_iter().enumerate() {
            match entry {
                "any" => list.any = true,
                "private" => list.blocks.extend(AllowList::private().blocks),
                block => list.blocks.push(Cidr::parse(block).map_err(|error| (index, error))?),
            }
        }
        Ok(list)
    }

    /// Whether a source is served.
    pub fn allows(&self, source: IpAddr) -> bool {
        self.any || self.blocks.iter().any(|block| block.contains(source))
    }
}

/// The limits of a shard on connections.
#[derive(Clone, Debug)]
pub struct AdmissionSettings {
    /// Whose connections each listener takes, by [`ListenerIndex`]: those of miners, or of load
    /// balancers that stand before them.
    pub allow: Vec<AllowList>,
    /// Who of them must begin with a PROXY header, by [`ListenerIndex`]. Nobody else may.
    pub proxy_from: Vec<AllowList>,
    /// Connections at most, over all shards that share a [`Total`].
    pub connections_max: usize,
    /// Connections of one source address at most that are not authorized yet, counted per shard:
    /// the kernel spreads a source's connections over the shards, so that the farm may serve so
    /// many on each. Who mines is not counted, because a whole farm may stand behind one address.
    /// The source of a connection with a PROXY header is the one that the header names.
    pub per_source_max: usize,
    /// Connections of the shard at most that are not authorized yet. At the limit the oldest makes
    /// room for the next one.
    pub unauthenticated_max: usize,
}

/// How many connections all shards of a farm serve together, so that the limit on them holds to
/// the connection, however unevenly the kernel spreads them.
#[derive(Debug, Default)]
pub struct Total {
    held: AtomicUsize,
}

impl Total {
    /// Takes one connection's place, unless all `limit` are taken.
    fn take(&self, limit: usize) -> bool {
        // Nothing else hangs on the number, so that its order to other memory does not matter.
        let more = |held: usize| (held < limit).then_some(held + 1);
        self.held.fetch_update(Relaxed, Relaxed, more).is_ok()
    }

    fn give_back(&self, count: usize) {
        self.held.fetch_sub(count, Relaxed);
    }

    /// Connections that are served now.
    pub fn held(&self) -> usize {
        self.held.load(Relaxed)
    }
}

/// An accepted socket on its way to a slot.
pub(crate) struct Waiting<S> {
    pub(crate) socket: S,
    pub(crate) listener: ListenerIndex,
    pub(crate) peer: IpAddr,
}

/// How a connection begins that was counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beginning {
    /// As its miner does, and its source was counted.
    Plain,
    /// With a PROXY header, and its source is not known yet: see [`Admission::name_source`].
    ProxyHeader,
}

/// How a connection was counted that leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It was authorized.
    Authenticated,
    /// It was not, and this is its source if that was ever named.
    Unauthenticated(Option<IpAddr>),
}

/// One listener's accept, as the ring has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Accepting {
    Armed,
    /// We asked the ring to stop, and its end has not come yet.
    Stopping,
    /// Ended because too many sockets wait, or because the shard is overloaded or drains.
    Stopped,
    /// Ended because descriptors ran out; armed again at the tick.
    Paused {
        until: Tick,
    },
}

/// The door of one shard.
pub(crate) struct Admission<S> {
    settings: AdmissionSettings,
    /// Unauthenticated connections of each source; those whose PROXY header has not come are of
    /// none yet.
    sources: BTreeMap<IpAddr, u32>,
    /// Connections that were counted in.
    open: usize,
    /// Those of them that are not authorized yet: at least the sum over `sources`.
    unauthenticated: usize,
    /// The connections of all shards of the farm.
    total: Arc<Total>,
    waiting: VecDeque<Waiting<S>>,
    listeners: Vec<Accepting>,
    pause_us: u64,
    draining: bool,
    /// The shard is overloaded: whoever waits goes on waiting, here and in the kernel's backlog.
    holding: bool,
    /// Places may be found that half-open connections hold: until then nobody is refused for lack
    /// of one.
    searching: bool,
    /// There is no work: listeners go on, so that nobody waits for us in the kernel's backlog, and
    /// every socket is closed at once.
    without_work: bool,
}

impl<S> Admission<S> {
    pub(crate) fn new(settings: AdmissionSettings) -> Admission<S> {
        let listeners = settings.allow.iter().map(|_| Accepting::Stopped).collect();
        Admission {
            settings,
            sources: BTreeMap::new(),
            open: 0,
            unauthenticated: 0,
            total: Arc::default(),
            waiting: VecDeque::new(),
            listeners,
            pause_us: ACCEPT_PAUSE_US_MIN,
            draining: false,
            holding: false,
            searching: false,
            without_work: false,
        }
    }

    /// Counts with other shards from now on; nobody was counted in yet.
    pub(crate) fn share_total(&mut self, total: Arc<Total>) {
        assert_eq!(self.open, 0);
        self.total = total;
    }

    /// Queues an accepted socket, or gives it back when it is not to be served.
    pub(crate) fn offer(&mut self, offered: Waiting<S>) -> Result<(), (S, RefusalReason)> {
        self.pause_us = ACCEPT_PAUSE_US_MIN;
        let allow = self.settings.allow.get(usize::from(offered.listener.0));
        if let Err(reason) = self.is_open() {
            return Err((offered.socket, reason));
        }
        if !allow.is_some_and(|allow| allow.allows(offered.peer)) {
            return Err((offered.socket, RefusalReason::NotAllowed));
        }
        // An accept takes the whole backlog before it can be told to pause, and a socket that was
        // taken is a miner: only the limit of connections refuses it. Some wait even then, because
        // strangers or half-open connections may make room.
        let limit = self.settings.connections_max.saturating_add(WAITING_FOR_ROOM_MAX);
        if self.waiting.len() + self.open >= limit {
            return Err((offered.socket, RefusalReason::Connections));
        }
        self.waiting.push_back(offered);
        Ok(())
    }

    /// The next waiting socket, counted in if the limits allow it (`used` slots are taken), else
    /// with the reason for which it is to be refused. `None` if none waits, or if it must go on
    /// waiting until somebody has left.
    pub(crate) fn next(
        &mut self,
        used: usize,
    ) -> Option<(Waiting<S>, Result<Beginning, RefusalReason>)> {
        if self.is_open().is_ok() && (self.holding || self.is_crowded(used)) {
            return None;
        }
        let waiting = self.waiting.pop_front()?;
        let verdict = self.count_in(waiting.listener, waiting.peer, used);
        Some((waiting, verdict))
    }

    /// Whether whoever waits has to wait for room: there will be some when those have left who
    /// are leaving, or who may be asked to.
    fn is_crowded(&self, used: usize) -> bool {
        let is_full = used >= self.settings.connections_max
            || self.total.held() >= self.settings.connections_max;
        let will_have_room = self.unauthenticated > 0 || used > self.open || self.searching;
        self.unauthenticated >= self.settings.unauthenticated_max || is_full && will_have_room
    }

    /// Who would be seated in one turn, if there were room.
    fn wanted(&self) -> usize {
        let seating = !self.holding && self.is_open().is_ok();
        if seating { self.waiting.len().min(ADOPTIONS_PER_TURN) } else { 0 }
    }

    /// How many places in all are missing for those who wait, as far as one turn seats them, beside
    /// those that are being left.
    pub(crate) fn lacking_in_all(&self) -> usize {
        let wanted = self.wanted();
        let taken = self.total.held() + wanted;
        taken.saturating_sub(self.settings.connections_max).min(wanted)
    }

    /// Whether places are looked for that half-open connections hold.
    pub(crate) fn search(&mut self, searching: bool) {
        self.searching = searching;
    }

    /// How many of the connections that are not authorized would have to leave for those who wait,
    /// as far as one turn seats them, beside those that are leaving.
    pub(crate) fn lacking(&self) -> usize {
        let wanted = self.wanted();
        let beginning = self.unauthenticated + wanted;
        let strangers = beginning.saturating_sub(self.settings.unauthenticated_max).min(wanted);
        strangers.max(self.lacking_in_all())
    }

    fn count_in(
        &mut self,
        listener: ListenerIndex,
        peer: IpAddr,
        used: usize,
    ) -> Result<Beginning, RefusalReason> {
        self.is_open()?;
        if used >= self.settings.connections_max {
            return Err(RefusalReason::Connections);
        }
        let proxies = self.settings.proxy_from.get(usize::from(listener.0));
        let beginning = match proxies.is_some_and(|proxies| proxies.allows(peer)) {
            true => Beginning::ProxyHeader,
            false => Beginning::Plain,
        };
        if beginning == Beginning::Plain {
            self.name_source(peer)?;
        }
        if !self.total.take(self.settings.connections_max) {
            if beginning == Beginning::Plain {
                self.forget_source(peer);
            }
            return Err(RefusalReason::Connections);
        }
        self.open += 1;
        self.unauthenticated += 1;
        Ok(beginning)
    }

    /// Whether anybody is taken at all.
    fn is_open(&self) -> Result<(), RefusalReason> {
        match (self.draining, self.without_work) {
            (true, _) => Err(RefusalReason::Draining),
            (false, true) => Err(RefusalReason::NoWork),
            (false, false) => Ok(()),
        }
    }

    /// Counts a connection under its source: at once, or when its PROXY header has named it.
    pub(crate) fn name_source(&mut self, source: IpAddr) -> Result<(), RefusalReason> {
        let source = canonical(source);
        let held = self.sources.get(&source).copied().unwrap_or(0);
        if held as usize >= self.settings.per_source_max {
            return Err(RefusalReason::PerSource);
        }
        self.sources.insert(source, held + 1);
        Ok(())
    }

    fn forget_source(&mut self, source: IpAddr) {
        let source = canonical(source);
        let held = self.sources.get_mut(&source).expect("a slot's source was counted in");
        *held -= 1;
        if *held == 0 {
            self.sources.remove(&source);
        }
    }

    /// A counted connection is authorized: it counts for the limit in all from now on.
    pub(crate) fn authenticated(&mut self, source: IpAddr) {
        self.forget_source(source);
        self.unauthenticated -= 1;
    }

    /// A counted connection is gone.
    pub(crate) fn left(&mut self, standing: Standing) {
        match standing {
            Standing::Authenticated => {}
            Standing::Unauthenticated(source) => {
                source.into_iter().for_each(|source| self.forget_source(source));
                self.unauthenticated -= 1;
            }
        }
        self.open -= 1;
        self.total.give_back(1);
    }

    /// Connections that are not authorized yet.
    pub(crate) fn unauthenticated(&self) -> usize {
        self.unauthenticated
    }

    /// Whether nobody is seated and the listeners stop, because the shard is overloaded.
    pub(crate) fn hold(&mut self, holding: bool) {
        self.holding = holding;
    }

    /// Connections that were counted in and have not left.
    pub(crate) fn open(&self) -> usize {
        self.open
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// No further socket gets a slot.
    pub(crate) fn drain(&mut self) {
        self.draining = true;
    }

    /// Whether there is work: without it no socket gets a slot.
    pub(crate) fn set_work(&mut self, is_there: bool) {
        self.without_work = !is_there;
    }

    /// A listener's accept has ended. `exhausted`: for lack of descriptors, so it pauses.
    pub(crate) fn ended(&mut self, listener: ListenerIndex, now: Tick, exhausted: bool) {
        let Some(accepting) = self.listeners.get_mut(usize::from(listener.0)) else {
            return;
        };
        if exhausted {
            *accepting = Accepting::Paused { until: now.plus_micros(self.pause_us) };
            self.pause_us = (self.pause_us * 2).min(ACCEPT_PAUSE_US_MAX);
        } else {
            *accepting = Accepting::Stopped;
        }
    }

    /// What the listeners need now: `arm` and `stop` are called with those whose state changes.
    pub(crate) fn steer(&mut self, now: Tick, mut act: impl FnMut(ListenerIndex, Steer)) {
        let full = self.waiting.len() >= SOCKETS_WAITING_MAX || self.draining || self.holding;
        for (index, accepting) in self.listeners.iter_mut().enumerate() {
            let listener = ListenerIndex(index as u16);
            match *accepting {
                Accepting::Armed if full => {
                    *accepting = Accepting::Stopping;
                    act(listener, Steer::Stop);
                }
                Accepting::Stopped if !full => {
                    *accepting = Accepting::Armed;
                    act(listener, Steer::Arm);
                }
                Accepting::Paused { until } if !full && until <= now => {
                    *accepting = Accepting::Armed;
                    act(listener, Steer::Arm);
                }
                _ => {}
            }
        }
    }

    /// When a paused listener wants to be armed again.
    pub(crate) fn deadline(&self) -> Option<Tick> {
        let paused = self.listeners.iter().filter_map(|accepting| match accepting {
            Accepting::Paused { until } if !self.draining && !self.holding => Some(*until),
            _ => None,
        });
        paused.min()
    }

    /// Whether the ring still holds an accept of ours.
    pub(crate) fn is_accepting(&self) -> bool {
        let armed =
            |accepting: &Accepting| matches!(accepting, Accepting::Armed | Accepting::Stopping);
        self.listeners.iter().any(armed)
    }
}

/// A shard that ends by a panic leaves its places to its next life and to the other shards.
impl<S> Drop for Admission<S> {
    fn drop(&mut self) {
        self.total.give_back(self.open);
    }
}

/// What to do with a listener's accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Steer {
    Arm,
    Stop,
}

/// IPv4-mapped IPv6 addresses as IPv4, so that one source has one name.
fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

fn width(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

fn parse_bits(text: &str, width: u8) -> Option<u8> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let bits: u8 = if digits { text.parse().ok()? } else { return None };
    (bits <= width).then_some(bits)
}

fn masked(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask))
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn private_is_what_a_farm_uses() {
        let list = AllowList::private();
        for inside in [
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.7.7",
            "127.0.0.1",
            "127.9.9.9",
            "169.254.1.1",
            "100.64.0.1",
            "100.127.255.255",
            "::1",
            "fe80::1",
            "fd00::7",
            "::ffff:10.0.0.1",
        ] {
            assert!(list.allows(at(inside)), "{inside}");
        }
        for outside in [
            "8.8.8.8",
            "172.32.0.1",
            "172.15.255.255",
            "100.128.0.1",
            "100.63.255.255",
            "192.169.0.1",
            "2001:db8::1",
            "fec0::1",
            "::ffff:8.8.8.8",
            "0.0.0.0",
        ] {
            assert!(!list.allows(at(outside)), "{outside}");
        }
    }

    #[test]
    fn entries_are_blocks_or_words() {
        let list = AllowList::parse(["203.0.113.0/24", "2001:db8::/32", "198.51.100.7"]).unwrap();
        assert!(list.allows(at("203.0.113.255")));
        assert!(list.allows(at("::ffff:203.0.113.9")));
        assert!(list.allows(at("2001:db8:ffff::1")));
        assert!(list.allows(at("198.51.100.7")));
        assert!(!list.allows(at("198.51.100.8")));
        assert!(AllowList::parse(["any"]).unwrap().allows(at("8.8.8.8")));
        assert!(!AllowList::parse([]).unwrap().allows(at("127.0.0.1")));
        assert!(AllowList::parse(["0.0.0.0/0"]).unwrap().allows(at("8.8.8.8")));
        assert!(!AllowList::parse(["0.0.0.0/0"]).unwrap().allows(at("2001:db8::1")));
    }

    #[test]
    fn a_wrong_entry_is_named_with_its_fault() {
        let fault = |entry| AllowList::parse(["private", entry]).unwrap_err();
        assert_eq!(fault("farm"), (1, CidrError::Address("farm".into())));
        assert_eq!(fault("10.0.0.0/33"), (1, CidrError::Bits("33".into())));
        assert_eq!(fault("10.0.0.0/+8"), (1, CidrError::Bits("+8".into())));
        assert_eq!(fault("10.0.0.0/"), (1, CidrError::Bits("".into())));
        let meant = Cidr::parse("10.0.0.0/8").unwrap();
        assert_eq!(fault("10.1.0.0/8"), (1, CidrError::HostBits(meant)));
        assert_eq!(
            CidrError::HostBits(meant).to_string(),
            "bits beyond the prefix are set; the block is 10.0.0.0/8"
        );
    }

    fn door(connections_max: usize, per_source_max: usize) -> Admission<u32> {
        let allow = [AllowList::private()].into();
        let proxy_from = [AllowList::parse(["10.9.0.0/16"]).unwrap()].into();
        let unauthenticated_max = usize::MAX;
        let limits = AdmissionSettings {
            allow,
            proxy_from,
            connections_max,
            per_source_max,
            unauthenticated_max,
        };
        Admission::new(limits)
    }

    /// Somebody leaves who was never authorized.
    fn stranger(source: &str) -> Standing {
        Standing::Unauthenticated(Some(at(source)))
    }

    fn offer(door: &mut Admission<u32>, socket: u32, peer: &str) -> Result<(), RefusalReason> {
        let offered = Waiting { socket, listener: ListenerIndex(0), peer: at(peer) };
        door.offer(offered).map_err(|(_, reason)| reason)
    }

    #[test]
    fn limits_refuse_and_leaving_makes_room() {
        let mut door = door(3, 2);
        assert_eq!(offer(&mut door, 0, "8.8.8.8"), Err(RefusalReason::NotAllowed));
        for (socket, peer) in ["10.0.0.1", "::ffff:10.0.0.1", "10.0.0.1"].iter().enumerate() {
            offer(&mut door, socket as u32, peer).unwrap();
        }
        assert_eq!(door.next(0).unwrap().1, Ok(Beginning::Plain));
        assert_eq!(door.next(1).unwrap().1, Ok(Beginning::Plain));
        assert_eq!(door.next(2).unwrap().1, Err(RefusalReason::PerSource));
        door.left(stranger("10.0.0.1"));
        offer(&mut door, 4, "10.0.0.1").unwrap();
        assert_eq!(door.next(1).unwrap().1, Ok(Beginning::Plain));
        offer(&mut door, 5, "10.0.0.2").unwrap();
        assert_eq!(door.next(2).unwrap().1, Ok(Beginning::Plain));
        for source in ["10.0.0.1", "10.0.0.1", "10.0.0.2"] {
            door.authenticated(at(source));
        }
        offer(&mut door, 6, "10.0.0.2").unwrap();
        assert_eq!(door.next(3).unwrap().1, Err(RefusalReason::Connections), "all are miners");
        offer(&mut door, 7, "10.0.0.2").unwrap();
        door.search(true);
        assert!(door.next(3).is_none(), "some of them may be half-open");
        door.search(false);
        door.left(Standing::Authenticated);
        assert!(door.next(3).is_none(), "the place of who left is not free yet");
        assert_eq!(door.next(2).unwrap().1, Ok(Beginning::Plain));
        door.drain();
        assert_eq!(offer(&mut door, 6, "10.0.0.3"), Err(RefusalReason::Draining));
        assert!(door.next(0).is_none());
    }

    #[test]
    fn a_full_queue_stops_the_listener_and_an_empty_one_arms_it() {
        let mut door = door(usize::MAX, usize::MAX);
        let mut acts = Vec::new();
        door.steer(Tick(0), |_, act| acts.push(act));
        for socket in 0..SOCKETS_WAITING_MAX as u32 {
            offer(&mut door, socket, "10.0.0.1").unwrap();
        }
        door.steer(Tick(0), |_, act| acts.push(act));
        door.steer(Tick(0), |_, act| acts.push(act));
        door.ended(ListenerIndex(0), Tick(0), false);
        while door.next(0).is_some() {}
        door.steer(Tick(0), |_, act| acts.push(act));
        assert_eq!(acts, [Steer::Arm, Steer::Stop, Steer::Arm]);
    }

    #[test]
    fn a_whole_backlog_taken_at_once_is_kept_up_to_the_limit_of_connections() {
        let backlog = 4 * SOCKETS_WAITING_MAX as u32;
        let mut door = door(backlog as usize, usize::MAX);
        door.steer(Tick(0), |_, _| {});
        for socket in 0..backlog {
            offer(&mut door, socket, "10.0.0.1").unwrap();
        }
        let few = backlog + WAITING_FOR_ROOM_MAX as u32;
        for socket in backlog..few {
            offer(&mut door, socket, "10.0.0.1").unwrap();
        }
        assert_eq!(offer(&mut door, few, "10.0.0.1"), Err(RefusalReason::Connections));
        for open in 0..backlog as usize {
            assert_eq!(door.next(open).unwrap().1, Ok(Beginning::Plain));
        }
    }

    #[test]
    fn whoever_stands_before_miners_is_counted_under_the_sources_that_it_names() {
        let mut door = door(9, 2);
        for socket in 0..4 {
            offer(&mut door, socket, "10.9.0.1").unwrap();
            let verdict = door.next(socket as usize).unwrap().1;
            assert_eq!(verdict, Ok(Beginning::ProxyHeader), "more than one source may have");
        }
        let miner = at("203.0.113.7");
        assert_eq!(door.name_source(miner), Ok(()));
        assert_eq!(door.name_source(at("::ffff:203.0.113.7")), Ok(()));
        assert_eq!(door.name_source(miner), Err(RefusalReason::PerSource));
        door.left(Standing::Unauthenticated(Some(miner)));
        assert_eq!(door.name_source(miner), Ok(()));
        door.left(Standing::Unauthenticated(None));
        assert_eq!((door.open(), door.total.held()), (2, 2));
        assert_eq!(door.sources.len(), 1);
    }

    #[test]
    fn a_full_source_or_farm_leaves_nothing_behind() {
        let mut strict = door(9, 0);
        offer(&mut strict, 0, "10.0.0.1").unwrap();
        assert_eq!(strict.next(0).unwrap().1, Err(RefusalReason::PerSource));
        assert_eq!((strict.sources.len(), strict.unauthenticated()), (0, 0));
        let total = Arc::new(Total::default());
        total.held.store(9, Relaxed);
        let mut full = door(9, 9);
        full.share_total(total);
        offer(&mut full, 0, "10.0.0.1").unwrap();
        assert_eq!(full.next(0).unwrap().1, Err(RefusalReason::Connections));
        assert_eq!(full.unauthenticated(), 0);
        assert_eq!((full.sources.len(), full.open()), (0, 0));
    }

    #[test]
    fn without_work_every_socket_is_refused_and_the_listener_goes_on() {
        let mut door = door(9, 9);
        door.steer(Tick(0), |_, _| {});
        offer(&mut door, 0, "10.0.0.1").unwrap();
        door.set_work(false);
        assert_eq!(door.next(0).unwrap().1, Err(RefusalReason::NoWork));
        assert_eq!(offer(&mut door, 1, "10.0.0.1"), Err(RefusalReason::NoWork));
        door.steer(Tick(0), |_, act| panic!("{act:?}"));
        assert!(door.is_accepting());
        door.set_work(true);
        offer(&mut door, 2, "10.0.0.1").unwrap();
        assert_eq!(door.next(0).unwrap().1, Ok(Beginning::Plain));
    }

    #[test]
    fn a_listener_without_descriptors_waits_longer_each_time() {
        let mut door = door(9, 9);
        let mut now = Tick(0);
        let mut pauses = Vec::new();
        for _ in 0..9 {
            door.steer(now, |_, _| {});
            assert!(door.is_accepting());
            door.ended(ListenerIndex(0), now, true);
            let until = door.deadline().expect("it waits");
            pauses.push(until.since(now));
            now = until;
        }
        assert_eq!(pauses[..3], [10_000, 20_000, 40_000]);
        assert_eq!(*pauses.last().unwrap(), ACCEPT_PAUSE_US_MAX);
        offer(&mut door, 1, "10.0.0.1").unwrap();
        door.ended(ListenerIndex(0), now, true);
        assert_eq!(door.deadline().unwrap().since(now), ACCEPT_PAUSE_US_MIN);
    }

    #[test]
    fn the_limit_per_source_is_each_shards_own() {
        let total = Arc::new(Total::default());
        let mut doors = [door(9, 2), door(9, 2)];
        for door in &mut doors {
            door.share_total(total.clone());
            for socket in 0..3 {
                offer(door, socket, "10.0.0.1").unwrap();
            }
            let verdicts = [0, 1, 2].map(|open| door.next(open).unwrap().1.map(|_| ()));
            assert_eq!(verdicts, [Ok(()), Ok(()), Err(RefusalReason::PerSource)]);
        }
        assert_eq!(total.held(), 4, "as the sample file says: per source address and shard");
    }

    #[test]
    fn who_is_authorized_counts_for_the_limit_in_all_alone() {
        let mut door = door(9, 2);
        door.settings.unauthenticated_max = 3;
        for socket in 0..8 {
            let peer = if socket % 2 == 0 { "10.0.0.1" } else { "10.9.0.1" };
            offer(&mut door, socket, peer).unwrap();
        }
        for open in 0..3 {
            assert!(door.next(open).unwrap().1.is_ok());
        }
        assert!(door.next(3).is_none(), "three may begin at once");
        assert_eq!(door.lacking(), 5, "as many as wait");
        door.name_source(at("10.0.0.7")).unwrap();
        door.authenticated(at("10.0.0.7"));
        assert_eq!(door.lacking(), 4);
        door.authenticated(at("10.0.0.1"));
        door.authenticated(at("10.0.0.1"));
        assert_eq!((door.sources.len(), door.unauthenticated(), door.open()), (0, 0, 3));
        for open in 3..6 {
            assert!(door.next(open).unwrap().1.is_ok(), "of one source there may be any number");
        }
    }

    #[test]
    fn an_overloaded_shard_seats_nobody_and_its_listener_stops() {
        let mut door = door(9, 9);
        door.steer(Tick(0), |_, _| {});
        offer(&mut door, 0, "10.0.0.1").unwrap();
        door.hold(true);
        door.settings.unauthenticated_max = 0;
        assert_eq!(door.lacking(), 0, "nobody has to leave for somebody who is not seated");
        door.settings.unauthenticated_max = 9;
        assert!(door.next(0).is_none());
        let mut acts = Vec::new();
        door.steer(Tick(0), |_, act| acts.push(act));
        door.ended(ListenerIndex(0), Tick(0), false);
        door.steer(Tick(0), |_, act| acts.push(act));
        door.hold(false);
        door.steer(Tick(0), |_, act| acts.push(act));
        assert_eq!(acts, [Steer::Stop, Steer::Arm]);
        assert_eq!(door.next(0).unwrap().1, Ok(Beginning::Plain));
        // Whoever waits hears of a drain at once.
        offer(&mut door, 1, "10.0.0.1").unwrap();
        door.hold(true);
        door.drain();
        assert_eq!(door.next(1).unwrap().1, Err(RefusalReason::Draining));
    }

    #[test]
    fn shards_share_one_exact_limit() {
        let total = Arc::new(Total::default());
        let mut doors = [door(3, 9), door(3, 9)];
        for door in &mut doors {
            door.share_total(total.clone());
        }
        let [first, second] = &mut doors;
        for socket in 0..3 {
            offer(first, socket, "10.0.0.1").unwrap();
            offer(second, socket, "10.0.0.2").unwrap();
        }
        assert_eq!(first.next(0).unwrap().1, Ok(Beginning::Plain));
        assert_eq!(first.next(1).unwrap().1, Ok(Beginning::Plain));
        assert_eq!(second.next(0).unwrap().1, Ok(Beginning::Plain));
        assert!(second.next(1).is_none() && first.next(2).is_none(), "somebody may make room");
        assert_eq!((first.lacking(), second.lacking()), (1, 2));
        assert_eq!((first.open(), second.open(), total.held()), (2, 1, 3));
        second.authenticated(at("10.0.0.2"));
        assert_eq!(second.next(1).unwrap().1, Err(RefusalReason::Connections), "nobody here");
        first.left(stranger("10.0.0.1"));
        assert_eq!(
            second.next(1).unwrap().1,
            Ok(Beginning::Plain),
            "what one leaves another takes"
        );
        drop(doors);
        assert_eq!(total.held(), 0, "a shard that ends gives its places back");
    }
}
